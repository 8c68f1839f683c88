"""`koboshi policy`: the rules in force, and which of them decides a call."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from koboshi_policies import Policy, check, policy_layers
from koboshi_tools import ToolCall, UsageError

from ..project import load_project
from ..strict_json import loads
from ..text import plain
from .context import echo_json, project_dir, table

_FLAG_FILES = click.option(
    "--policy",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A further policy file or folder; may be repeated.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def policy_here(folder: Path | None, files: Sequence[Path] = ()) -> Policy:
    """Return the policy in force in a project's folder, or without one. Raises UsageError with file and line."""
    project = load_project(folder).policies if folder else ()
    return Policy.load(policy_layers(project, files))


@click.group(invoke_without_command=True)
@click.pass_context
def policy(context: click.Context) -> None:
    """Look at the rules about tools.

    Example: koboshi policy explain calculator '{"expression": "1 + 1"}'
    """
    if context.invoked_subcommand is None:
        context.invoke(check_command)


@policy.command("check")
@_FLAG_FILES
@_JSON
def check_command(files: tuple[Path, ...] = (), as_json: bool = False) -> None:
    """Read every layer and list its rules, or say what is wrong with them.

    Example: koboshi policy check -C my-project
    """
    found = policy_here(project_dir(), files)
    rules = [rule.model_dump(mode="json") for rule in found.rules]
    if as_json:
        echo_json({"hash": found.hash, "rules": rules})
        return
    columns = ("layer", "rule", "tools", "verdict", "arguments", "place")
    table(columns, [[plain(cell) for cell in _row(rule)] for rule in rules])
    click.echo(f"{len(rules)} rule{'s' if len(rules) != 1 else ''}, {found.hash}", err=True)


@policy.command("explain")
@click.argument("tool")
@click.argument("arguments_json", metavar="ARGS_JSON")
@_FLAG_FILES
@_JSON
def explain_command(tool: str, arguments_json: str, files: tuple[Path, ...], as_json: bool) -> None:
    """Say what happens to a call, and which rule decides it; `-` reads the arguments from stdin.

    Example: koboshi policy explain sql '{"query": "select 1"}'
    """
    call = ToolCall(name=tool, arguments=_arguments(arguments_json))
    decision = check(call, policy_here(project_dir(), files))
    if as_json:
        echo_json(decision.model_dump(mode="json"))
        return
    place = f"{decision.file}:{decision.line}" if decision.file else ""
    rows = [
        ("verdict", decision.verdict.value),
        ("rule", decision.rule or "none"),
        ("layer", decision.layer or ""),
        ("place", place),
        ("reason", decision.reason),
    ]
    table(("", plain(tool)), [(label, plain(said)) for label, said in rows if said])


def _row(rule: dict[str, Any]) -> tuple[str, ...]:
    text = rule["text"]
    patterns = " ".join(f"{argument}~{pattern}" for argument, pattern in text["arguments"].items())
    return (rule["layer"], rule["name"], " ".join(text["tools"]), text["verdict"], patterns, _place(rule))


def _place(rule: dict[str, Any]) -> str:
    return f"{rule['file']}:{rule['line']}"


def _arguments(text: str) -> dict[str, Any]:
    try:
        value = loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise UsageError(f"the arguments are {error}", hint='Write a JSON object: \'{"query": "select 1"}\'') from error
    if not isinstance(value, dict):
        raise UsageError(
            f"the arguments are {type(value).__name__}, not an object", hint="Write a JSON object: '{\"n\": 1}'"
        )
    return value
