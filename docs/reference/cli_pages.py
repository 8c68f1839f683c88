"""The text of `cli.md`: every command's help, as a terminal of 100 columns shows it. Run by cog; see `make docs`."""

from collections.abc import Iterator

import click

from koboshi_runtime.cli import main, verbs

_COLUMNS = 100


def pages() -> Iterator[str]:
    """Yield the lines of the page, commands in the order of `koboshi --help`."""
    context = click.Context(main, info_name="koboshi", max_content_width=_COLUMNS, terminal_width=_COLUMNS)
    for name in main.list_commands(context):
        if name not in verbs.VERBS and not verbs.plugged()[name].value.startswith("koboshi_"):
            continue
        command = main.get_command(context, name)
        assert command is not None
        yield from _of(command, name, context, level=2)


def _of(command: click.Command, name: str, parent: click.Context, *, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent, max_content_width=_COLUMNS, terminal_width=_COLUMNS)
    yield f"{'#' * level} {context.command_path}\n"
    yield f"```\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for child in command.list_commands(context):
            yield from _of(command.commands[child], child, context, level=3)
