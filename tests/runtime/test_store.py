import asyncio
import random
import sqlite3
from collections.abc import Awaitable, Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime.store_samples import ALLOWED, DONE, OK, header, intent, realistic_turn, turn

from koboshi_policies.decision import Decision, Verdict
from koboshi_runtime.ids import new_id, prompt_hash
from koboshi_runtime.model import FinishReason, PromptProfile, Reply
from koboshi_runtime.records import (
    CallRecord,
    EndReason,
    Outcome,
    Purpose,
    RunEnd,
    RunHeader,
    RunStatus,
    Segment,
    Split,
    TurnRecord,
)
from koboshi_runtime.store import TRANSITIONS, JobStatus, RunRecorder, Store, StoreError, StoreRuleError
from koboshi_runtime.store.write import Statement
from koboshi_tools import ToolCall, ToolResult, ToolSpec


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store.open(tmp_path / "traces.db")
    yield opened
    opened.close()


def commit(recorder: RunRecorder, state: bytes | None = None) -> None:
    asyncio.run(recorder.commit(state))


def started(store: Store, run_id: str = "a", state: bytes | None = None) -> RunRecorder:
    recorder = RunRecorder(store, run_id)
    recorder.start(header())
    commit(recorder, state)
    return recorder


TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
FLOAT16 = st.floats(width=16, max_value=0.0)
IDS = st.lists(st.integers(0, 200_000), max_size=20).map(tuple)
JSON = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=2), max_size=3)


@st.composite
def replies(draw: st.DrawFn) -> Reply:
    ids = draw(IDS)

    def logprobs() -> tuple[float, ...]:
        return tuple(draw(FLOAT16) for _ in ids)

    sampled = tuple(draw(st.booleans()) for _ in ids)
    finish = draw(st.sampled_from(FinishReason))
    return Reply(
        ids=ids,
        sampled=sampled,
        raw_logprobs=logprobs(),
        behaviour_logprobs=logprobs(),
        text=draw(TEXT),
        finish=finish,
        seconds=draw(st.floats(0, 1e9)),
    )


headers = st.builds(
    RunHeader,
    prompt=TEXT,
    profile=st.builds(PromptProfile, template=TEXT, tool_format=TEXT, conditions=st.none() | TEXT),
    model_hash=st.just("sha256:aa"),
    condition=st.none() | TEXT,
    policy_hash=st.just("sha256:bb"),
    project=TEXT,
    seed=st.integers(-(2**63), 2**63 - 1),
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1),
    task_id=st.none() | TEXT,
    task=st.none() | JSON,
    tools=st.lists(TEXT, max_size=3).map(tuple),
    sample=st.integers(0, 99),
    demonstration=st.booleans(),
    system=TEXT,
    tool_specs=st.lists(st.builds(ToolSpec, name=TEXT, description=TEXT, parameters=JSON), max_size=2).map(tuple),
)
turns = st.builds(
    TurnRecord,
    index=st.just(0),
    segments=st.lists(st.builds(Segment, ids=IDS, text=TEXT), max_size=4).map(tuple),
    reply=replies(),
    error=st.none() | TEXT,
)
decisions = st.builds(
    Decision, reason=TEXT, rule=st.none() | TEXT, file=st.none() | TEXT, line=st.none() | st.integers(0, 9), layer=TEXT
)
calls = st.builds(ToolCall, name=TEXT, arguments=JSON)
results = st.builds(ToolResult, output=TEXT, seconds=st.floats(0, 1e9))
outcomes = st.builds(Outcome, who=TEXT, rationale=TEXT, score=st.none() | st.floats(0, 1))
ends = st.builds(RunEnd, answer=st.none() | TEXT, error=st.none() | TEXT)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store.open(tmp_path_factory.mktemp("shared") / "traces.db")
    yield opened
    opened.close()


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    opened=headers, taken=turns, decision=decisions, call=calls, result=st.none() | results, judged=outcomes, end=ends
)
def test_what_was_recorded_comes_back_equal(
    shared: Store,
    opened: RunHeader,
    taken: TurnRecord,
    decision: Decision,
    call: ToolCall,
    result: ToolResult | None,
    judged: Outcome,
    end: RunEnd,
) -> None:
    run_id = new_id()
    asked = intent(f"{run_id}:0").model_copy(update={"call": call, "decision": decision})
    recorder = RunRecorder(shared, run_id)
    recorder.start(opened)
    recorder.turn(taken)
    recorder.intent(asked)
    if result:
        recorder.result(asked.idempotency_key, result)
    recorder.outcome(judged)
    recorder.end(end)
    commit(recorder)
    found = shared.trajectory(run_id)
    assert (found.header, found.turns) == (opened, (taken,))
    assert (found.calls, found.outcomes, found.end) == ((CallRecord(intent=asked, result=result),), (judged,), end)


@pytest.mark.slow
def test_a_line_of_ten_megabytes_comes_back_equal(store: Store) -> None:
    output = "\udcfe\0 naïve " * 1_000_000
    recorder = started(store)
    recorder.intent(intent("k"))
    recorder.result("k", OK.model_copy(update={"output": output}))
    commit(recorder)
    found = store.result_of("k")
    assert found is not None
    assert found.output == output


def test_nothing_is_stored_before_the_commit(store: Store) -> None:
    recorder = started(store)
    recorder.turn(turn())
    assert store.trajectory("a").turns == ()


def test_a_run_begins_with_its_header_and_thread_state_in_one_commit(store: Store) -> None:
    started(store, state=b"state")
    assert (store.trajectory("a").header, store.thread_state("a")) == (header(), b"state")


def test_only_the_latest_thread_state_is_kept(store: Store) -> None:
    recorder = started(store, state=b"one")
    commit(recorder, b"two")
    assert store.thread_state("a") == b"two"


def test_no_thread_state_in_a_commit_leaves_the_stored_one(store: Store) -> None:
    recorder = started(store, state=b"one")
    recorder.turn(turn())
    commit(recorder)
    assert store.thread_state("a") == b"one"


def test_thread_state_is_dropped_when_the_run_ends(store: Store) -> None:
    recorder = started(store, state=b"one")
    recorder.end(DONE)
    commit(recorder, b"two")
    assert store.thread_state("a") is None


def test_an_interrupted_run_keeps_its_thread_state_and_is_unfinished(store: Store) -> None:
    recorder = started(store, state=b"one")
    recorder.status(RunStatus.INTERRUPTED)
    commit(recorder)
    assert (store.thread_state("a"), store.unfinished()) == (b"one", ["a"])


def test_a_run_without_thread_state_is_not_taken_up_again(store: Store) -> None:
    started(store)
    assert store.unfinished() == []


@pytest.mark.parametrize("before", [RunStatus.INTERRUPTED, RunStatus.FINISHED, RunStatus.FAILED])
@pytest.mark.parametrize("after", list(RunStatus))
def test_statuses_follow_one_another_as_the_table_says(store: Store, before: RunStatus, after: RunStatus) -> None:
    recorder = started(store)
    recorder.status(before)
    commit(recorder)
    recorder.status(after)
    if after in TRANSITIONS[before]:
        commit(recorder)
    else:
        with pytest.raises(StoreRuleError, match=f"cannot become {after}"):
            commit(recorder)


def test_a_run_taken_up_again_forgets_how_it_ended(store: Store) -> None:
    recorder = started(store)
    recorder.end(RunEnd(status=RunStatus.INTERRUPTED, reason=EndReason.MODEL_ERROR, answer=None, error="lost"))
    recorder.status(RunStatus.RUNNING)
    commit(recorder)
    assert store.trajectory("a").end is None


def test_a_call_has_one_result(store: Store) -> None:
    recorder = started(store)
    recorder.intent(intent("k"))
    recorder.result("k", OK)
    commit(recorder)
    recorder.result("k", OK.model_copy(update={"output": "43"}))
    with pytest.raises(StoreRuleError, match="already has a result"):
        commit(recorder)
    assert store.result_of("k") == OK


def test_a_result_without_its_intent_is_refused(store: Store) -> None:
    recorder = started(store)
    recorder.result("nobody", OK)
    with pytest.raises(StoreRuleError, match="nobody is not recorded"):
        commit(recorder)


def test_an_intent_without_a_result_is_in_doubt(store: Store) -> None:
    recorder = started(store)
    recorder.intent(intent("k0", 0))
    recorder.intent(intent("k1", 1))
    recorder.result("k0", OK)
    commit(recorder)
    assert (store.in_doubt("a"), store.result_of("k1")) == ([intent("k1", 1)], None)


def test_an_intent_met_again_adds_its_decision_only(store: Store) -> None:
    asked = intent("k", decision=Decision(verdict=Verdict.ASK, reason="writes"))
    granted = intent("k", decision=ALLOWED)
    recorder = started(store)
    recorder.intent(asked)
    commit(recorder)
    recorder.intent(granted)
    commit(recorder)
    assert store.in_doubt("a") == [granted]


def test_the_idempotency_key_of_another_run_is_refused(store: Store) -> None:
    first, second = started(store, "a"), started(store, "b")
    first.intent(intent("k"))
    commit(first)
    second.intent(intent("k"))
    with pytest.raises(StoreRuleError, match="another run"):
        commit(second)


def test_a_commit_is_whole_or_not_at_all(store: Store) -> None:
    recorder = started(store)
    recorder.turn(turn())
    recorder.result("nobody", OK)
    with pytest.raises(StoreRuleError):
        commit(recorder, b"state")
    assert (store.trajectory("a").turns, store.thread_state("a")) == ((), None)


def test_a_unit_that_breaks_a_rule_fails_alone(store: Store) -> None:
    good, bad = started(store, "good"), started(store, "bad")
    good.turn(turn())
    bad.result("nobody", OK)

    async def both() -> tuple[BaseException | None, BaseException | None]:
        return await asyncio.gather(bad.commit(), good.commit(), return_exceptions=True)

    first, second = asyncio.run(both())
    assert (type(first), second, len(store.trajectory("good").turns)) == (StoreRuleError, None, 1)


def test_a_cancelled_commit_still_goes_through(store: Store) -> None:
    recorder = started(store)
    recorder.turn(turn())

    async def cancelled() -> None:
        task = asyncio.create_task(recorder.commit())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(cancelled())
    store.close()
    assert len(store.trajectory("a").turns) == 1


def test_what_is_queued_cannot_be_taken_back(store: Store) -> None:
    future = store.start_run("a", header())
    assert (future.cancel(), future.result(), store.resolve("a")) == (False, None, "a")


def test_the_same_step_twice_is_refused(store: Store) -> None:
    recorder = started(store)
    recorder.turn(turn())
    recorder.turn(turn())
    with pytest.raises(StoreError, match="UNIQUE constraint"):
        commit(recorder)


def test_a_closed_store_takes_nothing(store: Store) -> None:
    recorder = started(store)
    store.close()
    recorder.turn(turn())
    with pytest.raises(StoreError, match="is closed"):
        commit(recorder)


def test_a_prefix_is_stored_once(store: Store) -> None:
    for run_id in "ab":
        recorder = started(store, run_id)
        recorder.turn(turn())
        commit(recorder)
    assert store.trajectory("a").turns == store.trajectory("b").turns
    with store._reading() as db:
        assert db.execute("SELECT count(*) FROM segments").fetchone()[0] == 2


def test_many_runs_commit_together(store: Store) -> None:
    async def run(number: int) -> None:
        recorder = RunRecorder(store, f"run{number}")
        recorder.start(header())
        await recorder.commit(b"state")
        recorder.end(DONE)
        await recorder.commit()

    async def main() -> None:
        work: list[Awaitable[None]] = [run(number) for number in range(50)]
        await asyncio.gather(*work)

    asyncio.run(main())
    assert {row.status for row in store.runs()} == {RunStatus.FINISHED}
    assert len(store.runs()) == 50


def test_the_first_sight_of_a_prompt_decides_its_split(store: Store) -> None:
    by_hash = store.assign_split("A prompt")
    again = store.assign_split("a  PROMPT", Split.TEST if by_hash is not Split.TEST else Split.TRAIN)
    assert (again, store.split_of("a prompt")) == (by_hash, by_hash)


def test_a_pack_may_give_its_own_splits(store: Store) -> None:
    given_splits = list(Split)
    asked = [(f"task {split}", split) for split in given_splits]
    assert store.assign_splits(asked) == given_splits


def test_an_unseen_prompt_has_no_split(store: Store) -> None:
    assert store.split_of("never") is None


def test_prompts_that_were_evaluated_are_known_by_their_hash(store: Store) -> None:
    store.start_run("a", header("One")).result()
    store.start_run("b", header("Two", purpose=Purpose.EVAL)).result()
    store.start_run("c", header("Three", purpose=Purpose.GATE)).result()
    assert store.prompt_hashes([Purpose.EVAL, Purpose.GATE]) == {prompt_hash("two"), prompt_hash("THREE")}


def test_a_read_only_store_takes_nothing(store: Store) -> None:
    started(store)
    reader = Store.read_only(store.path)
    with pytest.raises(StoreError, match="for reading only"):
        reader.start_run("b", header())
    assert reader.resolve("a") == "a"


def test_a_store_that_is_missing_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="unable to open") as caught:
        Store.read_only(tmp_path / "none.db")
    assert caught.value.hint == "Check that the home exists and that you may read and write it."


def test_the_file_and_its_log_are_for_the_owner_only(store: Store) -> None:
    started(store)
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in store.path.parent.iterdir()}
    assert set(modes.values()) == {"0o600"}
    assert {"traces.db", "traces.db-wal", "traces.db.lock"} <= set(modes)


def test_the_log_is_folded_into_the_file_before_it_grows_large(store: Store) -> None:
    recorder = started(store)
    blob = bytes(1 << 20)
    for _ in range(40):
        commit(recorder, blob + new_id().encode())
    assert store.path.with_name("traces.db-wal").stat().st_size < 20 << 20


@pytest.mark.slow
def test_a_step_costs_at_most_six_kilobytes_over_its_text(store: Store) -> None:
    rng = random.Random(0)
    text_bytes = 0
    for _ in range(100):
        recorder = RunRecorder(store, new_id())
        recorder.start(header(f"How many {rng.random()} apples?"))
        for index in range(3):
            taken = realistic_turn(rng, index)
            asked = intent(f"{recorder.run_id}:{index}", index)
            result = OK.model_copy(update={"output": taken.segments[-1].text})
            recorder.turn(taken)
            recorder.intent(asked)
            recorder.result(asked.idempotency_key, result)
            text_bytes += len(taken.reply.text) + len(taken.segments[-1].text)
        recorder.end(DONE)
        commit(recorder, b"x" * 2000)
    store.close()
    assert (store.path.stat().st_size - text_bytes) / 300 < 6 * 1024


def test_models_are_recorded_and_changed(store: Store) -> None:
    def record(state: str) -> None:
        profile = PromptProfile(template="chatml", tool_format="hermes")
        store.record_model("sha256:aa", name="tiny", profile=profile, manifest={"bytes": 1}, state=state)

    record("candidate")
    record("current")
    (found,) = store.models()
    assert (found.name, found.state, found.manifest, found.profile["template"]) == (
        "tiny",
        "current",
        {"bytes": 1},
        "chatml",
    )


def test_a_job_ends_once(store: Store) -> None:
    job_id = store.start_job("train", {"rows": 3})
    store.finish_job(job_id, JobStatus.DONE, {"loss": 0.5})
    with pytest.raises(StoreRuleError, match="already ended"):
        store.finish_job(job_id, JobStatus.FAILED)
    (found,) = store.jobs("train")
    assert (found.status, found.manifest, found.result, store.jobs("import")) == (
        JobStatus.DONE,
        {"rows": 3},
        {"loss": 0.5},
        [],
    )


def test_outcomes_are_append_only(store: Store) -> None:
    started(store)
    with sqlite3.connect(store.path) as db:
        db.execute("INSERT INTO outcomes VALUES (1, 'a', 'success', 'event', '', '', NULL, '')")
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute("UPDATE outcomes SET label = 'failure'")


def test_a_split_that_was_seen_is_heard_of_again_without_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.open(tmp_path / "traces.db")
    assert store.assign_splits([("one", Split.GATE), ("two", Split.DEV)]) == [Split.GATE, Split.DEV]
    written: list[int] = []
    submit = store.submit

    def counted(statements: tuple[Statement, ...]) -> Future[None]:
        written.append(len(statements))
        return submit(statements)

    monkeypatch.setattr(store, "submit", counted)
    assert store.assign_split(" ONE ", Split.TRAIN) is Split.GATE
    assert written == []
    assert store.assign_splits([("two", None), ("three", Split.TEST)]) == [Split.DEV, Split.TEST]
    assert written == [1]
    assert Store.open(tmp_path / "traces.db").assign_split("three") is Split.TEST
