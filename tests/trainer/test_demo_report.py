"""The demo's report: what it shows of a promotion and of a refusal, and that no text can act through it."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from tests.trainer.trajectory_makers import trajectory

from koboshi_runtime.home import open_home
from koboshi_runtime.records import OutcomeLabel, Trajectory
from koboshi_runtime.statistics import Interval, measure
from koboshi_trainer.demo.report import ConditionScore, Difference, Learning, Report, Score
from koboshi_trainer.demo.report_next import Next
from koboshi_trainer.demo.report_runs import side_by_side
from koboshi_trainer.demo.report_text import markdown, print_report, write_report
from koboshi_trainer.fit_values import FitReport, FitSettings
from koboshi_trainer.gate.judge import judge_gate
from koboshi_trainer.gate.reasons import explain
from koboshi_trainer.gate.values import GateBudget
from koboshi_trainer.pairs import compare

FIT = FitReport(
    fit_hash="sha256:fit",
    optimizer_steps=10,
    kept_step=10,
    rows=80,
    label_mix={"success": 50, "failure": 30},
    tokens=9000,
    computed_tokens=4000,
    learnt_tokens=2000,
    seconds=12.0,
    tokens_per_s=333.0,
    dtype="bfloat16",
    loss_first=1.2,
    loss_last=0.2,
    losses=(1.2, 0.2),
    gradient_norms=(1.0, 0.5),
    held_out_before={"success": 1.1},
    held_out_after={"success": 0.3},
    stopped_early=False,
    update_norm=1.0,
    settings=FitSettings(),
)


def _runs(labels: str, prompt: str = "two times three") -> list[Trajectory]:
    found = {"+": OutcomeLabel.SUCCESS, "-": OutcomeLabel.FAILURE}
    return [trajectory(f"run-{i}", f"{prompt} {i}", label=found[label]) for i, label in enumerate(labels)]


@pytest.fixture
def report() -> Report:
    """A report of a demo whose candidate was refused, with hostile texts in its runs."""
    first, last = [measure(run) for run in _runs("--+-")], [measure(run) for run in _runs("+-++")]
    verdict = judge_gate(first, last, GateBudget(grant_id="g", alpha=0.01))
    learning = Learning(
        model="after",
        model_hash="sha256:after",
        method="nat",
        promoted=False,
        fit=FIT,
        parity_passed=True,
        parity_reasons=(),
        parity_files=(),
        gate=tuple(explain(verdict)),
    )
    score = Score(
        model="after",
        test_set="test",
        tasks=4,
        success_rate=0.75,
        ci95=Interval(0.3, 0.95),
        invalid_call_rate=0.0,
        mean_steps=2.0,
        by_level={"2": 0.75},
        by_tool={"calculator": 0.75},
    )
    hostile = _runs("+-++", "bad \x1b]0;title\x07\n```\n# forged")
    return Report(
        pack="shop",
        seed=0,
        untrained_as="few-shot",
        scores=(score,),
        differences=(Difference(test_set="test", first="untrained", second="after", comparison=compare(first, last)),),
        learnings=(learning,),
        rollouts={"success": 3, "failure": 5, "unknown": 0},
        conditions=(
            ConditionScore(
                model="after", tasks=4, success_rate=0.75, failure_rate=0.25, comparison=compare(first, last)
            ),
        ),
        runs=side_by_side({"untrained": _runs("--+-"), "seeded": _runs("---+"), "after": hostile}),
        seconds={"live": 8.0},
        next=Next(places={"home": "/tmp/h"}, live="shop-seeded 0123", commands=("export KOBOSHI_HOME=/tmp/h",)),
    )


def _printed(report: Report) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_report(report, console)
    text: str = console.file.getvalue()  # type: ignore[attr-defined]  # it is the StringIO above
    return text


def test_refusal_is_shown_with_its_reasons_and_numbers(report: Report) -> None:
    for text in (markdown(report), _printed(report)):
        assert "the gate: refused" in text
        assert "was refused and is not live" in text
        assert "4 tasks were compared and 50 are the least" in text
        assert "75.0 %" in text
        assert "30 to 95 %" in text


def test_report_says_what_was_learnt_and_what_to_type_next(report: Report) -> None:
    text = markdown(report)
    assert "rows: 50 success, 30 failure (nat); 10 optimizer steps, 9000 tokens, 12 s" in text
    assert "success 1.100 → 0.300" in text
    assert "    export KOBOSHI_HOME=/tmp/h" in text


def test_no_text_of_a_run_can_act_on_a_terminal_or_forge_a_heading(report: Report) -> None:
    for text in (markdown(report), _printed(report)):
        assert "\x1b" not in text
        assert "\x07" not in text
        assert not any(line.startswith(("# forged", "```")) for line in text.splitlines())
    assert "forged" in markdown(report)


def test_report_is_written_as_markdown_and_as_json(report: Report, tmp_path: Path) -> None:
    path = write_report(report, open_home(path=tmp_path / "home"))
    assert path.read_text(encoding="utf-8") == markdown(report)
    assert Report.model_validate(json.loads((path.parent / "demo.json").read_text())) == report


def test_side_by_side_shows_a_task_that_was_won_and_one_that_was_lost() -> None:
    shown = side_by_side({"untrained": _runs("--+--"), "after": _runs("-+-+-")})
    assert [(task.runs["untrained"].outcome, task.runs["after"].outcome) for task in shown] == [
        ("failure", "success"),
        ("success", "failure"),
        ("failure", "failure"),
    ]
    assert shown[0].runs["after"].calls == ("calculator(2*3) = 6",)
