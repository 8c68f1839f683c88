"""A conversation between programs: what every format here is made of, and read into.

`Conversation` is the one value in the middle: a writer turns it into a record, a reader a record into it, and what was
written and read back is equal. Consecutive responses are one, as no format keeps them apart.
"""

import re
from collections.abc import Iterable
from typing import Any

from pydantic import Field

from koboshi_tools import Frozen, ToolSpec

from ..formats import tool_format
from ..model import PromptProfile
from ..prompt import THINKING, without_thinking
from ..records import FOREIGN, OutcomeLabel, Purpose, Trajectory, TurnKind, TurnRecord
from ..talk import MadeCall, Question, Remark, Response

IMPORTED_MODEL = "imported:"
"""Before the name of a model that no home holds, so that nothing that it did counts as done by one of ours."""

_TAGS = re.compile(r"\A<think>|</think>\s*\Z")


class LeftOut(Exception):
    """A record that is sound and holds what no run of ours can; the message is the reason, a few words."""


class Conversation(Frozen):
    """What was said, what the model was offered, and how it went.

    `run_id` is its name where it was recorded, `model` the name or hash of who responded. `score` is what a program
    that knows no verdicts said of it. The first `copied` remarks are context only: nobody is to learn them.
    """

    remarks: tuple[Remark, ...]
    system: str = ""
    tools: tuple[ToolSpec, ...] = ()
    model: str = ""
    run_id: str | None = None
    created_at: str | None = None
    purpose: Purpose = Purpose.WORK
    label: OutcomeLabel = OutcomeLabel.UNKNOWN
    score: float | None = None
    copied: int = Field(default=0, ge=0)


def conversation_of(trajectory: Trajectory) -> Conversation:
    """Return what was said in a run, without replies that never entered the prompt."""
    header = trajectory.header
    responses = [_response(turn, trajectory) for turn in trajectory.turns if turn.in_context]
    scores = [outcome.score for outcome in trajectory.outcomes if outcome.label is trajectory.outcome]
    return Conversation(
        remarks=tidy((*header.history, Question(text=header.prompt), *responses)),
        system=header.system,
        tools=header.tool_specs,
        model=header.model_hash.removeprefix(IMPORTED_MODEL),
        run_id=trajectory.run_id,
        created_at=trajectory.created_at,
        purpose=header.purpose,
        label=trajectory.outcome,
        score=scores[-1] if scores else None,
        copied=len(header.history),
    )


def tidy(remarks: Iterable[Remark]) -> tuple[Remark, ...]:
    """Return remarks with every response that follows one without calls joined to it, and no empty ones."""
    joined: list[Remark] = []
    for remark in remarks:
        last = joined[-1] if joined else None
        if isinstance(remark, Response) and isinstance(last, Response) and not last.calls:
            joined[-1] = Response(
                text=_paragraphs(last.text, remark.text),
                thought=_paragraphs(last.thought, remark.thought),
                calls=remark.calls,
            )
        else:
            joined.append(remark)
    return tuple(joined)


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text)


def with_thought(text: str, thought: str) -> str:
    """Return a reply as a model writes it that thinks first; `split_thought` takes it apart."""
    return f"<think>\n{thought}\n</think>\n\n{text}" if thought else text


def split_thought(text: str) -> tuple[str, str]:
    """Return what was said and what was thought, both without blanks around them."""
    thoughts = [_TAGS.sub("", found.group()).strip() for found in THINKING.finditer(text)]
    return without_thinking(text).strip(), _paragraphs(*thoughts)


def _response(turn: TurnRecord, trajectory: Trajectory) -> Response:
    text, thought = split_thought(turn.reply.text)
    if turn.kind is not TurnKind.CALL:
        return Response(text=text, thought=thought)
    made = (call for call in trajectory.calls if call.intent.step_index == turn.index)
    calls = tuple(MadeCall(call=each.intent.call, result=each.result) for each in made)
    return Response(text=_before_calls(text, trajectory.header.profile), thought=thought, calls=calls)


def _before_calls(text: str, profile: PromptProfile) -> str:
    """Return what was said before the calls: in a profile of ours they stand in the text itself."""
    if profile == FOREIGN:
        return text
    opening = tool_format(profile.tool_format).opening
    return text.partition(opening)[0].strip() if opening else ""


def about(conversation: Conversation) -> dict[str, Any]:
    """Return what a record says of a run beside what was said in it; `read_about` reads it."""
    found: dict[str, Any] = {
        "run_id": conversation.run_id,
        "created_at": conversation.created_at,
        "outcome": conversation.label.value,
        "purpose": conversation.purpose.value,
        "model": conversation.model,
    }
    return found if conversation.score is None else {**found, "score": conversation.score}
