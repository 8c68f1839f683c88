"""`koboshi tui`: the runs, models and nights of the home on one screen, and what waits for a person."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .context import open_home, project_dir

if TYPE_CHECKING:
    from ..home import Home


@click.command()
@click.option("--sample", is_flag=True, help="Look at a made-up home of three nights; needs no model, changes nothing.")
@click.option("--light", is_flag=True, help="Begin with the light theme; T changes it.")
def tui(sample: bool, light: bool) -> None:
    """Look at runs, label them, answer questions, all in the terminal.

    Example: koboshi tui --sample
    """
    from koboshi_tools import UsageError

    # Textual draws on standard error.
    if not all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
        raise UsageError("koboshi tui needs a terminal", hint="In a pipe, use `koboshi traces list` and its siblings.")
    if sample:
        from ..tui.sample import sample_home

        with sample_home() as home:
            _show(home, None, sample=True, light=light)
    else:
        _show(open_home(), project_dir(), sample=False, light=light)


def _show(home: "Home", project: Path | None, *, sample: bool, light: bool) -> None:
    from ..store import Store
    from ..tui.app import KoboshiApp
    from ..tui.look import Look

    store = Store.open(home.traces)
    try:
        KoboshiApp(Look(home, store, project, sample=sample), light=light).run()
    finally:
        store.close()
