"""Encode imported runs in the ids of the model that will learn them.

What other programs recorded has words and no ids of ours. It is rendered by the functions that render every prompt, as
the model would have written it: replies like demonstrations, results like a tool's. Whatever ids an imported run brings
are dropped, because a file can hold other ids than its text says. Thoughts are not taught.
"""

import math
from collections.abc import Sequence

from koboshi_runtime.conversation.messages import Asked, CallOutput, Manner, Message, PromptWriter, Said, Told
from koboshi_runtime.interchange.conversation import conversation_of
from koboshi_runtime.model import FinishReason, Model, PromptProfile, Reply
from koboshi_runtime.records import Segment, Trajectory, TurnKind, TurnRecord
from koboshi_runtime.talk import Question, Remark, Response
from koboshi_tools import ToolVerdict


async def encoded(trajectories: Sequence[Trajectory], model: Model, profile: PromptProfile) -> list[Trajectory]:
    """Return the trajectories, every imported one with the ids that its words have for `model` under `profile`."""
    return [await _encoded(each, model, profile) if each.header.imported else each for each in trajectories]


async def _encoded(trajectory: Trajectory, model: Model, profile: PromptProfile) -> Trajectory:
    found = conversation_of(trajectory)
    writer = PromptWriter(model, Manner(system=found.system, tools=found.tools, condition=None))
    writer.profile = profile
    begin = found.copied + 1
    await writer.write([message for remark in found.remarks[:begin] for message in _messages(remark)])
    calling = (turn.index for turn in trajectory.turns if turn.in_context and turn.kind is TurnKind.CALL)
    turns: list[TurnRecord] = []
    for remark in found.remarks[begin:]:
        segments = writer.new_segments(len(turns))
        said, *told = _messages(remark)
        await writer.write([said])
        # What was decided about a call stands under the index of its turn; an answer is the last turn.
        index = next(calling) if isinstance(remark, Response) and remark.calls else trajectory.turns[-1].index
        turns.append(_turn(index, segments, writer.segments[-1], remark))
        await writer.write(told)
    header = trajectory.header.model_copy(update={"profile": profile, "condition": None})
    return trajectory.model_copy(update={"header": header, "turns": tuple(turns)})


def _turn(index: int, segments: tuple[Segment, ...], written: Segment, remark: Remark) -> TurnRecord:
    nothing = (math.nan,) * len(written.ids)
    reply = Reply(
        ids=written.ids,
        sampled=(True,) * len(written.ids),
        raw_logprobs=nothing,
        behaviour_logprobs=nothing,
        text=written.text,
        finish=FinishReason.STOP,
    )
    calls = isinstance(remark, Response) and remark.calls
    return TurnRecord(index=index, segments=segments, reply=reply, kind=TurnKind.CALL if calls else TurnKind.ANSWER)


def _messages(remark: Remark) -> list[Message]:
    """Return a remark as the prompt writer takes it: a question, or a reply and then what its calls gave."""
    if isinstance(remark, Question):
        return [Asked(text=remark.text)]
    said = Said(text=remark.text, calls=tuple(made.call for made in remark.calls))
    outputs = tuple(
        CallOutput(tool=made.call.name, output=made.result.output, failed=made.result.verdict is ToolVerdict.ERROR)
        for made in remark.calls
        if made.result
    )
    return [said, Told(results=outputs)] if outputs else [said]
