"""The watch after a swap: what is compared, when it goes back by itself, and what it leaves alone."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tests.runtime.store_samples import DONE, OK, header, label, record

from koboshi_policies.sequential import Tally
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.model import PromptProfile
from koboshi_runtime.models.manifest import GateProof, ModelManifest
from koboshi_runtime.models.registry import Registry
from koboshi_runtime.records import OutcomeLabel, OutcomeSource, Purpose
from koboshi_runtime.server.success import keep_watch
from koboshi_runtime.store import JobStatus, Store
from koboshi_runtime.store.watch import Group, count_outcomes
from koboshi_runtime.watch import JOB, compare_groups, follow, mean_evidence
from koboshi_tools import hash_file

SUCCESS, FAILURE = label(OutcomeLabel.SUCCESS), label(OutcomeLabel.FAILURE)
Work = Callable[..., None]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(path=tmp_path / "home")


@pytest.fixture
def store(home: Home) -> Store:
    return Store.open(home.traces)


@pytest.fixture
def work(store: Store) -> Work:
    """Records judged runs of a model."""
    numbers = iter(range(1000))

    def runs(
        model_hash: str, count: int, *, good: bool, tool: str | None = None, purpose: Purpose = Purpose.WORK
    ) -> None:
        for number in [next(numbers) for _ in range(count)]:
            opened = header(f"task {number}", model_hash=model_hash, purpose=purpose)
            calls = ((tool, OK),) if tool else ()
            record(store, f"r{number}", opened, outcomes=(SUCCESS if good else FAILURE,), calls=calls)

    return runs


def _model(home: Home, name: str, against: str | None = None) -> str:
    """Register a model, and let it go live on a gate's word; the first one needs none."""
    file = home.run / name
    file.write_text(name, encoding="utf-8")
    manifest = ModelManifest(
        model_hash=hash_file(file),
        name=name,
        architecture="llama",
        quantization="Q8_0",
        bytes=file.stat().st_size,
        context_tokens=2048,
        source="test",
        created_at=f"2026-01-01T00:00:{len(Registry(home).list()):02}+00:00",
        profile=PromptProfile(template="chatml", tool_format="hermes"),
        gate=GateProof(accepted=True, against=against, verdict={}) if against else None,
    )
    Registry(home).register(file, manifest)
    if against:
        Registry(home).promote(name)
    return manifest.model_hash


def _live(home: Home) -> str:
    return Registry(home).current().manifest.name


def test_a_model_whose_success_fell_is_taken_out_with_a_record(home: Home, store: Store, work: Work) -> None:
    old = _model(home, "old")
    work(old, 30, good=True, tool="sql")
    new = _model(home, "new", against=old)
    work(new, 25, good=False, tool="sql")
    found = follow(home, store)
    assert found is not None
    assert (found.rolled_back, _live(home)) == (True, "old")
    assert found.text == "went back from new to old: success of shop went from 100 % of 30 to 0 % of 25"
    (job,) = store.jobs(JOB)
    assert (job.status, job.manifest) == (JobStatus.DONE, {"model": new, "back_to": old})
    assert {model.name: model.state for model in store.models()} == {"old": "current", "new": "previous"}


def test_a_tool_that_broke_takes_its_model_out_though_the_whole_holds(home: Home, store: Store, work: Work) -> None:
    old = _model(home, "old")
    work(old, 40, good=True, tool="sql")
    work(old, 40, good=False, tool="files")
    new = _model(home, "new", against=old)
    work(new, 30, good=False, tool="sql")
    work(new, 30, good=True, tool="files")
    found = follow(home, store)
    assert found is not None
    assert found.worst is not None
    assert (found.worst.tool, _live(home)) == ("sql", "old")


def test_a_model_that_does_as_well_stays(home: Home, store: Store, work: Work) -> None:
    old = _model(home, "old")
    work(old, 25, good=True)
    work(old, 25, good=False)
    new = _model(home, "new", against=old)
    work(new, 13, good=True)
    work(new, 14, good=False)
    found = follow(home, store)
    assert found is not None
    assert (found.fell, _live(home)) == (False, "new")
    assert found.text == "new after 27 judged runs: success holds"


def test_without_rollback_it_only_says_that_success_fell(home: Home, store: Store, work: Work) -> None:
    old = _model(home, "old")
    work(old, 30, good=True)
    work(_model(home, "new", against=old), 25, good=False)
    found = follow(home, store, rollback=False)
    assert found is not None
    assert (found.fell, found.rolled_back, _live(home)) == (True, False, "new")
    assert "success fell" in found.text


def test_what_a_person_promoted_again_is_not_taken_out_again(home: Home, store: Store, work: Work) -> None:
    old = _model(home, "old")
    work(old, 30, good=True)
    work(_model(home, "new", against=old), 25, good=False)
    follow(home, store)
    Registry(home).rollback()
    assert _live(home) == "new"
    assert follow(home, store) is None
    assert _live(home) == "new"


def test_a_person_who_went_back_is_not_overruled(home: Home, store: Store, work: Work) -> None:
    old = _model(home, "old")
    work(old, 25, good=False)
    work(_model(home, "new", against=old), 25, good=True)
    Registry(home).rollback()
    assert follow(home, store) is None
    assert _live(home) == "old"


def test_two_processes_that_go_back_at_once_go_back_once(home: Home) -> None:
    old = _model(home, "old")
    new = _model(home, "new", against=old)
    registry = Registry(home)
    assert registry.rollback(away_from=new).manifest.name == "old"
    assert registry.rollback(away_from=new).manifest.name == "old"


def test_only_judged_work_counts(store: Store, work: Work) -> None:
    work("sha256:m", 3, good=True, tool="sql")
    work("sha256:m", 2, good=True, purpose=Purpose.GATE)
    work("sha256:other", 2, good=True)
    record(store, "unjudged", header("unjudged", model_hash="sha256:m"))
    weak = label(OutcomeLabel.FAILURE, OutcomeSource.WEAK)
    record(store, "weak", header("weak", model_hash="sha256:m"), outcomes=(weak,), end=DONE)
    with store.reading() as db:
        found = count_outcomes(db, "sha256:m", newest=True)
    assert found == {Group("shop", tool): Tally(successes=3, total=3) for tool in (None, "sql")}


def test_the_runs_of_a_model_are_found_by_an_index_and_not_sorted(store: Store) -> None:
    seen: list[str] = []
    with store.reading() as db:
        db.set_trace_callback(seen.append)
        count_outcomes(db, "sha256:m", newest=False)
        db.set_trace_callback(None)
        plan = _plan(db, next(sql for sql in seen if "runs_by_model" in sql))
    assert any("SEARCH runs USING INDEX runs_by_model" in line for line in plan)


def _plan(db: sqlite3.Connection, sql: str) -> list[str]:
    return [str(row["detail"]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}")]


def test_a_tool_or_project_without_a_past_says_nothing() -> None:
    before = {Group("shop", None): Tally(successes=40, total=50), Group("shop", "sql"): Tally(successes=9, total=10)}
    after = {Group("shop", None): Tally(successes=40, total=50), Group("new", None): Tally(successes=0, total=90)}
    followed = compare_groups(before, after)
    assert [(one.project, one.tool) for one in followed] == [("shop", None)]
    assert mean_evidence(followed) < 1
    assert mean_evidence(()) == 1.0


def test_a_server_goes_back_without_being_asked(home: Home, store: Store, work: Work) -> None:
    old = _model(home, "old")
    work(old, 30, good=True)
    new = _model(home, "new", against=old)

    async def served() -> None:
        asking = asyncio.create_task(keep_watch(home, store, rollback=True, every_s=0.01))
        await asyncio.to_thread(work, new, 25, good=False)
        while _live(home) != "old":
            await asyncio.sleep(0.01)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking

    asyncio.run(served())
    assert len(store.jobs(JOB)) == 1
