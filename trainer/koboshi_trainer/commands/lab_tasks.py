"""`koboshi lab tasks`: task files for experiments, made by generators."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from koboshi_runtime.cli.context import echo_json, progress

if TYPE_CHECKING:
    from koboshi_runtime.tasks import Task

_OUT = click.Path(file_okay=False, path_type=Path)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def tasks() -> None:
    """Make task files for experiments.

    Example: koboshi lab tasks canaries --out tasks/
    """


@tasks.command()
@click.option("--out", type=_OUT, required=True, help="The folder that the files go into.")
@click.option("--wheel", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A wheel that is here.")
@_JSON
def bfcl(out: Path, wheel: Path | None, as_json: bool) -> None:
    """Make function-calling tasks from the package bfcl-eval, split by function name.

    The split is our own: a figure on it is no score of the Berkeley leaderboard.

    Example: koboshi lab tasks bfcl --out bfcl/
    """
    from ..bfcl import PACKAGE, fetch_tasks, read_wheel, split_tasks

    if wheel is None:
        progress(f"getting {PACKAGE}")
    found = split_tasks(read_wheel(wheel)) if wheel else fetch_tasks()
    _write(found, out, as_json=as_json)


@tasks.command()
@click.option("--out", type=_OUT, required=True, help="The folder that the files go into.")
@click.option("--seed", type=int, default=0, show_default=True, help="Draws the order.")
@_JSON
def canaries(out: Path, seed: int, as_json: bool) -> None:
    """Make tasks that training must not make worse: those that need no call, or have no fitting tool.

    Example: koboshi lab tasks canaries --out canaries/
    """
    from ..canaries import KINDS
    from ..canaries import canaries as make

    _write({kind: make(kind, seed) for kind in KINDS}, out, as_json=as_json)


@tasks.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=_OUT, required=True, help="The folder that the files go into.")
@click.option("--steps", multiple=True, type=click.IntRange(1), default=(1, 2), show_default=True, help="Annotations.")
@_JSON
def gsm8k(file: Path, out: Path, steps: tuple[int, ...], as_json: bool) -> None:
    """Make tasks of word problems with `<<expression=result>>` annotations.

    Example: koboshi lab tasks gsm8k test.jsonl --steps 1 --steps 2 --out gsm8k/
    """
    from ..gsm8k import read_problems

    _write({file.stem: read_problems(file, steps)}, out, as_json=as_json)


def _write(found: "Mapping[str, Sequence[Task]]", out: Path, *, as_json: bool) -> None:
    from koboshi_runtime.templates_init import write_tasks

    out.mkdir(parents=True, exist_ok=True)
    counts = {}
    for name, some in found.items():
        path = out / f"{name}.jsonl"
        write_tasks(path, some)
        counts[str(path)] = len(some)
    if as_json:
        echo_json(counts)
        return
    for path_text, count in counts.items():
        click.echo(f"{path_text}\t{count} tasks")
