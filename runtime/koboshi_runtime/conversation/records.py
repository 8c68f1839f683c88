"""How a conversation that somebody else's program leads is stored: its runs, their calls, and their ends.

A run ends with an answer. One whose last reply is a call may still go on: its caller has it in hand. Who serves such
conversations closes it when nobody has come back to it for long, or when somebody says how it went; the calls that
nobody told of are then `not_executed`.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from koboshi_policies import Decision, Verdict
from koboshi_tools import ToolCall, ToolResult, ToolVerdict, Transport

from ..model import Reply
from ..parse import AnswerReply, CallReply, InvalidReply, ParsedReply, parse_reply
from ..records import CallIntent, EndReason, Purpose, RunEnd, RunHeader, RunStatus, Segment, TurnKind, TurnRecord
from ..store import RunRecorder, Store
from ..store.owner import is_alive
from .messages import PromptWriter, Told
from .place import StepPlace

_ALLOWED = Decision(verdict=Verdict.ALLOW, reason="not enforced: client-executed")
# No policy of ours stood over these calls.
_NO_POLICY = "none"


@dataclass(frozen=True, slots=True)
class Records:
    """Where turns are stored.

    `taken` are the steps that are being written, so that none is written twice. `open` are the runs that may go on: how
    many steps they have, and since when (seconds of the monotonic clock).
    """

    store: Store
    taken: set[tuple[str, int]] = field(default_factory=set)
    open: dict[str, tuple[int, float]] = field(default_factory=dict)

    def note(self, run_id: str, steps: int, *, ended: bool) -> None:
        """Keep that a turn of a run was stored, and how many steps it has now."""
        if ended:
            self.open.pop(run_id, None)
        else:
            self.open[run_id] = (steps, time.monotonic())

    def adopt(self) -> None:
        """Keep the runs that processes which have ended left open, as if something was added to them now."""
        sql = (
            "SELECT run_id, owner, (SELECT count(*) FROM steps s WHERE s.run_id = r.run_id) AS steps FROM runs r "
            "WHERE status = 'running' AND policy_hash = ?"
        )
        with self.store.reading() as db:
            found = db.execute(sql, (_NO_POLICY,)).fetchall()
        for row in found:
            if row["owner"] is not None and not is_alive(row["owner"]):
                self.note(row["run_id"], row["steps"], ended=False)

    async def close(self, run_id: str) -> None:
        """End a run that may still go on, unless a step of it is being written; any other is left as it is."""
        steps, _ = self.open.pop(run_id, (0, 0.0))
        if not steps or (run_id, steps) in self.taken:
            return
        stored = self.store.trajectory(run_id)
        if stored.end is not None or len(stored.turns) != steps:
            # It went on in another process.
            return
        last, header, recorder = stored.turns[-1], stored.header, RunRecorder(self.store, run_id)
        parsed = parse_reply(header.profile, last.reply.text, last.reply.finish, header.tool_specs)
        for index, call in enumerate(parsed.calls if isinstance(parsed, CallReply) else ()):
            _record(recorder, last.index, index, call, ToolResult(transport=Transport.NOT_EXECUTED, output=""))
        recorder.end(RunEnd(status=RunStatus.FINISHED, reason=EndReason.NOT_EXECUTED, answer=None))
        await recorder.commit()

    async def close_idle(self, seconds: float) -> None:
        """End every run that nothing was added to for that long."""
        before = time.monotonic() - seconds
        for run_id in [run_id for run_id, (_, since) in self.open.items() if since <= before]:
            await self.close(run_id)


def header_of(writer: PromptWriter, place: StepPlace) -> RunHeader:
    """Return the header of a run that begins at `place`."""
    manner, info = writer.manner, writer.model.info
    return RunHeader(
        prompt=place.question,
        purpose=Purpose.WORK,
        split=place.split,
        model_hash=info.model_hash,
        profile=info.profile,
        condition=manner.condition if info.profile.conditions else None,
        policy_hash=_NO_POLICY,
        project=manner.project,
        seed=manner.seed,
        temperature=manner.temperature,
        top_p=manner.top_p,
        tools=tuple(spec.name for spec in manner.tools),
        parent_run_id=place.parent,
        system=manner.system,
        tool_specs=manner.tools,
    )


def record_results(recorder: RunRecorder, step: int, calls: Sequence[ToolCall], told: Told) -> None:
    """Record the calls of a step with what they gave, as whoever made them says."""
    for index, (call, result) in enumerate(zip(calls, told.results, strict=False)):
        verdict = ToolVerdict.ERROR if result.failed else ToolVerdict.OK
        _record(recorder, step, index, call, ToolResult(transport=Transport.OK, output=result.output, verdict=verdict))


def _record(recorder: RunRecorder, step: int, index: int, call: ToolCall, result: ToolResult) -> None:
    key = f"{recorder.run_id}/{step}/{index}"
    recorder.intent(
        CallIntent(
            step_index=step,
            call_index=index,
            call=call,
            decision=_ALLOWED,
            tool_version=None,
            tool_digest=None,
            effect=None,
            idempotent=False,
            idempotency_key=key,
        )
    )
    recorder.result(key, result)


def turn_of(step: int, segments: tuple[Segment, ...], reply: Reply, parsed: ParsedReply) -> TurnRecord:
    """Return a reply as a step."""
    kinds = {CallReply: TurnKind.CALL, AnswerReply: TurnKind.ANSWER, InvalidReply: TurnKind.INVALID}
    return TurnRecord(
        index=step,
        segments=segments,
        reply=reply,
        kind=kinds[type(parsed)],
        error=parsed.error if isinstance(parsed, InvalidReply) else None,
        # An answer that was cut stays; a call that was cut does not.
        in_context=not (isinstance(parsed, InvalidReply) and parsed.calls_begun),
    )


def end_of(parsed: ParsedReply) -> RunEnd | None:
    """Return how a run ends by this reply; a call, also a broken one, is answered and so goes on."""
    if isinstance(parsed, AnswerReply):
        return RunEnd(status=RunStatus.FINISHED, reason=EndReason.ANSWER, answer=parsed.text)
    if isinstance(parsed, InvalidReply) and not parsed.calls_begun:
        return RunEnd(status=RunStatus.FINISHED, reason=EndReason.TOKEN_BUDGET, answer=None)
    return None
