"""`koboshi tui`: the runs, models and nights of the home on one screen, and what waits for a person."""

import sys

import click

from .context import open_home, project_dir


@click.command()
@click.option("--light", is_flag=True, help="Begin with the light theme; T changes it.")
def tui(light: bool) -> None:
    """Look at runs, label them, answer questions, all in the terminal.

    Example: koboshi tui
    """
    from koboshi_tools import UsageError

    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError("koboshi tui needs a terminal", hint="In a pipe, use `koboshi traces list` and its siblings.")
    from ..store import Store
    from ..tui.app import KoboshiApp
    from ..tui.look import Look

    home = open_home()
    store = Store.open(home.traces)
    try:
        KoboshiApp(Look(home, store, project_dir()), light=light).run()
    finally:
        store.close()
