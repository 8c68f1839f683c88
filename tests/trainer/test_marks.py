"""What a policy or a person did to a step, and what of it is learnt."""

from typing import Any

import pytest
from tests.trainer.trajectory_makers import STOP, call_record, trajectory

from koboshi_policies import Answer, Decision, Verdict
from koboshi_runtime.records import OutcomeLabel
from koboshi_tools import Transport
from koboshi_trainer.marks import StepMark, step_marks
from koboshi_trainer.rows import RowError, prefix_and_spans

DENIED: dict[str, Any] = {
    "transport": Transport.DENIED,
    "decision": Decision(verdict=Verdict.DENY, reason="no"),
}
EDITED: dict[str, Any] = {"decision": Decision(verdict=Verdict.MODIFY, reason="few", arguments={"expression": "2"})}
APPROVED: dict[str, Any] = {"decision": Decision(verdict=Verdict.ALLOW, reason="ok", asked=Answer.APPROVED)}
FOREIGN: dict[str, Any] = {
    "transport": Transport.NOT_EXECUTED,
    "decision": Decision(verdict=Verdict.DENY, reason="no implementation here"),
}
CALL, ANSWER = (50, 51, 52, STOP), (60, 61, STOP)


@pytest.mark.parametrize(
    ("call", "mark"),
    [
        (DENIED, StepMark.DENIED),
        (EDITED, StepMark.EDITED),
        (APPROVED, StepMark.APPROVED),
        (EDITED | {"decision": EDITED["decision"].model_copy(update={"asked": Answer.APPROVED})}, StepMark.EDITED),
        (FOREIGN, None),
        ({}, None),
    ],
)
def test_a_step_bears_the_mark_of_what_was_done_to_its_call(call: dict[str, Any], mark: StepMark | None) -> None:
    assert step_marks(trajectory(calls=(call_record(**call),))).get(0) is mark


def test_the_hardest_mark_of_several_calls_is_the_steps() -> None:
    calls = tuple(call_record(**call, call_index=n) for n, call in enumerate((APPROVED, DENIED, EDITED)))
    assert step_marks(trajectory(calls=calls)) == {0: StepMark.DENIED}


@pytest.mark.parametrize(
    ("call", "label", "learnt"),
    [
        (DENIED, OutcomeLabel.SUCCESS, [ANSWER]),
        (EDITED, OutcomeLabel.SUCCESS, [ANSWER]),
        (APPROVED, OutcomeLabel.SUCCESS, [CALL, ANSWER]),
        (DENIED, OutcomeLabel.FAILURE, [CALL, ANSWER]),
        (EDITED, OutcomeLabel.FAILURE, [CALL, ANSWER]),
    ],
)
def test_a_denied_or_edited_call_is_not_learnt_as_a_success(
    call: dict[str, Any], label: OutcomeLabel, learnt: list[tuple[int, ...]]
) -> None:
    _, spans = prefix_and_spans(trajectory(label=label, calls=(call_record(**call),)))
    assert [span.ids for span in spans if span.learn] == learnt
    assert [span.ids for span in spans if span.mark] == [CALL]


def test_a_success_of_denied_calls_alone_is_no_row() -> None:
    calls = (call_record(**DENIED), call_record(**DENIED, step=1))
    with pytest.raises(RowError, match="no well-formed reply that may be learnt"):
        prefix_and_spans(trajectory(calls=calls))
