"""`koboshi tools accept`: see what the MCP servers of a project offer now, and pin it."""

from typing import NamedTuple

import click

from koboshi_tools import RefusedError, UsageError
from koboshi_tools.mcp import FILE_NAME, LOCK_FILE, Listed, McpServer, load_servers, read_pins, write_pins
from koboshi_tools.mcp.definitions import MAX_DESCRIPTION, Definition, clean, effect_of

from ..opening import open_hub
from ..project import load_project
from ..trust import kept_trusted, require_trust
from .context import echo_json, open_home, progress, project_dir, table
from .terminal import attended
from .trust import ask_for_trust


class _Row(NamedTuple):
    """How one tool of a server stands to what was accepted."""

    sign: str
    server: str
    tool: str
    effect: str
    description: str


@click.command("accept")
@click.argument("names", nargs=-1, metavar="[SERVER]...")
@click.option("--yes", is_flag=True, help="Accept without being asked.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def accept_command(names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Show what MCP servers offer, and pin it: only what is pinned is offered to a model.

    Example: koboshi tools accept files
    """
    folder = project_dir()
    if folder is None:
        raise UsageError("there is no project here, and MCP servers belong to one", hint="Name it with -C DIR.")
    home, project = open_home(), load_project(folder)
    ask_for_trust(home, folder)
    require_trust(home, project)
    lock, known = project.root / LOCK_FILE, load_servers(project.root / FILE_NAME)
    chosen, pins = _chosen(known, names), read_pins(lock)
    if not known and not pins:
        raise UsageError(f"{project.root} names no MCP servers", hint=f"Name them in {FILE_NAME} beside koboshi.toml.")
    hub = open_hub(home, project, chosen)
    try:
        offered = {server.name: hub.listed(server.name) for server in chosen}
    finally:
        hub.close()
    rows = [row for server in chosen for row in _rows(server, pins.get(server.name), offered[server.name])]
    _show(rows, offered, as_json=as_json)
    gone = set(pins) - {server.name for server in known} if not names else set()
    if all(row.sign == "same" for row in rows) and not gone:
        progress("Everything is as it was accepted.")
        return
    if not yes and not (attended() and click.confirm("Accept this?", err=True)):
        raise RefusedError("nothing was accepted", hint="Read it, then: koboshi tools accept --yes")
    with kept_trusted(home, project):
        write_pins(lock, {name: kept for name, kept in pins.items() if name not in gone} | offered)
    progress(f"Pinned in {lock}. [agent] tools and a rule must still name them: mcp__SERVER__TOOL.")


def _chosen(known: tuple[McpServer, ...], names: tuple[str, ...]) -> list[McpServer]:
    by_name = {server.name: server for server in known}
    if unknown := [name for name in names if name not in by_name]:
        there = f"There are: {', '.join(by_name)}." if by_name else f"{FILE_NAME} names none."
        raise UsageError(f"there is no MCP server {unknown[0]!r}", hint=there)
    return [by_name[name] for name in names] if names else list(known)


def _rows(server: McpServer, pinned: Listed | None, now: Listed) -> list[_Row]:
    before = {definition.name: definition for definition in pinned.definitions} if pinned else {}
    rows = []
    for definition in now.definitions:
        old = before.pop(definition.name, None)
        sign = "new" if old is None else "same" if old.digest == definition.digest else "changed"
        rows.append(_row(sign, server, definition))
    return [*rows, *(_row("gone", server, definition) for definition in before.values())]


def _row(sign: str, server: McpServer, definition: Definition) -> _Row:
    described = clean(definition.description, MAX_DESCRIPTION)
    return _Row(sign, server.name, definition.name, effect_of(server, definition).value, described)


def _show(rows: list[_Row], offered: dict[str, Listed], *, as_json: bool) -> None:
    if as_json:
        left_out = {name: found.left_out for name, found in offered.items()}
        echo_json({"tools": [row._asdict() for row in rows], "left_out": left_out})
        return
    table(("", *_Row._fields[1:]), rows)
    for name, found in offered.items():
        for reason in found.left_out:
            progress(f"{name}: left out {reason}")
