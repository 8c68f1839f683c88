"""`koboshi policy`: the rules in force, and which of them decides a call."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from koboshi_policies import PURPOSES, Circumstances, Decision, Policy, check, matching, policy_layers
from koboshi_policies.examples import failed_examples
from koboshi_policies.reading import read_policy_file
from koboshi_tools import ToolCall, UsageError, canonical_json

from ..project import load_project
from ..strict_json import loads
from ..text import plain
from .context import echo_json, project_dir, table
from .policy_log import replay_command, shadow_command

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
    obeyed = {(rule.file, rule.line) for rule in found.rules}
    shadow = [] if found.shadow is None else [r for r in found.shadow.rules if (r.file, r.line) not in obeyed]
    tried = [rule.model_dump(mode="json") for rule in shadow]
    if as_json:
        echo_json({"hash": found.hash, "rules": rules, "shadow": tried})
        return
    for rule in tried:
        rule["text"]["verdict"] += " (shadow)"
    columns = ("layer", "rule", "tools", "verdict", "when", "place")
    table(columns, [[plain(cell) for cell in _row(rule)] for rule in rules + tried])
    click.echo(f"{len(rules)} rule{'s' if len(rules) != 1 else ''}, {found.hash}", err=True)


@policy.command("test")
@_FLAG_FILES
@_JSON
def test_command(files: tuple[Path, ...], as_json: bool) -> int:
    """Run the examples that the rules carry, and show each that fails.

    Example: koboshi policy test -C my-project
    """
    folder = project_dir()
    layers = policy_layers(load_project(folder).policies if folder else (), files)
    found = [
        rule
        for layer in layers
        for file in layer.files()
        for rule in read_policy_file(file, layer.name, examples=False).rules
    ]
    failed = [{"place": f"{rule.file}:{rule.line}", "said": said} for rule in found for said in failed_examples(rule)]
    examples = sum(len(rule.text.match) + len(rule.text.not_match) for rule in found)
    if as_json:
        echo_json({"rules": len(found), "examples": examples, "failed": failed})
    else:
        table(("place", "failed"), [(each["place"], each["said"]) for each in failed])
        click.echo(f"{examples} examples in {len(found)} rules, {len(failed)} failed", err=True)
    return int(bool(failed))


@policy.command("explain")
@click.argument("tool")
@click.argument("arguments_json", metavar="ARGS_JSON")
@click.option("--purpose", type=click.Choice(PURPOSES), default="work", show_default=True, help="What the run is for.")
@_FLAG_FILES
@_JSON
def explain_command(tool: str, arguments_json: str, purpose: str, files: tuple[Path, ...], as_json: bool) -> None:
    """Say what happens to a call, and which rule decides it; `-` reads the arguments from stdin.

    Example: koboshi policy explain sql '{"query": "select 1"}'
    """
    call, now = ToolCall(name=tool, arguments=_arguments(arguments_json)), Circumstances(purpose)
    found = policy_here(project_dir(), files)
    decision = check(call, found, now)
    shadow = None if found.shadow is None else check(call, found.shadow, now)
    others = matching(call, found, now)
    if as_json:
        beside = {"shadow": shadow and shadow.model_dump(mode="json")}
        echo_json(decision.model_dump(mode="json") | beside | {"matching": [o.model_dump(mode="json") for o in others]})
        return
    rows = _told(decision)
    rows += [("also applies", f"{other.verdict}: {_where(other)}") for other in others if other.rule != decision.rule]
    rows += [("in shadow", f"{shadow.verdict}: {_where(shadow)}")] if shadow else []
    table(("", plain(tool)), [(label, plain(said)) for label, said in rows if said])


def _told(decision: Decision) -> list[tuple[str, str]]:
    return [
        ("verdict", decision.verdict.value),
        ("rule", decision.rule or "none"),
        ("layer", decision.layer or ""),
        ("place", f"{decision.file}:{decision.line}" if decision.file else ""),
        ("reason", decision.reason),
        ("becomes", "" if decision.arguments is None else canonical_json(decision.arguments)),
    ]


def _where(decision: Decision) -> str:
    return f"{decision.rule} ({decision.file}:{decision.line})" if decision.file else decision.reason


def _row(rule: dict[str, Any]) -> tuple[str, ...]:
    text = rule["text"]
    when = [f"{argument}~{pattern}" for argument, pattern in text["arguments"].items()]
    for argument, condition in text["where"].items():
        when += [
            f"{argument} {kind} {canonical_json(said)}" for kind, said in condition.items() if said not in (None, [])
        ]
    when += [f"for {' '.join(text['purposes'])}"] if text["purposes"] else []
    when += [f"{key} {text[key]}" for key in ("calls_per_run", "calls_per_minute", "calls_per_hour") if text[key]]
    return (rule["layer"], rule["name"], " ".join(text["tools"]), text["verdict"], ", ".join(when), _place(rule))


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


policy.add_command(replay_command)
policy.add_command(shadow_command)
