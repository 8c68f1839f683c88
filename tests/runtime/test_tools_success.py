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
    newest = CliRunner().invoke(main, ["tools", "success", "--newest", "1"]).stdout.splitlines()
    assert [line.split("\t")[3:5] for line in newest] == [["calls", "went well"], ["1", "0"]]
