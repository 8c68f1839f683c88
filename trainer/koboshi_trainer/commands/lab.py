"""`koboshi lab`: experiments on how models learn, from a file to a table with intervals."""

import signal
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from koboshi_runtime.cli.context import echo_json, load_config_here, open_home, progress
from koboshi_tools import KoboshiError

from .lab_options import data_option, open_lab, results_of
from .lab_speed import speed
from .lab_tasks import tasks

if TYPE_CHECKING:
    from ..lab.report import LabReport

_FILE = click.Path(dir_okay=False, path_type=Path)
_FOLDER = click.Path(file_okay=False, path_type=Path)


@click.group()
def lab() -> None:
    """Compare ways of learning, with intervals.

    Example: koboshi lab run experiment.toml --data gsm8k=DIR
    """


lab.add_command(speed)
lab.add_command(tasks)


@lab.command()
@click.argument("file", type=_FILE)
@data_option
@click.option("--results", type=_FOLDER, default=None, help="Where results go; default beside FILE, by its name.")
@click.option("--work", type=_FOLDER, default=None, help="Where models and runs go; default in the home.")
@click.option("--plan", is_flag=True, help="Say what is missing and how long it may take, and do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def run(file: Path, data: dict[str, Path], results: Path | None, work: Path | None, plan: bool, as_json: bool) -> None:
    """Do what is missing of an experiment.

    Each result is a small file that can be committed as it comes. Interrupted, the same command goes on.

    Example: koboshi lab run experiment.toml --data gsm8k=DIR
    """
    from ..lab.screen import duration

    lab_here = open_lab(file, data, results, work)
    missing = lab_here.missing()
    if plan:
        steps = [{"step": step.title, "expected_s": round(step.expected_s)} for step in missing]
        if as_json:
            echo_json({"steps": steps, "expected_s": sum(step.expected_s for step in missing)})
            return
        click.echo("\n".join(f"{step.title}: {duration(step.expected_s)}" for step in missing) or "nothing is missing")
        return
    # asyncio would turn Ctrl-C into a request to its tasks, which waits for a whole fit to end.
    signal.signal(signal.SIGINT, _interrupt)
    _step_back()
    done = lab_here.run(open_home())
    if as_json:
        echo_json({"steps_done": done, "results": str(lab_here.results)})
        return
    progress(f"{done} steps done; read them with: koboshi lab report {file}")
    click.echo(lab_here.results)


@lab.command()
@click.argument("file", type=_FILE)
@click.option("--results", type=_FOLDER, default=None, help="Where results lie; default beside FILE, by its name.")
@click.option("--log", type=_FILE, default=None, help="Also write the experiment's entry into this lab log.")
@click.option("--plots/--no-plots", default=True, show_default=True, help="Draw the curves (needs the extra `lab`).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def report(file: Path, results: Path | None, log: Path | None, plots: bool, as_json: bool) -> None:
    """Write the table of an experiment, its plots, and its entry in the lab log.

    Works with the results that are there, and says which lack. It needs neither data nor models.

    Example: koboshi lab report experiment.toml --log docs/lab-log.md
    """
    from ..lab.file import read_experiment
    from ..lab.report import make_report
    from ..lab.report_text import page
    from ..lab.results import read_all

    folder = results or results_of(file)
    experiment = read_experiment(file)
    found = make_report(experiment, read_all(folder))
    if not found.tables:
        raise KoboshiError(f"there is no measurement in {folder}", hint=f"Make some with: koboshi lab run {file}")
    names = _write(found, folder, file, log, plots=plots)
    if as_json:
        echo_json(found.model_dump(mode="json"))
        return
    click.echo(page(found), nl=False)
    progress(f"written: {', '.join(names)}")


def _write(found: "LabReport", folder: Path, file: Path, log: Path | None, *, plots: bool) -> list[str]:
    import datetime

    from koboshi_runtime.files import replace_file

    from ..lab.report_text import log_entry, page, write_log

    names: list[str] = []
    if plots:
        from ..lab.plots import draw

        names = draw(found, folder)
    replace_file(folder / "report.md", page(found, names).encode())
    (folder / "report.md").chmod(0o644)
    names = [str(folder / name) for name in ("report.md", *names)]
    if log is not None:
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        write_log(log, found.name, log_entry(found, date=today, command=f"koboshi lab run {file.name}"))
        names.append(str(log))
    return names


def _step_back() -> None:
    """Leave the processors to whoever works at the machine."""
    import os

    import torch

    settings = load_config_here().settings.train
    os.nice(settings.nice)
    torch.set_num_threads(settings.threads)


def _interrupt(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
