"""`koboshi demo`: the whole loop on a small project, with a report at the end."""

import signal
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from koboshi_runtime.cli.context import echo_json, progress


@click.command()
@click.option("--pack", default="shop", show_default=True, metavar="NAME", help="The project: shop or arithmetic.")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("koboshi-demo"),
    show_default=True,
    help="Where the demo's own home and project go.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of tasks, runs and training.")
@click.option("--quick", is_flag=True, help="Walk every stage with a handful of tasks; proves nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def demo(pack: str, folder: Path, seed: int, quick: bool, as_json: bool) -> None:
    """Walk the whole loop on a small project, and report.

    It goes on where it stopped, and leaves your own home alone.

    Example: koboshi demo --dir ~/koboshi-demo
    """
    from rich.console import Console

    from ..demo.report import make_report
    from ..demo.report_text import print_report, write_report
    from ..demo.walk import demo_at, run_demo

    # asyncio would turn Ctrl-C into a request to its tasks, which waits for a whole training to end.
    signal.signal(signal.SIGINT, _interrupt)
    progress("Ctrl-C stops the demo; the same command goes on where it stopped.")
    place = demo_at(folder, pack=pack, seed=seed, quick=quick)
    report = make_report(place, run_demo(place))
    path = write_report(report, place.home)
    if as_json:
        echo_json(report.model_dump(mode="json"))
        return
    print_report(report, Console())
    progress(f"The report is in {path}.")


def _interrupt(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
