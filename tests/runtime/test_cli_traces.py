import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.runtime.store_samples import DONE, OK, header, intent, label, turn

from koboshi_runtime.cli.db import db
from koboshi_runtime.cli.outcome import outcome
from koboshi_runtime.cli.traces import traces
from koboshi_runtime.home import open_home
from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.store import RunRecorder, Store

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with two runs: `aaaa` was a success, `bbbb` waits for a label."""
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    store = Store.open(open_home().traces)
    for run_id, prompt in (("aaaa", "Count \x1b[31mapples"), ("bbbb", "Count pears")):
        recorder = RunRecorder(store, run_id)
        recorder.start(header(prompt))
        recorder.turn(turn())
        recorder.intent(intent(run_id))
        recorder.result(run_id, OK)
        if run_id == "aaaa":
            recorder.outcome(label(OutcomeLabel.SUCCESS))
        recorder.end(DONE)
        asyncio.run(recorder.commit())
    store.close()
    return tmp_path / "home"


def run(command: object, *arguments: str, text: str | None = None) -> Result:
    result = CliRunner().invoke(command, arguments, input=text, catch_exceptions=False)  # type: ignore[arg-type]
    assert result.exit_code == 0, result.output
    return result


def test_a_list_shows_the_newest_first_and_escapes_what_was_written() -> None:
    lines = run(traces, "list").stdout.splitlines()
    shown = [line.split()[0] for line in lines if line.strip().startswith(("aaaa", "bbbb"))]
    assert shown == ["bbbb", "aaaa"]
    assert "\x1b[31m" not in "".join(lines)


def test_the_bare_noun_lists() -> None:
    assert run(traces).stdout == run(traces, "list").stdout


def test_a_list_as_json_holds_every_column() -> None:
    rows = json.loads(run(traces, "list", "--outcome", "success", "--json").stdout)
    assert [(row["run_id"], row["outcome"], row["tools"]) for row in rows] == [("aaaa", "success", ["calculator"])]


def test_show_takes_a_short_id_and_at_last_and_standard_input() -> None:
    last = run(traces, "show", "@last").stdout
    assert last == run(traces, "show", "bb").stdout == run(traces, "show", "-", text="bbbb\n").stdout
    assert "call calculator(expression='6*7')" in last


def test_search_names_the_run_and_the_place() -> None:
    assert [hit["run_id"] for hit in json.loads(run(traces, "search", "pears", "--json").stdout)] == ["bbbb"]


def test_export_writes_a_run_a_line() -> None:
    lines = [json.loads(line) for line in run(traces, "export").stdout.splitlines()]
    assert [(line["run_id"], line["messages"][0]["role"]) for line in lines] == [("aaaa", "user"), ("bbbb", "user")]
    raw = run(traces, "export", "aaaa", "--format", "trajectory").stdout
    assert json.loads(raw)["header"]["prompt"] == "Count \x1b[31mapples"


def test_a_label_takes_a_run_from_the_queue() -> None:
    assert [row["run_id"] for row in json.loads(run(outcome, "queue", "--json").stdout)] == ["bbbb"]
    said = json.loads(run(outcome, "set", "bbbb", "failure", "--why", "wrong", "--who", "me", "--json").stdout)
    assert said == {"run_id": "bbbb", "outcome": "failure", "left": 0}
    assert json.loads(run(outcome, "queue", "--json").stdout) == []


def test_a_persons_label_does_not_outrank_the_checker() -> None:
    assert run(outcome, "set", "aaaa", "failure").stdout == "aaaa counts as success. 1 run waits for a label.\n"


def test_the_database_is_found_and_sound(home: Path) -> None:
    assert run(db).stdout.strip() == str(home / "traces.db")
    report = json.loads(run(db, "check", "--json").stdout)
    assert (report["ok"], report["runs"], report["steps"], report["in_doubt"]) == (True, 2, 2, 0)
