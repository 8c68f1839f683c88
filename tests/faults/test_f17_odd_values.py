"""F17: clock jumps, bytes that are not UTF-8, NULs and a line of 10 MB are stored and read back equal."""

import asyncio
import json
import os
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.runtime.store_samples import DONE, header, intent, turn

from koboshi_runtime.cli import main
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.house.backup import back_up, restore
from koboshi_runtime.interchange.importing import import_runs
from koboshi_runtime.interchange.raw import raw_record
from koboshi_runtime.interchange.reading import read_runs
from koboshi_runtime.records import RunHeader, Trajectory
from koboshi_runtime.store import RunRecorder, Store
from koboshi_runtime.store import write as store_write
from koboshi_tools import ToolCall, ToolResult, Transport

BYTES = bytes(range(256)).decode("utf-8", "surrogateescape")
ODD = {
    "bytes": BYTES,
    "nul": "\x00a\x00",
    "lone surrogates": "\udfff\udc00\ud800",
    "only blanks": " \t\r\n\v\f\u2028",
    "empty": "",
}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return open_home(path=tmp_path / "home")


def put(store: Store, run_id: str, odd: str) -> None:
    """Record a run that holds the text wherever a text can stand."""
    recorder = RunRecorder(store, run_id)
    recorder.start(header(odd or "empty").model_copy(update={"system": odd, "task": {"meta": {"odd": odd}}}))
    written = turn().reply.model_copy(update={"text": odd})
    recorder.turn(turn(written=written).model_copy(update={"error": odd}))
    call = ToolCall(name="look", arguments={"odd": odd, "list": [odd, {"deep": odd}]})
    recorder.intent(intent(f"{run_id}:0").model_copy(update={"call": call}))
    recorder.result(f"{run_id}:0", ToolResult(transport=Transport.OK, output=odd))
    recorder.end(DONE.model_copy(update={"answer": odd}))
    asyncio.run(recorder.commit())


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
def test_odd_text_is_read_back_equal_also_from_an_export_and_a_backup(home: Home, tmp_path: Path, odd: str) -> None:
    with closing(Store.open(home.traces)) as store:
        put(store, "a" * 16, odd)
        found = store.trajectory("a" * 16)
        assert store.check().problems == ()
    assert found.header.prompt == (odd or "empty")
    assert (found.header.system, found.header.task) == (odd, {"meta": {"odd": odd}})
    assert (found.turns[0].reply.text, found.turns[0].error) == (odd, odd)
    assert found.calls[0].intent.call.arguments == {"odd": odd, "list": [odd, {"deep": odd}]}
    assert (found.calls[0].result, found.end) == (
        ToolResult(transport=Transport.OK, output=odd),
        DONE.model_copy(update={"answer": odd}),
    )
    (file := tmp_path / "raw.jsonl").write_text(json.dumps(raw_record(found)), encoding="utf-8")
    assert _imported(tmp_path / "other", file) == found.model_copy(
        update={"header": found.header.model_copy(update={"imported": "file"})}
    )
    back_up(home, tmp_path / "copy")
    again = Home(tmp_path / "again")
    restore(tmp_path / "copy", again)
    with closing(Store.open(again.traces)) as store:
        assert store.trajectory("a" * 16) == found


def _imported(place: Path, file: Path) -> Trajectory:
    with closing(Store.open(open_home(path=place).traces)) as store:
        import_runs(store, read_runs(file).runs, source="file", project="shop")
        return store.trajectory("a" * 16)


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["x" * 64, "\udcff" + "y" * 63], ids=["text", "bytes"])
def test_a_line_of_10_mb_is_read_back_equal(home: Home, tmp_path: Path, piece: str) -> None:
    line = piece * (10 << 14)
    with closing(Store.open(home.traces)) as store:
        recorder = RunRecorder(store, "a" * 16)
        recorder.start(header())
        recorder.turn(turn(written=turn().reply.model_copy(update={"text": line})))
        recorder.intent(intent("k"))
        recorder.result("k", ToolResult(transport=Transport.OK, output=line))
        recorder.end(DONE)
        asyncio.run(recorder.commit())
        found = store.trajectory("a" * 16)
    assert found.turns[0].reply.text == line
    assert found.calls[0].result == ToolResult(transport=Transport.OK, output=line)
    (file := tmp_path / "raw.jsonl").write_text(json.dumps(raw_record(found)), encoding="utf-8")
    assert _imported(tmp_path / "other", file).turns == found.turns
    shown = CliRunner(env={"KOBOSHI_HOME": str(home.root)}).invoke(main, ["traces", "list"])
    assert (shown.exit_code, len(shown.stdout) < 1000) == (0, True)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """Give each row the next of these times."""
    times: list[datetime] = []

    def jumping() -> str:
        return (times.pop(0) if times else datetime.now(UTC)).isoformat(timespec="milliseconds")

    monkeypatch.setattr(store_write, "utc_now", jumping)
    return times


def test_order_is_that_of_writing_however_the_clock_jumps(home: Home, clock: list[datetime]) -> None:
    now = datetime.now(UTC)
    jumps = [timedelta(0), timedelta(days=400), timedelta(days=-20_000), timedelta(seconds=-1), timedelta(hours=1)]
    with closing(Store.open(home.traces)) as store:
        for number, jump in enumerate(jumps):
            clock[:] = [now + jump, now - jump] * 20
            put(store, f"run{number:013}", f"asked {number}")
        written = [f"run{number:013}" for number in range(len(jumps))]
        assert [row.run_id for row in store.runs()] == written[::-1]
        assert [run.run_id for run in store.iter_trajectories()] == written
        assert store.resolve("@last") == written[-1]
        assert [run.created_at[:4] for run in store.iter_trajectories()][2] == str((now + jumps[2]).year)
        assert store.check().problems == ()
    env = os.environ | {"KOBOSHI_HOME": str(home.root)}
    for verb in (
        ["traces", "list"],
        ["outcome", "queue"],
        ["traces", "export", "--format", "otlp"],
        ["gc", "--dry-run"],
    ):
        assert CliRunner(env=env).invoke(main, verb).exit_code == 0


def test_a_header_with_odd_names_is_equal(home: Home) -> None:
    odd = header().model_copy(update={"project": BYTES, "task_id": "\x00", "tools": ("\udcff",)})
    with closing(Store.open(home.traces)) as store:
        recorder = RunRecorder(store, "b" * 16)
        recorder.start(odd)
        asyncio.run(recorder.commit())
        found: RunHeader = store.trajectory("b" * 16).header
    assert found == odd
