"""`koboshi tools success`: calls and outcomes by tool, version and model."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.runtime.store_samples import OK, header, label, record

from koboshi_runtime.cli import main
from koboshi_runtime.home import open_home
from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.store import Store
from koboshi_runtime.store.tools import tool_rows
from koboshi_tools import ToolResult, Transport


def test_calls_and_the_outcomes_of_their_runs_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    store = Store.open(open_home().traces)
    good, bad = label(OutcomeLabel.SUCCESS), label(OutcomeLabel.FAILURE)
    record(store, "a", header("One"), outcomes=(good,), calls=(("sql", OK), ("sql", OK)))
    record(store, "b", header("Two"), outcomes=(bad,), calls=(("sql", None),))
    store.close()
    (row,) = json.loads(CliRunner().invoke(main, ["tools", "success", "--json"]).stdout)
    assert (row["tool"], row["version"], row["calls"], row["fine"]) == ("sql", "1", 3, 2)
    assert (row["in_doubt"], row["judged"], row["succeeded"]) == (1, 2, 1)
    assert row["not_executed"] == 0
    newest = CliRunner().invoke(main, ["tools", "success", "--newest", "1"]).stdout.splitlines()
    assert [line.split("\t")[3:5] for line in newest] == [["calls", "went well"], ["1", "0"]]


def test_a_call_that_is_only_recorded_could_not_go_well(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "traces.db")
    asked = ToolResult(transport=Transport.NOT_EXECUTED, output="")
    record(store, "a", header("One"), calls=(("get_weather", asked), ("get_weather", OK)))
    with store.reading() as db:
        (row,) = tool_rows(db)
    assert (row.calls, row.attempted, row.fine, row.not_executed) == (2, 1, 1, 1)
    store.close()
