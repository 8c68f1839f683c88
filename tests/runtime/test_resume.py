"""A run that was cut off goes on as if nothing had happened, or says why it cannot."""

import asyncio
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest
from tests.runtime.run_makers import TOOLS, Answers, calls, notes, runner, task

from koboshi_policies import Answer
from koboshi_runtime.ids import new_id
from koboshi_runtime.model import GenerateRequest, Reply
from koboshi_runtime.project import Budgets
from koboshi_runtime.records import CallIntent, EndReason, OutcomeLabel, Purpose, RunStatus
from koboshi_runtime.runner import Runner
from koboshi_runtime.scratch import scratch_copy
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import RunFilter, Store, StoreError
from koboshi_tools import Tool, ToolContext, UsageError, tool

REPLIES = [
    calls(("look", {"key": "a"})),
    calls(("look", {"key": "b"}), ("put", {"text": "p"}), ("look", {"key": "c"}), ("put", {"text": "q"})),
    "<tool_call>\nbroken",
    calls(("put", {"text": "p"})),
    calls(("look", {"key": "d"}), ("look", {"key": "e"})),
    "done",
]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "traces.db")


def only_run(store: Store) -> str:
    (row,) = store.runs(RunFilter(limit=None))
    return row.run_id


class Snapshots:
    """Copies of a project and its store at moments of a run: what a kill at that moment would leave."""

    def __init__(self, project: Path, folder: Path) -> None:
        self.project, self.folder = project, folder
        self.taken: list[Path] = []
        self._guard = threading.Lock()

    def take(self) -> None:
        """Copy; calls that run side by side take turns."""
        with self._guard:
            self._take()

    def _take(self) -> None:
        copy = self.folder / str(len(self.taken))
        copy.mkdir(parents=True)
        if (self.project / "workspace").exists():
            shutil.copytree(self.project / "workspace", copy / "workspace")
        with sqlite3.connect(self.project / "traces.db") as source, sqlite3.connect(copy / "traces.db") as target:
            source.backup(target)
        self.taken.append(copy)

    def tools(self) -> dict[str, Tool]:
        @tool(effect="write", idempotent=True, name="put", sandbox=False)
        def put(text: str, context: ToolContext) -> str:
            """Write a file of that name."""
            self.take()
            (context.workspace / text).write_text(text, encoding="utf-8")
            self.take()
            return f"put {text}"

        @tool(name="look")
        def look(key: str) -> str:
            """Look something up."""
            self.take()
            return f"value of {key}"

        return TOOLS | {"put": put, "look": look}


class Watched(ScriptedModel):
    """Takes a snapshot before and after each turn is written."""

    def __init__(self, replies: list[str], snapshots: Snapshots) -> None:
        super().__init__(replies)
        self.snapshots = snapshots

    async def generate(self, request: GenerateRequest) -> Reply:
        self.snapshots.take()
        reply = await super().generate(request)
        self.snapshots.take()
        return reply


def prompts(model: ScriptedModel) -> list[tuple[int, ...]]:
    """The ids that each turn was written after."""
    return [request.prompt_ids for request in model.requests]


def facts(store: Store, run_id: str) -> list[Any]:
    """What must be equal, however often the run was cut off."""
    found = store.trajectory(run_id)
    turns = [(turn.index, turn.kind, turn.segments, turn.reply.ids, turn.in_context) for turn in found.turns]
    made = [(call.intent.idempotency_key, call.result and call.result.output) for call in found.calls]
    return [turns, made, found.end, found.outcomes]


@pytest.mark.slow
def test_resume_from_any_moment_gives_the_prompts_and_the_record_of_an_uninterrupted_run(
    tmp_path: Path, store: Store
) -> None:
    snapshots = Snapshots(tmp_path, tmp_path / "snapshots")
    whole = Watched(REPLIES, snapshots)
    first = asyncio.run(runner(tmp_path, store, whole, tools=snapshots.tools()).run(task()))
    expected = facts(store, first.run_id)
    assert first.outcome is OutcomeLabel.SUCCESS
    resumed = 0
    for copy in snapshots.taken:
        cut = Store.open(copy / "traces.db")
        if not cut.runs():
            continue
        turns = len(cut.trajectory(first.run_id).turns)
        model = ScriptedModel(REPLIES[turns:])
        result = asyncio.run(runner(copy, cut, model).resume(first.run_id))
        assert prompts(model) == prompts(whole)[turns:]
        assert facts(cut, first.run_id) == expected
        assert result.model_copy(update={"seconds": 0}) == first.model_copy(update={"seconds": 0})
        resumed += 1
    assert resumed >= len(snapshots.taken) - 5


def cut_in_tool(made: Runner, begun: threading.Event, go: threading.Event) -> None:
    """Interrupt a run while a call of `wait` is under way."""

    async def main() -> None:
        run = asyncio.create_task(made.run(task()))
        await asyncio.to_thread(begun.wait, 30)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        go.set()

    asyncio.run(main())


async def cut_when(reached: asyncio.Event, work: Coroutine[Any, Any, object]) -> None:
    """Interrupt a run as soon as it has come to a certain place."""
    run = asyncio.create_task(work)
    await reached.wait()
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


@pytest.mark.parametrize("before", [[], [calls(("look", {"key": "a"}))], [calls(("put", {"text": "p"}))]])
def test_run_interrupted_in_a_reading_call_makes_that_call_again(
    tmp_path: Path, store: Store, before: list[str]
) -> None:
    begun, go = threading.Event(), threading.Event()
    settings = {"wait": {"begun": begun, "go": go}}
    replies = [*before, calls(("wait", {})), "done"]
    whole = ScriptedModel(replies)
    cut_in_tool(runner(tmp_path, store, whole, tool_settings=settings), begun, go)
    run_id = only_run(store)
    assert store.runs()[0].status is RunStatus.INTERRUPTED
    model = ScriptedModel(replies[len(store.trajectory(run_id).turns) :])
    result = asyncio.run(runner(tmp_path, store, model, tool_settings=settings).resume(run_id))
    assert result.outcome is OutcomeLabel.SUCCESS
    assert result.tools["wait"] == 1
    last = bytes(token for token in model.requests[-1].prompt_ids if token < 256)
    assert last.count(b"waited") == 1


def test_run_that_goes_on_in_this_process_is_not_resumed_beside_itself(tmp_path: Path, store: Store) -> None:
    begun, go = threading.Event(), threading.Event()
    settings = {"wait": {"begun": begun, "go": go}}
    replies = [calls(("put", {"text": "p"})), calls(("wait", {})), "done"]
    made = runner(tmp_path, store, replies, tool_settings=settings)

    async def both() -> OutcomeLabel:
        run = asyncio.create_task(made.run(task()))
        await asyncio.to_thread(begun.wait, 30)
        try:
            with pytest.raises(UsageError, match="goes on in this process"):
                await runner(tmp_path, store, ["done"]).resume(only_run(store))
        finally:
            go.set()
        return (await run).outcome

    assert asyncio.run(both()) is OutcomeLabel.SUCCESS


def test_run_interrupted_twice_before_its_first_commit_can_still_be_resumed(tmp_path: Path, store: Store) -> None:
    class Slow(ScriptedModel):
        def __init__(self) -> None:
            super().__init__([])
            self.asked = asyncio.Event()

        async def generate(self, request: GenerateRequest) -> Reply:
            self.asked.set()
            await asyncio.Event().wait()
            return await super().generate(request)

    async def cut(run_id: str | None) -> None:
        model = Slow()
        made = runner(tmp_path, store, model)
        await cut_when(model.asked, made.resume(run_id) if run_id else made.run(task()))

    asyncio.run(cut(None))
    run_id = only_run(store)
    asyncio.run(cut(run_id))
    assert store.runs()[0].status is RunStatus.INTERRUPTED
    assert asyncio.run(runner(tmp_path, store, ["done"]).resume(run_id)).outcome is OutcomeLabel.SUCCESS


def cut_in_effect(folder: Path, snapshot: Path, before: str = "", after: str = "") -> str:
    """Leave in `snapshot` what a kill in the middle of a `note` leaves, and return the run's id."""
    snapshots = Snapshots(folder, snapshot)

    @tool(effect="write", name="note", sandbox=False)
    def note(text: str, context: ToolContext) -> str:
        """Add a line to the notes."""
        if text == "cut":
            snapshots.take()
        return str(TOOLS["note"].function(text, context))

    store = Store.open(folder / "traces.db")
    texts = [text for text in (before, "cut", after) if text]
    turn = calls(*(("note", {"text": text}) for text in texts))
    return asyncio.run(runner(folder, store, [turn, "done"], tools=TOOLS | {"note": note}).run(task())).run_id


def test_effect_in_doubt_fails_the_run_where_nobody_attends(tmp_path: Path) -> None:
    run_id = cut_in_effect(tmp_path, tmp_path / "cut", before="one")
    cut = tmp_path / "cut" / "0"
    store = Store.open(cut / "traces.db")
    result = asyncio.run(runner(cut, store, ["never"]).resume(run_id))
    assert (result.reason, result.outcome) == (EndReason.IN_DOUBT, OutcomeLabel.UNKNOWN)
    assert store.runs()[0].status is RunStatus.FAILED
    assert notes(cut) == ["one"]
    assert store.unfinished() == []


def test_effect_in_doubt_is_made_again_only_if_a_person_says_so_and_later_ones_are_not_asked_for(
    tmp_path: Path,
) -> None:
    run_id = cut_in_effect(tmp_path, tmp_path / "cut", before="one", after="three")
    cut = tmp_path / "cut" / "0"
    asker = Answers([True])
    result = asyncio.run(runner(cut, Store.open(cut / "traces.db"), ["done"], asker=asker).resume(run_id))
    assert [intent.call.arguments["text"] for intent in asker.asked] == ["cut"]
    assert (result.outcome, result.calls_begun, notes(cut)) == (OutcomeLabel.SUCCESS, 3, ["one", "cut", "three"])


def test_person_who_does_not_want_a_call_in_doubt_made_again_ends_the_run(tmp_path: Path) -> None:
    run_id = cut_in_effect(tmp_path, tmp_path / "cut")
    cut = tmp_path / "cut" / "0"
    result = asyncio.run(runner(cut, Store.open(cut / "traces.db"), ["x"], asker=Answers([False])).resume(run_id))
    assert (result.reason, notes(cut)) == (EndReason.IN_DOUBT, [])


def test_run_cut_off_while_a_person_is_asked_asks_again_and_makes_the_call_once(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, tmp_path / "cut")

    class Dying(Answers):
        async def ask(self, run_id: str, intent: CallIntent) -> Answer:
            snapshots.take()
            return await super().ask(run_id, intent)

    store = Store.open(tmp_path / "traces.db")
    turn = calls(("ask_note", {"text": "a"}), ("ask_note", {"text": "b"}))
    first = asyncio.run(runner(tmp_path, store, [turn, "done"], asker=Dying([True, True])).run(task()))
    for copy, expected in zip(snapshots.taken, (["a", "b"], ["b"]), strict=True):
        asker = Answers([True, True])
        cut = Store.open(copy / "traces.db")
        assert cut.unfinished() == [first.run_id]
        result = asyncio.run(runner(copy, cut, ["done"], asker=asker).resume(first.run_id))
        # What was answered before is not asked for again.
        assert [intent.call.arguments["text"] for intent in asker.asked] == expected
        assert (result.outcome, notes(copy)) == (OutcomeLabel.SUCCESS, ["a", "b"])


def test_rollout_whose_scratch_copy_is_lost_fails_visibly(tmp_path: Path) -> None:
    snapshots = Snapshots(tmp_path, tmp_path / "cut")

    class Cut(ScriptedModel):
        async def generate(self, request: GenerateRequest) -> Reply:
            if len(self.requests) == 1:
                snapshots.take()
            return await super().generate(request)

    store = Store.open(tmp_path / "traces.db")
    replies = [calls(("note", {"text": "one"})), "done"]
    run_id = asyncio.run(runner(tmp_path, store, Cut(replies), purpose=Purpose.ROLLOUT).run(task())).run_id
    cut = Store.open(snapshots.taken[0] / "traces.db")
    model = ScriptedModel(["never"])
    result = asyncio.run(runner(snapshots.taken[0], cut, model, purpose=Purpose.ROLLOUT).resume(run_id))
    assert (result.reason, result.outcome) == (EndReason.WORKSPACE_LOST, OutcomeLabel.UNKNOWN)
    assert (cut.runs()[0].status, cut.unfinished(), model.requests) == (RunStatus.FAILED, [], [])


def test_rollout_that_only_read_so_far_is_resumed_on_a_fresh_copy(tmp_path: Path, store: Store) -> None:
    begun, go = threading.Event(), threading.Event()
    settings: dict[str, Any] = {"tool_settings": {"wait": {"begun": begun, "go": go}}, "purpose": Purpose.ROLLOUT}
    cut_in_tool(runner(tmp_path, store, [calls(("wait", {})), "done"], **settings), begun, go)
    model = ScriptedModel([calls(("wait", {})), calls(("note", {"text": "x"})), "done"])
    # Resumed by a runner of real work: the run stays what it was begun as, and away from the live workspace.
    result = asyncio.run(
        runner(tmp_path, store, model, tool_settings=settings["tool_settings"]).resume(only_run(store))
    )
    assert (result.outcome, notes(tmp_path)) == (OutcomeLabel.SUCCESS, [])


def test_scratch_copy_of_a_killed_process_is_removed_by_the_next_and_a_living_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratches, source = tmp_path / "tmp", tmp_path / "source"
    scratches.mkdir()
    source.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratches))
    stale = scratches / "koboshi-scratch-stale"
    stale.mkdir()
    (stale / "lock").touch()
    with scratch_copy(source) as one, scratch_copy(source) as two:
        assert one.is_dir()
        assert two.is_dir()
        assert not stale.exists()
    assert list(scratches.iterdir()) == []


def test_ended_run_unknown_run_and_another_models_run_are_refused(tmp_path: Path, store: Store) -> None:
    made = runner(tmp_path, store, ["done"])
    run_id = asyncio.run(made.run(task())).run_id
    with pytest.raises(UsageError, match="it has ended"):
        asyncio.run(made.resume(run_id))
    with pytest.raises(UsageError, match="No run"):
        asyncio.run(made.resume(new_id()))
    other = ScriptedModel([], info=made.model.info.model_copy(update={"model_hash": "sha256:other"}))
    with pytest.raises(UsageError, match="was begun by model"):
        asyncio.run(runner(tmp_path, store, other).resume(run_id))


def test_refused_resume_leaves_the_run_as_it_was(tmp_path: Path, store: Store) -> None:
    begun, go = threading.Event(), threading.Event()
    made = runner(tmp_path, store, [calls(("wait", {}))], tool_settings={"wait": {"begun": begun, "go": go}})
    cut_in_tool(made, begun, go)
    fewer = {name: found for name, found in TOOLS.items() if name != "look"}
    with pytest.raises(UsageError, match="'look', which is no longer here"):
        asyncio.run(runner(tmp_path, store, ["done"], tools=fewer).resume(only_run(store)))
    assert store.runs()[0].status is RunStatus.INTERRUPTED


def test_run_interrupted_while_a_person_is_asked_asks_again(tmp_path: Path, store: Store) -> None:
    class Away:
        def __init__(self) -> None:
            self.asked = asyncio.Event()

        async def ask(self, run_id: str, intent: CallIntent) -> Answer:
            self.asked.set()
            await asyncio.Event().wait()
            return Answer.UNATTENDED

    async def cut() -> None:
        away = Away()
        made = runner(tmp_path, store, [calls(("ask_note", {"text": "x"}))], asker=away)
        await cut_when(away.asked, made.run(task()))

    asyncio.run(cut())
    assert store.runs()[0].status is RunStatus.INTERRUPTED
    asker = Answers([True])
    result = asyncio.run(runner(tmp_path, store, ["done"], asker=asker).resume(only_run(store)))
    assert (result.outcome, len(asker.asked), notes(tmp_path)) == (OutcomeLabel.SUCCESS, 1, ["x"])


def test_interrupting_many_runs_leaves_each_to_be_resumed(tmp_path: Path, store: Store) -> None:
    begun, go = threading.Event(), threading.Event()
    settings = {"wait": {"begun": begun, "go": go}}

    async def main(made: Runner) -> None:
        running = asyncio.create_task(made.run_all([task(f"t{number}") for number in range(6)]))
        await asyncio.to_thread(begun.wait, 30)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        go.set()

    asyncio.run(main(runner(tmp_path, store, [calls(("wait", {}))] * 6, tool_settings=settings, jobs=6)))
    rows = store.runs()
    assert [row.status for row in rows] == [RunStatus.INTERRUPTED] * 6
    for row in rows:
        # Each was interrupted before its first commit, and begins again.
        assert store.trajectory(row.run_id).turns == ()
        assert asyncio.run(runner(tmp_path, store, ["done"]).resume(row.run_id)).outcome is OutcomeLabel.SUCCESS


def test_effect_is_not_made_when_its_intent_cannot_be_stored(tmp_path: Path) -> None:
    Store.open(tmp_path / "traces.db").close()
    full = Store.open(tmp_path / "traces.db", max_bytes=(tmp_path / "traces.db").stat().st_size + (32 << 10))
    large = calls(("look", {"key": "k" * 200_000}), ("note", {"text": "x"}))
    with pytest.raises(StoreError):
        asyncio.run(runner(tmp_path, full, [large, "done"], budgets=Budgets(max_tokens=1_000_000)).run(task()))
    assert notes(tmp_path) == []
