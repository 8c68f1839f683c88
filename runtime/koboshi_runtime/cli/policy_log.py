"""`koboshi policy replay` and `koboshi policy shadow`: what other rules would have done with the logged calls."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from koboshi_policies import Decision, Policy, policy_layers, policy_verdict, replay
from koboshi_tools import ToolCall, canonical_json

from ..ids import SHORT_ID
from ..project import load_project
from ..text import plain
from .context import echo_json, open_home, project_dir, table

_SINCE = click.option("--since", help="Only calls from this time on, ISO 8601 in UTC.")
_LIMIT = click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Calls shown.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object, every difference in it.")
_SHOWN = 60
_COLUMNS = ("run", "step", "call", "before", "after", "rule", "place")


@click.command("replay")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--policy", "added", multiple=True, type=click.Path(path_type=Path), help="A further file; may repeat.")
@_SINCE
@_LIMIT
@_JSON
def replay_command(
    files: tuple[Path, ...], added: tuple[Path, ...], since: str | None, limit: int, as_json: bool
) -> None:
    """Decide every logged call again by the rules of now, and show what would differ.

    FILES take the place of the project's own rules, so that a changed policy can be tried before it is obeyed.

    Example: koboshi policy replay policies-new/
    """
    from ..store import Store
    from ..store.calls import logged_calls

    folder = project_dir()
    own = files or (load_project(folder).policies if folder else ())
    tried = Policy.load(policy_layers(own, added))
    calls = list(logged_calls(Store.open(open_home().traces), since))
    found = list(replay(calls, tried))
    if as_json:
        differences = [difference.model_dump(mode="json") for difference in found]
        echo_json({"policy": tried.hash, "calls": len(calls), "differences": differences})
        return
    rows = [_cells(each.run_id, each.step_index, each.call, each.before, each.after) for each in found]
    _print(rows, limit)
    click.echo(f"{len(calls)} calls, {len(found)} decided otherwise{_summary(rows)}", err=True)


@click.command("shadow")
@_SINCE
@_LIMIT
@_JSON
def shadow_command(since: str | None, limit: int, as_json: bool) -> None:
    """Show what rules in shadow mode would have decided otherwise.

    Example: koboshi policy shadow --since 2026-01-01
    """
    from ..store import Store
    from ..store.calls import shadowed_calls

    calls = shadowed_calls(Store.open(open_home().traces), since)
    held = [(call, policy_verdict(call.held), call.held.arguments) for call in calls]
    found = [call for call, verdict, made in held if (verdict, made) != (call.shadow.verdict, call.shadow.arguments)]
    if as_json:
        echo_json({"calls": len(calls), "differences": [call.model_dump(mode="json") for call in found]})
        return
    rows = [_cells(each.run_id, each.step_index, each.call, each.held, each.shadow) for each in found]
    _print(rows, limit)
    click.echo(f"{len(calls)} calls beside shadow rules, {len(found)} decided otherwise{_summary(rows)}", err=True)


def _cells(run_id: str, step: int, call: ToolCall, before: Decision, after: Decision) -> tuple[str, ...]:
    place = f"{after.file}:{after.line}" if after.file else ""
    shown = plain(f"{call.name} {canonical_json(call.arguments)}", width=_SHOWN)
    verdicts = (policy_verdict(before).value, after.verdict.value)
    return (run_id[:SHORT_ID], str(step), shown, *verdicts, after.rule or after.reason, place)


def _print(rows: Sequence[tuple[str, ...]], limit: int) -> None:
    table(_COLUMNS, rows[-limit:])


def _summary(rows: Iterable[tuple[str, ...]]) -> str:
    counts = Counter((row[3], row[4]) for row in rows)
    said = ", ".join(f"{before} → {after} {count}" for (before, after), count in sorted(counts.items()))
    return f": {said}" if said else ""
