"""`koboshi tools accept`: see what a project's tools and its MCP servers are now, and pin it."""

from typing import NamedTuple

import click

from koboshi_tools import RefusedError, UsageError
from koboshi_tools.lock import write_lock
from koboshi_tools.mcp import FILE_NAME, LOCK_FILE, Listed, McpServer, load_servers, read_pins, write_pins
from koboshi_tools.mcp.definitions import MAX_DESCRIPTION, Definition, clean, effect_of

from ..opening import open_hub
from ..project import load_project
from ..trust import kept_trusted, require_trust
from .context import echo_json, open_home, progress, project_dir, table
from .terminal import attended
from .tools_pins import OwnTools, Row
from .trust import ask_for_trust


@click.command("accept")
@click.argument("names", nargs=-1, metavar="[TOOL|SERVER]...")
@click.option("--yes", is_flag=True, help="Accept without being asked.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def accept_command(names: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Show how tools, and what MCP servers offer, stand to the lock, and pin them as they are.

    Example: koboshi tools accept opening_hours
    """
    folder = project_dir()
    if folder is None:
        raise UsageError("there is no project here, and what is accepted belongs to one", hint="Name it with -C DIR.")
    home, project = open_home(), load_project(folder)
    ask_for_trust(home, folder)
    require_trust(home, project)
    lock, known = project.root / LOCK_FILE, load_servers(project.root / FILE_NAME)
    own, pins = OwnTools.of(project), read_pins(lock)
    chosen, tools = _chosen(known, own, names)
    if not (known or pins or own.names):
        hint = f"Put one in tools/, or name a server in {FILE_NAME} beside koboshi.toml."
        raise UsageError(f"{project.root} has no tools of its own and names no MCP servers", hint=hint)
    hub = open_hub(home, project, chosen)
    try:
        offered = {server.name: hub.listed(server.name) for server in chosen}
    finally:
        hub.close()
    rows = own.rows(tools)
    rows += [row for server in chosen for row in _rows(server, pins.get(server.name), offered[server.name])]
    _show(rows, offered, as_json=as_json)
    gone = set(pins) - {server.name for server in known} if not names else set()
    if all(row.sign == "same" for row in rows) and not gone:
        progress("Everything is as it was accepted.")
        return
    if not yes and not (attended() and click.confirm("Accept this?", err=True)):
        raise RefusedError("nothing was accepted", hint="Read it, then: koboshi tools accept --yes")
    with kept_trusted(home, project):
        if tools:
            write_lock(project.root, own.accepted(tools))
        if chosen or gone:
            write_pins(lock, {name: kept for name, kept in pins.items() if name not in gone} | offered)
    progress(f"Pinned in {lock}. [agent] tools and a rule must still name them; a server's are mcp__SERVER__TOOL.")


class _Chosen(NamedTuple):
    servers: list[McpServer]
    tools: set[str]


def _chosen(known: tuple[McpServer, ...], own: OwnTools, names: tuple[str, ...]) -> _Chosen:
    """Return which servers and tools are meant: all of both where none is named. A tool goes before a server."""
    by_name = {server.name: server for server in known}
    if unknown := [name for name in names if name not in by_name and name not in own.names]:
        there = sorted({*by_name, *own.names})
        hint = f"There are: {', '.join(there)}." if there else f"tools/ holds none, and {FILE_NAME} names no server."
        raise UsageError(f"there is no tool or MCP server {unknown[0]!r} that could be accepted", hint=hint)
    if not names:
        return _Chosen(list(known), own.names)
    tools = {name for name in names if name in own.names}
    return _Chosen([by_name[name] for name in names if name not in tools], tools)


def _rows(server: McpServer, pinned: Listed | None, now: Listed) -> list[Row]:
    before = {definition.name: definition for definition in pinned.definitions} if pinned else {}
    rows = []
    for definition in now.definitions:
        old = before.pop(definition.name, None)
        sign = "new" if old is None else "same" if old.digest == definition.digest else "changed"
        rows.append(_row(sign, server, definition))
    return [*rows, *(_row("gone", server, definition) for definition in before.values())]


def _row(sign: str, server: McpServer, definition: Definition) -> Row:
    described = clean(definition.description, MAX_DESCRIPTION)
    return Row(sign, server.name, definition.name, effect_of(server, definition).value, described)


def _show(rows: list[Row], offered: dict[str, Listed], *, as_json: bool) -> None:
    if as_json:
        left_out = {name: found.left_out for name, found in offered.items()}
        echo_json({"tools": [row._asdict() for row in rows], "left_out": left_out})
        return
    table(("", *Row._fields[1:]), rows)
    for name, found in offered.items():
        for reason in found.left_out:
            progress(f"{name}: left out {reason}")
