"""What the views do: labels in the queue, answers to questions, a policy that explains, two runs beside each other."""

import asyncio
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from tests.runtime.store_samples import header, intent, record
from tests.runtime.tui.driving import Driven, drive, looking_at

from koboshi_policies import Answer
from koboshi_runtime.approvals import approvals, question
from koboshi_runtime.home import open_home
from koboshi_runtime.night_sign import AtWork
from koboshi_runtime.store import Store
from koboshi_runtime.store.owner import this_process
from koboshi_runtime.store.rows import JobRow, JobStatus
from koboshi_runtime.tui.look import Changes
from koboshi_runtime.tui.nights_view import NIGHT, success_by_night, summary
from koboshi_runtime.tui.plot import Drawn, bar, curve
from koboshi_runtime.tui.theme import DARK, palette_of
from koboshi_tools import Frozen
from koboshi_trainer.fit_values import FitReport
from koboshi_trainer.gate.values import GateVerdict, Reason, ToolRow
from koboshi_trainer.morning.report import Cost, Kind, Learnt, Morning
from koboshi_trainer.night import readiness

STYLES = palette_of(DARK)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    store = Store.open(open_home(path=tmp_path / "home").traces)
    for number, answer in enumerate(("one", "two")):
        record(store, f"{number}aaa000000000001", header("Count the apples"), text=f"They are {answer}.")
    store.close()
    return tmp_path / "home"


def _ask(home: Path, run_id: str = "0aaa000000000001") -> None:
    store = Store.open(home / "traces.db")
    asked = intent(f"{run_id}:asked", tool="files_write")
    store.submit(question(run_id, asked, "sha256:01", attended=True)).result()
    store.close()


def test_the_queue_shrinks_by_one_with_each_key_and_undo_brings_the_run_back(home: Path) -> None:
    async def look(driven: Driven) -> None:
        await driven.press("2", "y")
        await driven.until(lambda: "1 wait" in driven.text())
        await driven.press("z")
        await driven.until(lambda: "2 wait" in driven.text())

    drive(home, look)


def test_a_question_that_comes_is_announced_and_answered_by_one_key(home: Path) -> None:
    async def look(driven: Driven) -> None:
        await driven.until(lambda: driven.app._questions == 0)
        await asyncio.to_thread(_ask, home)
        await driven.until(lambda: any("asks for permission" in said for said in driven.told()))
        await driven.press("3")
        assert "▸ waiting" in driven.text()
        await driven.press("y")
        await driven.until(lambda: "no call waits" in driven.text())

    drive(home, look)
    store = Store.read_only(home / "traces.db")
    assert [each.answer for each in approvals(store, answered=True)] == [Answer.APPROVED]


def test_a_question_that_comes_while_another_is_read_is_not_the_one_that_is_granted(home: Path) -> None:
    _ask(home)

    async def look(driven: Driven) -> None:
        await driven.press("3")
        await asyncio.to_thread(_ask, home, "1aaa000000000001")
        await driven.until(lambda: driven.text().count("▸ waiting") == 2)
        await driven.press("y")

    drive(home, look)
    store = Store.read_only(home / "traces.db")
    answers = {each.run_id[0]: each.answer for each in approvals(store, answered=True)}
    assert answers == {"0": Answer.APPROVED, "1": None}


def test_a_question_answered_elsewhere_meanwhile_says_so(home: Path) -> None:
    _ask(home)

    async def look(driven: Driven) -> None:
        await driven.press("3")
        view = driven.app._here
        chosen = view.chosen  # type: ignore[attr-defined]
        await asyncio.to_thread(driven.app.look.answer, chosen.approval_id, Answer.REFUSED)
        await driven.press("y")
        assert any("is not open" in said for said in driven.told())

    drive(home, look)


def test_a_call_of_a_run_is_explained_by_the_rules_of_now(home: Path) -> None:
    store = Store.open(home / "traces.db")
    record(store, "caaa000000000001", header("With a call"), calls=(("calculator", None),))
    store.close()

    async def look(driven: Driven) -> None:
        await driven.press("enter", "e", *["down"] * 7, "p")
        await driven.until(lambda: "✓ allow calculator" in driven.text())
        assert "arithmetic" in driven.text()

    drive(home, look)


def test_arguments_that_do_not_parse_are_told_while_they_are_written(home: Path) -> None:
    async def look(driven: Driven) -> None:
        await driven.press("7", "e", *"sql", "tab", *"[1]")
        assert "the arguments are list, not an object" in driven.text()

    drive(home, look)


def test_two_runs_of_a_task_stand_beside_each_other_and_the_difference_is_found(home: Path) -> None:
    async def look(driven: Driven) -> None:
        await driven.press("d")
        assert "they part at step 0" in driven.lines()[0]
        await driven.press("o")
        assert any("They are one." in line and "≠" in line and "They are two." in line for line in driven.lines())

    drive(home, look)


def _job(status: JobStatus, **result: object) -> JobRow:
    return JobRow(
        job_id="j", kind="nightly", status=status, manifest={}, result=result, started_at="2026", finished_at=None
    )


def test_a_night_in_one_line() -> None:
    refused = _job(JobStatus.REFUSED, kind="refused", candidate="night-2", reasons=["too few tasks"])
    assert summary(refused) == "night-2 was refused: too few tasks"
    assert summary(_job(JobStatus.DONE, kind="nothing", reasons=["no new labels"])) == "no new labels"
    assert summary(_job(JobStatus.INTERRUPTED, error="killed")) == "killed"
    assert summary(_job(JobStatus.RUNNING)) == "at work"


def test_success_by_night_is_that_of_the_model_that_stayed() -> None:
    nights = [
        _job(JobStatus.REFUSED, verdict={"accepted": False, "current_rate": 0.5, "candidate_rate": 0.4}),
        _job(JobStatus.DONE, verdict={"accepted": True, "current_rate": 0.3, "candidate_rate": 0.5}),
        _job(JobStatus.DONE),
    ]
    assert success_by_night(nights) == [0.3, 0.5, 0.5]


def test_a_curve_has_its_highest_and_lowest_value_and_a_gap_where_there_is_none() -> None:
    shown = curve([1.0, math.nan, 3.0], Drawn(STYLES.name, STYLES.quiet), width=26, height=4)
    top, middle, low, axis = shown.plain.splitlines()
    assert top.startswith("     3 ┤")
    assert top.rstrip().endswith("█████")
    assert low.startswith("     1 ┤▁▁▁▁▁")
    assert set(low[14:19]) == {" "}
    assert axis.endswith("3")
    assert "█" in middle


def test_more_values_than_cells_share_columns() -> None:
    shown = curve([float(n) for n in range(1000)], Drawn(STYLES.name, STYLES.quiet), width=40, height=4)
    assert {len(line) for line in shown.plain.splitlines()} <= {39, 40, 41}
    assert bar(0.5, 10) == "█████░░░░░"


def test_the_interface_needs_no_model_no_torch_and_no_more_than_it_shows() -> None:
    code = "import sys, koboshi_runtime.tui.app, koboshi_runtime.tui.runs_view; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) & {"torch", "llama_cpp", "langgraph", "transformers", "numpy", "sqlite_utils"} == set()


def test_what_the_nights_show_is_what_the_trainer_stores() -> None:
    """The runtime must not import the trainer, so the words that it reads in a night's record are held here."""
    read: dict[type[Frozen], set[str]] = {
        Morning: {"kind", "candidate", "reasons", "hint", "learnt", "verdict", "cost"},
        Learnt: {"losses", "rows", "held_out_before", "held_out_after"},
        FitReport: {"losses", "label_mix", "held_out_before", "held_out_after"},
        Cost: {"seconds"},
        GateVerdict: {"accepted", "reasons", "current_rate", "candidate_rate", "tools", "tasks", "seeds"},
        ToolRow: {"tool", "tasks", "current_rate", "candidate_rate"},
        Reason: {"text"},
    }
    assert {kind.__name__: names - set(kind.model_fields) for kind, names in read.items()} == {
        kind.__name__: set() for kind in read
    }
    assert {"wins", "losses", "ties", "p_value", "alpha"} <= set(GateVerdict.model_fields)
    assert {kind.value for kind in Kind} == {"promoted", "refused", "nothing", "failed"}
    assert (readiness.JOB, NIGHT) == ("nightly", "nightly")


def test_a_write_is_noticed_without_asking_the_store_and_told_once_more(home: Path) -> None:
    store = Store.open(home / "traces.db")
    changes = Changes(store)
    assert [changes.any() for _ in range(3)] == [True, True, False]
    record(store, "caaa000000000001", header("Another"))
    assert [changes.any() for _ in range(3)] == [True, True, False]
    store.close()


def test_a_night_at_work_tells_its_stage_while_its_process_lives(home: Path) -> None:
    look = looking_at(home)
    told = {"owner": this_process(), "pid": 1, "project": "shop", "since": "2026", "stage": "fit"}
    assert AtWork.model_validate(told).stage == "fit"
    (look.home.run / "nightly.json").write_text(json.dumps(told), encoding="utf-8")
    assert look.night_stage() == "fit"
    (look.home.run / "nightly.json").write_text(json.dumps(told | {"owner": "0:0:0"}), encoding="utf-8")
    assert look.night_stage() is None
    look.store.close()
