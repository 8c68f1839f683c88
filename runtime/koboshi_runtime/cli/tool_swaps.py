"""`koboshi tools swap` and `koboshi tools rollback`: versions of a tool side by side, and which of them is live."""

import click

from koboshi_policies.versions import SHARE, Stage, Swap
from koboshi_tools import ToolResult, ToolVerdict, Transport, UsageError, canonical_json

from ..ids import SHORT_ID
from ..opening import open_contributions
from ..project import Project, load_project
from ..store.swaps import BesideCall
from ..text import plain
from ..tool_swaps import SwapView, advance, begin_swap, calls_beside, roll_back, swap_views
from .context import echo_json, open_home, progress, project_dir, table
from .trust import ask_for_trust

_SHOWN = 60
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_COLUMNS = ("tool", "old", "new", "stage", "share", "runs before", "runs after", "same in shadow", "since", "why")


@click.command("swap")
@click.argument("tool", required=False)
@click.argument("version", required=False)
@click.option(
    "--share", type=click.FloatRange(0, 0.5, min_open=True), default=SHARE, show_default=True, help="Of runs."
)
@click.option(
    "--stage",
    type=click.Choice([Stage.SHADOW.value, Stage.CANARY.value, Stage.ACTIVE.value]),
    help="Where it begins or moves to by hand; default shadow for a tool that only reads, else canary.",
)
@click.option("--calls", is_flag=True, help="Show the calls of TOOL that were also made in shadow.")
@_JSON
def swap_command(
    tool: str | None, version: str | None, share: float, stage: str | None, calls: bool, as_json: bool
) -> None:
    """Put a version of a tool beside the live one, or show where each stands and what was measured.

    Example: koboshi tools swap lookup 2
    """
    from ..store import Store

    project = _project()
    store = Store.open(open_home().traces)
    if tool is None:
        advance(store, project.name)
        _show(swap_views(store, project.name), as_json=as_json)
        return
    if calls:
        _show_calls(calls_beside(store, project.name, tool), as_json=as_json)
        return
    if version is None:
        raise UsageError(f"which version of {tool!r}?", hint=f"For example: koboshi tools swap {tool} 2")
    home = open_home()
    ask_for_trust(home, project.root)
    opened = open_contributions(home, project)
    wanted = Stage(stage) if stage else None
    begun = begin_swap(
        store, project.name, opened.tools, opened.versions, tool=tool, version=version, share=share, stage=wanted
    )
    _say(begun, as_json=as_json)


@click.command("rollback")
@click.argument("tool")
@_JSON
def rollback_command(tool: str, as_json: bool) -> None:
    """Take the newer version of a tool out; new runs are given the one before it.

    Example: koboshi tools rollback lookup
    """
    from ..store import Store

    _say(roll_back(Store.open(open_home().traces), _project().name, tool), as_json=as_json)


def _project() -> Project:
    folder = project_dir()
    if folder is None:
        raise UsageError("there is no project here, and only a project has versions of tools", hint="Name it with -C.")
    return load_project(folder)


def _say(swap: Swap, *, as_json: bool) -> None:
    if as_json:
        echo_json(swap.model_dump(mode="json"))
        return
    click.echo(f"{swap.tool}: version {swap.new.version} is {swap.stage}, beside version {swap.old.version}")


def _show(views: list[SwapView], *, as_json: bool) -> None:
    if as_json:
        echo_json([_described(view) for view in views])
        return
    rows = []
    for view in views:
        swap, measured, compared = view.stored.swap, view.measured, view.compared
        runs = [f"{tally.successes}/{tally.total}" for tally in (measured.old_runs, measured.new_runs)]
        same = f"{compared.same}/{compared.total}"
        where = (swap.tool, swap.old.version, swap.new.version, swap.stage.value, f"{swap.share:g}")
        rows.append((*where, *runs, same, view.stored.moved_at[:19].replace("T", " "), view.stored.reason))
    table(_COLUMNS, rows)


def _show_calls(found: list[BesideCall], *, as_json: bool) -> None:
    if as_json:
        said = [{side: getattr(call, side).model_dump(mode="json") for side in ("old", "new")} for call in found]
        echo_json([call._asdict() | results for call, results in zip(found, said, strict=True)])
        return
    rows = [
        (call.run_id[:SHORT_ID], str(call.step_index), canonical_json(call.arguments), _said(call.old), _said(call.new))
        for call in found
        if not call.same
    ]
    table(("run", "step", "arguments", "old", "new"), rows)
    progress(f"{len(found)} calls were made on both, and {len(rows)} of them differ")


def _said(result: ToolResult) -> str:
    shown = plain(" ".join(result.output.split()), width=_SHOWN)
    clean = result.transport is Transport.OK and result.verdict is not ToolVerdict.ERROR
    return shown if clean else f"{result.verdict or result.transport}: {shown}"


def _described(view: SwapView) -> dict[str, object]:
    stored = view.stored
    return {
        **stored.swap.model_dump(mode="json"),
        "measured": view.measured.model_dump(mode="json"),
        "shadow_calls": {"total": view.compared.total, "same": view.compared.same},
        "reason": stored.reason,
        "who": stored.who,
        "began_at": stored.began_at,
        "moved_at": stored.moved_at,
    }
