"""Versions of a project's tools side by side: which one a run is given, how a person and measured success move them.

`tools/NAME.py` is the tool; further versions of it lie in folders below `tools/versions/`, under the same name and with
another `version`. Which of them is live stands in the home, out of every tool's reach. A swap holds for the files that
it was begun with: who edits `tools/NAME.py` has made a new tool, and every run is given that one.
"""

import getpass
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from koboshi_policies.versions import Measured, Stage, Swap, SwapWish, ToolVersion, moved, next_move, serving
from koboshi_tools import EffectClass, Tool, UsageError, load_tools_folder

from .ids import utc_now
from .store import Store, StoreRuleError
from .store.swaps import (
    BesideCall,
    Compared,
    StoredSwap,
    put_swap,
    read_beside,
    read_compared,
    read_measured,
    read_swaps,
    read_wished,
)

VERSIONS_FOLDER = "versions"

Versions = Mapping[str, tuple[Tool, ...]]
"""By the tool's name, its versions beside the one that lies in `tools/` itself."""

_MEASURED, _POLICY = "measured", "policy"


@dataclass(frozen=True, slots=True)
class GivenTools:
    """What one run is given: its tools, the digest of each that was ever swapped, and the versions in shadow."""

    tools: Mapping[str, Tool]
    versions: Mapping[str, str] = field(default_factory=dict)
    shadows: Mapping[str, Tool] = field(default_factory=dict)


class SwapView(NamedTuple):
    """A swap as a person looks at it."""

    stored: StoredSwap
    measured: Measured
    compared: Compared


def load_versions(tools_folder: Path, tools: Mapping[str, Tool]) -> Versions:
    """Return the versions below `tools/versions/`. Raises UsageError for one that cannot stand beside its tool."""
    found: dict[str, list[Tool]] = {}
    folder = tools_folder / VERSIONS_FOLDER
    for place in sorted(folder.iterdir()) if folder.is_dir() else ():
        for name, version in load_tools_folder(place).items():
            _refuse_stranger(place, version, [*found.get(name, []), *([tools[name]] if name in tools else [])])
            found.setdefault(name, []).append(version)
    return {name: tuple(versions) for name, versions in found.items()}


def _refuse_stranger(place: Path, version: Tool, others: list[Tool]) -> None:
    name = version.spec.name
    if not others:
        raise UsageError(f"{place} holds a version of {name!r}, and tools/ holds no {name!r}", hint="Put one there.")
    for other in others:
        if version.version == other.version:
            raise UsageError(
                f"{place}: {name!r} has the version {version.version!r}, which another one has",
                hint='Give it a version of its own: @tool(version="2").',
            )
        if version.effect is not other.effect:
            raise UsageError(
                f"{place}: {name!r} has the effect {version.effect}, and its other version {other.effect}",
                hint="What does something else needs a name and rules of its own.",
            )


def given_tools(
    store: Store, project: str, tools: Mapping[str, Tool], versions: Versions, *, run_id: str, work: bool
) -> GivenTools:
    """Return what a new run is given. Raises UsageError where the active version of a tool is not there."""
    if not versions:
        return GivenTools(tools)
    chosen: dict[str, Tool] = {}
    shadows: dict[str, Tool] = {}
    for stored in stored_swaps(store, project):
        swap = stored.swap
        if not holds(swap, tools):
            continue
        chosen[swap.tool] = _version(swap, serving(swap, run_id, work=work), tools, versions)
        if swap.stage is Stage.SHADOW and work:
            shadows[swap.tool] = _version(swap, swap.new, tools, versions)
    digests = {name: tool.digest for name, tool in chosen.items()}
    return GivenTools({**tools, **chosen}, digests, shadows)


def live_tools(store: Store, project: str, tools: Mapping[str, Tool], versions: Versions) -> Mapping[str, Tool]:
    """Return the tools by their active versions, for who is no run. Raises UsageError where one is not there."""
    return given_tools(store, project, tools, versions, run_id="", work=False).tools


def same_tools(given: Mapping[str, str], tools: Mapping[str, Tool], versions: Versions) -> GivenTools:
    """Return what a run was given before, by the digests that it recorded. Raises UsageError if one is gone."""
    chosen: dict[str, Tool] = {}
    for name, digest in given.items():
        candidates = [*([tools[name]] if name in tools else []), *versions.get(name, ())]
        found = next((tool for tool in candidates if tool.digest == digest), None)
        if found is None:
            raise UsageError(f"the version of {name!r} that the run was given, {digest[:19]}, is no longer here")
        chosen[name] = found
    return GivenTools({**tools, **chosen}, given)


def stored_swaps(store: Store, project: str) -> list[StoredSwap]:
    """Return where the tools of a project stand that were ever swapped."""
    with store.reading() as db:
        return read_swaps(db, project)


def swap_views(store: Store, project: str) -> list[SwapView]:
    """Return the swaps of a project with what was measured of each."""
    with store.reading() as db:
        return [
            SwapView(stored, read_measured(db, project, stored), read_compared(db, project, stored))
            for stored in read_swaps(db, project)
        ]


def holds(swap: Swap, tools: Mapping[str, Tool]) -> bool:
    """Return whether `tools/` still holds a file that the swap knows."""
    base = tools.get(swap.tool)
    return base is not None and base.digest in (swap.base, swap.old.digest, swap.new.digest)


def begin_swap(
    store: Store,
    project: str,
    tools: Mapping[str, Tool],
    versions: Versions,
    *,
    tool: str,
    version: str,
    share: float,
    stage: Stage | None = None,
    who: str | None = None,
) -> Swap:
    """Put a version beside the live one, or move it on; by default it begins in shadow if the tool only reads.

    Raises UsageError for an unknown tool or version, one that is live, or where another version is under way.
    """
    if tool not in tools:
        raise UsageError(f"there is no tool {tool!r}", hint="`koboshi tools list` shows what there is.")
    last = next((stored for stored in stored_swaps(store, project) if stored.swap.tool == tool), None)
    last = last if last is not None and holds(last.swap, tools) else None
    if last is not None and last.swap.stage in (Stage.SHADOW, Stage.CANARY):
        return _move_on(store, project, last, version, stage, share)
    live = tools[tool] if last is None else _version(last.swap, serving(last.swap, "", work=False), tools, versions)
    new = next((each for each in (tools[tool], *versions.get(tool, ())) if each.version == version), None)
    if new is None or new.digest == live.digest:
        there = ", ".join(sorted(each.version for each in (tools[tool], *versions.get(tool, ())) if each is not live))
        said = f"there is no version {version!r} of {tool!r}" if new is None else f"{version!r} is live already"
        raise UsageError(said, hint=f"There are: {there}." if there else f"Put it below tools/{VERSIONS_FOLDER}/.")
    begun = Swap(
        tool=tool,
        base=tools[tool].digest,
        old=ToolVersion(version=live.version, digest=live.digest),
        new=ToolVersion(version=new.version, digest=new.digest),
        stage=_first_stage(new, stage),
        share=share,
    )
    _put(store, project, begun, None, reason="begun", who=who or getpass.getuser())
    return begun


def follow_policy(
    store: Store, project: str, tools: Mapping[str, Tool], versions: Versions, wishes: Sequence[SwapWish]
) -> None:
    """Begin what the policy swaps in, and retire what it began and no longer swaps in, unless that is active.

    A version that was ever swapped in is not begun again: measured success or a person took it out. Raises UsageError
    for a version that is not there.
    """
    wished = {wish.tool: wish for wish in wishes}
    for stored in stored_swaps(store, project):
        swap, under_way = stored.swap, stored.swap.stage in (Stage.SHADOW, Stage.CANARY)
        if under_way and stored.begun_by == _POLICY and not _is_wished(swap, wished.get(swap.tool)):
            back = moved(swap, Stage.RETIRED)
            _put(store, project, back, stored, reason="the policy no longer swaps it in", who=_POLICY)
    with store.reading() as db:
        known = read_wished(db, project)
    for wish in wishes:
        found = [each for each in versions.get(wish.tool, ()) if each.version == wish.version]
        if not found or (wish.tool, found[0].digest) not in known:
            begin_swap(
                store, project, tools, versions, tool=wish.tool, version=wish.version, share=wish.share, who=_POLICY
            )


def _is_wished(swap: Swap, wish: SwapWish | None) -> bool:
    return wish is not None and wish.version == swap.new.version


def calls_beside(store: Store, project: str, tool: str) -> list[BesideCall]:
    """Return the calls of a tool that were also made on a version in shadow, the newest first."""
    with store.reading() as db:
        return read_beside(db, project, tool)


def roll_back(store: Store, project: str, tool: str) -> Swap:
    """Retire the newer version of a tool by hand. Raises UsageError if there is none, SwapError if it is retired."""
    found = next((stored for stored in stored_swaps(store, project) if stored.swap.tool == tool), None)
    if found is None:
        raise UsageError(f"no version of {tool!r} was swapped in", hint="`koboshi tools swap` shows where each stands.")
    back = moved(found.swap, Stage.RETIRED)
    _put(store, project, back, found, reason="rolled back by hand", who=getpass.getuser())
    return back


def advance(store: Store, project: str) -> list[Swap]:
    """Move each version of a project's tools to where measured success puts it, and return those that moved."""
    done: list[Swap] = []
    for stored in stored_swaps(store, project):
        if stored.swap.stage is Stage.RETIRED:
            continue
        with store.reading() as db:
            move = next_move(stored.swap, read_measured(db, project, stored))
        if move is None:
            continue
        after = moved(stored.swap, move.stage)
        # Where another process was faster, its move is as good as ours.
        with suppress(StoreRuleError):
            _put(store, project, after, stored, reason=move.reason, who=_MEASURED)
            done.append(after)
    return done


def _move_on(store: Store, project: str, last: StoredSwap, version: str, stage: Stage | None, share: float) -> Swap:
    under_way = last.swap
    if version != under_way.new.version:
        raise UsageError(
            f"version {under_way.new.version} of {under_way.tool} is {under_way.stage}: one at a time",
            hint=f"Take it out first: koboshi tools rollback {under_way.tool}",
        )
    if stage is None:
        raise UsageError(
            f"version {version} of {under_way.tool} is {under_way.stage} already",
            hint="Move it on by hand with --stage, or let it be measured.",
        )
    after = moved(under_way, stage).model_copy(update={"share": share})
    _put(store, project, after, last, reason="moved by hand", who=getpass.getuser())
    return after


def _first_stage(new: Tool, wanted: Stage | None) -> Stage:
    reads = new.effect is EffectClass.READ
    if wanted is Stage.SHADOW and not reads:
        raise UsageError(
            f"{new.spec.name!r} does more than read, and in shadow its effect would happen twice",
            hint="Begin with --stage canary.",
        )
    return wanted or (Stage.SHADOW if reads else Stage.CANARY)


def _version(swap: Swap, wanted: ToolVersion, tools: Mapping[str, Tool], versions: Versions) -> Tool:
    candidates = (tools[swap.tool], *versions.get(swap.tool, ()))
    found = next((tool for tool in candidates if tool.digest == wanted.digest), None)
    if found is None:
        raise UsageError(
            f"version {wanted.version} of {swap.tool!r} ({wanted.digest[:19]}) is {swap.stage} and not in the project",
            hint=f"Put its file back, or: koboshi tools rollback {swap.tool}",
        )
    return found


def _put(store: Store, project: str, swap: Swap, before: StoredSwap | None, *, reason: str, who: str) -> None:
    """Store where a version stands now; `before` is where the same swap stood, None if it begins."""
    earlier = before or next((each for each in stored_swaps(store, project) if each.swap.tool == swap.tool), None)
    statement = put_swap(
        project,
        swap,
        seen=earlier and earlier.swap.stage,
        began_at=before.began_at if before else utc_now(),
        reason=reason,
        who=who,
    )
    store.submit((statement,)).result()
