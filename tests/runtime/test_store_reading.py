import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.runtime.store_samples import MODEL, OK, PROFILE, header, label, record

from koboshi_runtime.records import (
    Outcome,
    OutcomeLabel,
    OutcomeSource,
    Purpose,
    RunStatus,
    Split,
    Trajectory,
)
from koboshi_runtime.store import RunFilter, Store, StoreRuleError
from koboshi_runtime.store.runs import list_runs
from koboshi_tools import ToolResult, ToolVerdict, Transport, UsageError

OTHER = "sha256:" + "cd" * 32


FAILED_CALL = ToolResult(transport=Transport.OK, output="no such order", verdict=ToolVerdict.ERROR)
TIMEOUT = ToolResult(transport=Transport.TIMEOUT, output="")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    opened = Store.open(tmp_path_factory.mktemp("reading") / "traces.db")
    success, failure = label(OutcomeLabel.SUCCESS), label(OutcomeLabel.FAILURE)
    record(opened, "aaaa1", header("Count the apples"), outcomes=(success,), calls=(("sql", OK), ("calculator", OK)))
    record(
        opened, "aaaa2", header("Count the pears", task_id="w-2"), outcomes=(failure,), calls=(("sql", FAILED_CALL),)
    )
    record(opened, "bbbb1", header("A rollout", purpose=Purpose.ROLLOUT), calls=(("sql", TIMEOUT),))
    record(opened, "cccc1", header("An evaluation", purpose=Purpose.EVAL, split=Split.TEST, model_hash=OTHER))
    record(opened, "dddd1", header("Unsure"), logprob=-3.0, text="Perhaps melons?")
    record(opened, "dddd2", header("Rather sure"), logprob=-0.25)
    record(opened, "eeee1", header("Still going"), end=None, calls=(("sql", None),))
    opened.record_model(MODEL, name="tiny", profile=PROFILE, manifest={}, state="current")
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (RunFilter(), ["eeee1", "dddd2", "dddd1", "cccc1", "bbbb1", "aaaa2", "aaaa1"]),
        (RunFilter(purpose=Purpose.ROLLOUT), ["bbbb1"]),
        (RunFilter(split=Split.TEST), ["cccc1"]),
        (RunFilter(status=RunStatus.RUNNING), ["eeee1"]),
        (RunFilter(outcome=OutcomeLabel.FAILURE), ["aaaa2"]),
        (RunFilter(outcome=OutcomeLabel.UNKNOWN, purpose=Purpose.WORK), ["eeee1", "dddd2", "dddd1"]),
        (RunFilter(model=OTHER), ["cccc1"]),
        (RunFilter(model="tiny", limit=1), ["eeee1"]),
        (RunFilter(task_id="w-2"), ["aaaa2"]),
        (RunFilter(tool="calculator"), ["aaaa1"]),
        (RunFilter(text="PEARS count"), ["aaaa2"]),
        (RunFilter(text="no such order"), ["aaaa2"]),
        (RunFilter(text="melons"), ["dddd1"]),
        (RunFilter(text='"; DROP TABLE runs -- *'), []),
        (RunFilter(project="another"), []),
        (RunFilter(since="9999"), []),
    ],
)
def test_a_filter_finds_its_runs_the_newest_first(store: Store, wanted: RunFilter, found: list[str]) -> None:
    assert [row.run_id for row in store.runs(wanted)] == found


def test_a_row_counts_steps_and_calls_and_names_the_tools(store: Store) -> None:
    row = store.runs(RunFilter(tool="calculator"))[0]
    assert (row.steps, row.calls, row.tools, row.outcome, row.model) == (
        1,
        2,
        ("sql", "calculator"),
        OutcomeLabel.SUCCESS,
        "tiny",
    )


def test_search_says_where_the_words_stand(store: Store) -> None:
    hits = [(hit.run_id, hit.where, hit.step_index, hit.excerpt) for hit in store.search("melons")]
    assert hits == [("dddd1", "reply", 0, "Perhaps [melons]?")]
    assert [(hit.run_id, hit.where) for hit in store.search("such order")] == [("aaaa2", "call")]
    assert [(hit.run_id, hit.step_index) for hit in store.search("pears")] == [("aaaa2", None)]


def test_text_that_is_no_unicode_can_be_searched(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    record(store, "a", header("raw \udcff bytes"))
    assert [hit.excerpt for hit in store.search("bytes")] == ["raw \ufffd\ufffd\ufffd [bytes]"]


def test_the_queue_offers_unjudged_work_the_least_sure_first(store: Store) -> None:
    assert [row.run_id for row in store.label_queue()] == ["dddd1", "dddd2"]


def test_a_run_leaves_the_queue_once_a_person_has_spoken(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    record(store, "a", header())
    store.add_outcome("a", label(OutcomeLabel.UNKNOWN, OutcomeSource.PERSON))
    assert store.label_queue() == []


def test_a_label_on_an_unknown_run_is_refused(store: Store) -> None:
    with pytest.raises(Exception, match="FOREIGN KEY"):
        store.add_outcome("nobody", label(OutcomeLabel.SUCCESS))


@pytest.mark.parametrize(("ref", "run_id"), [("b", "bbbb1"), ("aaaa1", "aaaa1"), ("@last", "eeee1")])
def test_a_short_id_names_its_run(store: Store, ref: str, run_id: str) -> None:
    assert store.resolve(ref) == run_id


def test_an_ambiguous_id_lists_what_it_may_mean(store: Store) -> None:
    with pytest.raises(UsageError, match="'aa' begins 2 runs: aaaa1, aaaa2"):
        store.resolve("aa")


@pytest.mark.parametrize("ref", ["zz", "", "%", "*"])
def test_an_id_that_names_nothing_is_refused(store: Store, ref: str) -> None:
    with pytest.raises(UsageError, match="No run begins with"):
        store.resolve(ref)


def test_a_run_that_is_missing_has_no_trajectory(store: Store) -> None:
    with pytest.raises(UsageError, match="No run 'zz' is recorded"):
        store.trajectory("zz")


def test_trajectories_come_in_the_order_of_writing(store: Store) -> None:
    work = [each.run_id for each in store.iter_trajectories([Purpose.WORK, Purpose.ROLLOUT])]
    assert work == ["aaaa1", "aaaa2", "bbbb1", "dddd1", "dddd2", "eeee1"]
    assert [each.run_id for each in store.iter_trajectories(splits=[Split.TEST])] == ["cccc1"]
    assert list(store.iter_trajectories(since="9999")) == []


def test_every_trajectory_is_streamed_whatever_their_number(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    futures = [store.start_run(f"run{number}", header()) for number in range(600)]
    assert [future.result() for future in futures] == [None] * 600
    assert [each.run_id for each in store.iter_trajectories()] == [f"run{number}" for number in range(600)]


def test_failed_calls_of_each_tool_and_model_are_one_query(store: Store) -> None:
    with store._reading() as db:
        rows = [tuple(row) for row in db.execute("SELECT model, tool, calls, failed, timeout FROM tool_success")]
        failed = [tuple(row) for row in db.execute("SELECT run_id, tool, transport FROM failed_calls ORDER BY run_id")]
    assert rows == [("tiny", "calculator", 1, 0, 0), ("tiny", "sql", 4, 3, 1)]
    assert failed == [("aaaa2", "sql", "ok"), ("bbbb1", "sql", "timeout"), ("eeee1", "sql", "in_doubt")]


def test_a_call_that_is_only_recorded_has_neither_failed_nor_succeeded(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    asked = ToolResult(transport=Transport.NOT_EXECUTED, output="")
    record(store, "aaaa1", header("Is it warm?"), calls=(("get_weather", asked), ("sql", OK), ("sql", TIMEOUT)))
    record(store, "aaaa2", header("And there?"), calls=(("get_weather", asked), ("get_weather", TIMEOUT)))
    with store.reading() as db:
        found = db.execute("SELECT tool, calls, failed, success_rate, not_executed FROM tool_success ORDER BY tool")
        assert [tuple(row) for row in found] == [("get_weather", 3, 1, 0.0, 2), ("sql", 2, 1, 0.5, 0)]
        assert {row["tool"] for row in db.execute("SELECT tool FROM failed_calls")} == {"get_weather", "sql"}
    store.close()


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, Iterator[int]]]:
    opened = Store.open(tmp_path_factory.mktemp("labels") / "traces.db")
    yield opened, itertools.count()
    opened.close()


@pytest.mark.slow
@given(st.lists(st.builds(label, st.sampled_from(OutcomeLabel), st.sampled_from(OutcomeSource)), max_size=6))
def test_the_view_and_the_value_agree_on_the_outcome(
    labelled: tuple[Store, Iterator[int]], outcomes: list[Outcome]
) -> None:
    store, numbers = labelled
    run_id = f"run{next(numbers)}"
    record(store, run_id, header(), outcomes=tuple(outcomes))
    found: Trajectory = store.trajectory(run_id)
    assert store.runs(RunFilter(limit=1))[0].outcome == found.outcome


def test_a_label_taken_back_counts_no_more_and_the_one_before_it_counts_again(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    record(store, "r", header("Judge me"), outcomes=(label(OutcomeLabel.FAILURE, OutcomeSource.EVENT),))
    store.add_outcome("r", label(OutcomeLabel.SUCCESS, OutcomeSource.PERSON))
    assert store.runs(RunFilter(outcome=OutcomeLabel.SUCCESS))[0].run_id == "r"
    store.take_back_label("r", "ann")
    assert store.runs()[0].outcome is OutcomeLabel.FAILURE
    assert [each.source for each in store.trajectory("r").outcomes] == [OutcomeSource.EVENT]
    with pytest.raises(StoreRuleError, match="No person's label"):
        store.take_back_label("r", "ann")


def test_the_verdicts_of_an_older_file_are_those_of_its_outcomes(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    store = Store.open(path)
    record(store, "r", header("Judge me"), outcomes=(label(OutcomeLabel.SUCCESS),), calls=(("sql", OK),))
    record(store, "s", header("And me"), outcomes=(label(OutcomeLabel.FAILURE, OutcomeSource.WEAK),))
    store.close()
    before = "DROP VIEW current_outcomes; CREATE VIEW current_outcomes AS SELECT * FROM outcomes;"
    gone = "".join(
        f"DROP {kind} {name};"
        for kind, name in (
            *(("TRIGGER", name) for name in ("verdicts_follow_outcomes", "verdicts_follow_retractions")),
            *(("TRIGGER", "run_tools_follow_calls"), ("INDEX", "runs_listed"), ("VIEW", "standing_outcomes")),
            *(("TABLE", name) for name in ("retractions", "verdicts", "run_tools")),
        )
    )
    with closing(sqlite3.connect(path)) as db:
        db.executescript(f"{before}{gone}DELETE FROM _sqlite_migrations WHERE name LIKE '%_verdicts';")
        db.execute("PRAGMA user_version = 1")
    store = Store.open(path)
    assert {row.run_id: (row.outcome, row.tools) for row in store.runs()} == {
        "r": (OutcomeLabel.SUCCESS, ("sql",)),
        "s": (OutcomeLabel.FAILURE, ()),
    }
    assert [row.run_id for row in store.runs(RunFilter(tool="sql"))] == ["r"]


def test_pages_follow_each_other_and_meet_no_run_twice(store: Store) -> None:
    first = store.runs(RunFilter(limit=3))
    second = store.runs(RunFilter(limit=3, before=first[-1].run_id))
    assert [row.run_id for row in (*first, *second)] == ["eeee1", "dddd2", "dddd1", "cccc1", "bbbb1", "aaaa2"]
    assert [row.run_id for row in store.runs(RunFilter(after="dddd2"))] == ["eeee1"]


def test_a_text_is_looked_for_in_its_newest_places_first(store: Store) -> None:
    with store.reading() as db:
        page = list_runs(db, RunFilter(text="Count"), hits=1)
    assert ([row.run_id for row in page.rows], page.whole) == (["aaaa2"], False)
