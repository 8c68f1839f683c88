"""Runs of a scripted model through the real agent and store, and what `why` and `diff` say of them."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.runtime.run_makers import Answers, calls, runner, task

from koboshi_runtime.cli import main
from koboshi_runtime.home import open_home
from koboshi_runtime.project import Budgets
from koboshi_runtime.records import Outcome, OutcomeLabel, OutcomeSource, Trajectory
from koboshi_runtime.store import Store
from koboshi_runtime.traces.diff import compare, diff_cells
from koboshi_runtime.traces.why import explain

LOOK, NOTE = calls(("look", {"key": "a"})), calls(("banned", {"text": "x"}))


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    monkeypatch.setenv("KOBOSHI_HOME", str(tmp_path / "home"))
    opened = Store.open(open_home().traces)
    yield opened
    opened.close()


def ran(store: Store, tmp_path: Path, replies: Sequence[str], **settings: object) -> Trajectory:
    """Return a run of the task whose right answer is `done`."""
    result = asyncio.run(runner(tmp_path, store, replies, **settings).run(task()))  # type: ignore[arg-type]
    return store.trajectory(result.run_id)


def test_a_run_in_which_nothing_went_wrong_says_so(store: Store, tmp_path: Path) -> None:
    why = explain(ran(store, tmp_path, [LOOK, "done"]), model="smollm2")
    assert (why.asked, why.wrong, why.step) == ("Do t. (work, task t, model smollm2)", "nothing", None)
    assert (why.rule, why.outcome) == ("the only call was allowed, by rule-1", "success by checker (exact)")
    assert why.next == "make a task of it: koboshi tasks from-runs"


def test_the_first_fault_is_the_earliest_and_an_invalid_reply_is_one(store: Store, tmp_path: Path) -> None:
    why = explain(ran(store, tmp_path, [LOOK, "<tool_call>\n{", NOTE, "no"]))
    assert why.step == 1
    assert why.wrong.startswith("step 1: the reply was neither a valid call nor an answer")
    assert why.rule.startswith("banned in step 2: deny by ")


def test_a_denied_call_names_its_rule_and_how_to_see_all_of_them(store: Store, tmp_path: Path) -> None:
    why = explain(ran(store, tmp_path, [NOTE, "no"]))
    assert why.wrong == "step 0: banned was not allowed"
    assert "rules.toml:" in why.rule
    assert why.next == """see all rules about it: koboshi policy explain banned '{"text":"x"}'"""


def test_a_call_that_nobody_was_there_to_allow_points_to_the_approvals(store: Store, tmp_path: Path) -> None:
    why = explain(ran(store, tmp_path, [calls(("ask_note", {"text": "x"})), "no"]))
    assert why.next == "allow that call for its next time: koboshi approvals list"
    refused = explain(ran(store, tmp_path, [calls(("ask_note", {"text": "x"})), "no"], asker=Answers([False])))
    assert "refused by a person" in refused.rule
    assert refused.next.startswith("see all rules about it")


def test_a_wrong_answer_after_good_steps_is_the_fault(store: Store, tmp_path: Path) -> None:
    found = ran(store, tmp_path, [LOOK, "gone"])
    why = explain(found)
    assert why.wrong == "step 1: every step went as it should, but the answer is wrong: gone"
    assert why.outcome.startswith("failure by checker (exact): ")
    assert why.next.startswith(f"see each step: koboshi traces show {found.run_id[:8]}")


def test_a_spent_budget_is_named_with_its_key(store: Store, tmp_path: Path) -> None:
    why = explain(ran(store, tmp_path, [LOOK, LOOK], budgets=Budgets(max_steps=1)))
    assert why.wrong == "step 0: it ended by step_budget"
    assert why.next.startswith("raise max_steps in [agent.budgets] of koboshi.toml")


def test_a_success_got_over_its_fault_and_weaker_labels_are_counted(store: Store, tmp_path: Path) -> None:
    found = ran(store, tmp_path, [NOTE, "done"])
    store.add_outcome(found.run_id, Outcome(label=OutcomeLabel.FAILURE, source=OutcomeSource.PERSON, who="me"))
    why = explain(store.trajectory(found.run_id))
    assert why.wrong.endswith("; the run got over it")
    assert why.outcome == "success by checker (exact) (1 other label counted less)"


def test_an_unjudged_run_asks_for_a_label_and_one_cut_off_is_gone_on_with(store: Store, tmp_path: Path) -> None:
    found = ran(store, tmp_path, ["done"])
    unjudged = explain(found.model_copy(update={"outcomes": ()}))
    assert unjudged.next == f"say how it went: koboshi outcome set {found.run_id[:8]} success|failure"
    open_run = found.model_copy(update={"end": None, "outcomes": ()})
    assert explain(open_run, resumable=True).next == f"go on with it: koboshi run --resume {found.run_id[:8]}"
    assert explain(open_run).next.startswith("wait for it")


def test_what_a_model_wrote_cannot_act_on_the_terminal_or_forge_a_line(store: Store, tmp_path: Path) -> None:
    said = " ".join(
        explain(ran(store, tmp_path, ["\x1b[2J\nnext: rm"])).model_dump(mode="json", exclude={"step"}).values()
    )
    assert said.isprintable()


def test_equal_runs_go_the_same_way_whatever_they_were_given(store: Store, tmp_path: Path) -> None:
    a, b = ran(store, tmp_path, [LOOK, "done"]), ran(store, tmp_path, [LOOK, "done"], seed=5)
    found = compare(a, b)
    assert (found.same, found.parts_at) == (True, None)
    assert [(row.what, row.a, row.b) for row in found.given if not row.same] == [("seed", "0", "5")]


def test_runs_that_part_are_shown_line_by_line(store: Store, tmp_path: Path) -> None:
    found = compare(
        ran(store, tmp_path, [LOOK, "done"]), ran(store, tmp_path, [LOOK, calls(("look", {"key": "b"})), "gone"])
    )
    assert (found.same, found.parts_at) == (False, 1)
    cells = diff_cells(found)
    assert (
        "0",
        "=",
        '{"name": "look", "arguments": {"key": "a"}}',
        '{"name": "look", "arguments": {"key": "a"}}',
    ) in cells
    assert ("1", "≠", "done", "<tool_call>") in cells
    assert ("2", ">", "", "gone") in cells
    assert ("outcome", "≠", "success", "failure") in cells


def test_both_commands_take_short_ids_and_give_json(store: Store, tmp_path: Path) -> None:
    a, b = ran(store, tmp_path, [LOOK, "done"]), ran(store, tmp_path, [LOOK, "gone"])

    def told(*given: str) -> str:
        done = CliRunner().invoke(main, list(given), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    assert [line.split()[0] for line in told("why", a.run_id[:8]).splitlines()] == [
        "asked",
        "wrong",
        "rule",
        "outcome",
        "next",
    ]
    assert json.loads(told("why", "@last", "--json"))["step"] == 1
    assert told("traces", "diff", a.run_id[:8], "@last").splitlines()[0].split("\t") == [
        "step",
        "",
        a.run_id[:8],
        b.run_id[:8],
    ]
    found = json.loads(told("traces", "diff", a.run_id, b.run_id, "--json"))
    assert (found["same"], found["parts_at"], found["steps"][0]["same"]) == (False, 1, True)
