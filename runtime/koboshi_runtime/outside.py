"""Calls that come from outside of any agent, made like an agent's: decided, recorded and carried out by the same nodes.

Each is a run of its own, of purpose `work`, whose prompt names who called and whose one turn no model wrote. Its split
is that of reports, so nothing of it is ever learnt. A program that calls cannot be asked anything: a rule that asks
refuses, until a person approves that call for its next time. A call that was begun is finished and recorded, even if
whoever made it no longer waits.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from koboshi_policies import offerable
from koboshi_tools import Tool, ToolCall, ToolResult, canonical_json

from .call_counts import CallCounts
from .ids import new_id
from .live import LiveRun, RunPlan
from .model import FinishReason, ModelInfo, PromptProfile, Reply
from .nodes import act, check_calls
from .parse import CallReply
from .records import CallIntent, EndReason, Purpose, RunEnd, RunHeader, RunStatus, Split, TurnKind, TurnRecord
from .scripted import ScriptedModel
from .session import Session
from .store import RunRecorder
from .tool_swaps import live_tools

NO_MODEL = ScriptedModel(
    (),
    info=ModelInfo(
        model_hash="outside",
        name="outside",
        architecture="none",
        context_tokens=0,
        parallel=1,
        profile=PromptProfile(template="chatml", tool_format="hermes"),
    ),
)
"""Stands where a run's model would: whoever calls from outside writes no tokens."""


@dataclass(slots=True)
class OutsideCalls:
    """Makes calls with the tools of an open project; `offered` are those that the policy does not deny outright."""

    session: Session
    offered: Mapping[str, Tool]
    counts: CallCounts
    _under_way: set["asyncio.Task[ToolResult]"] = field(default_factory=set)

    @classmethod
    def of(cls, session: Session) -> "OutsideCalls":
        """Return the way in for what a project offers."""
        chosen = offerable(session.project.select_tools(session.tools), session.policy)
        tools = live_tools(session.store, session.project.name, session.tools, session.versions)
        return cls(session, {name: tools[name] for name in chosen}, CallCounts(session.store))

    async def call(self, call: ToolCall, caller: str) -> ToolResult:
        """Decide on a call of an offered tool, make it if it may be, record it, and return what came of it."""
        task = asyncio.create_task(self._call(call, caller))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Wait for every call that was begun."""
        await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _call(self, call: ToolCall, caller: str) -> ToolResult:
        live = self._begin(call, caller)
        await check_calls(live, _nobody)
        # Before the effect: what was begun must be known even if this process dies in the middle.
        await live.recorder.commit()
        await act(live)
        live.recorder.end(RunEnd(status=RunStatus.FINISHED, reason=EndReason.OUTSIDE, answer=None))
        await live.recorder.commit()
        result = live.calls[0].result
        assert result is not None, "a call that was carried out has a result"
        return result

    def _begin(self, call: ToolCall, caller: str) -> LiveRun:
        session, run_id = self.session, new_id()
        header = self._header(call, caller)
        workspace = session.project.workspace
        workspace.mkdir(exist_ok=True)
        plan = RunPlan(
            header=header,
            task=None,
            system="",
            offered=header.tool_specs,
            tools=self.offered,
            foreign=frozenset(),
            policy=session.policy,
            budgets=session.project.budgets,
            workspace=workspace,
            tool_settings=session.project.tool_settings,
            counts=self.counts,
        )
        live = LiveRun(run_id, plan, NO_MODEL, session.store, RunRecorder(session.store, run_id))
        live.turn, live.parsed = _turn(call), CallReply(text="", calls=(call,))
        live.recorder.start(header)
        live.recorder.turn(live.turn)
        return live

    def _header(self, call: ToolCall, caller: str) -> RunHeader:
        return RunHeader(
            prompt=f"{caller} calls {call.name}",
            purpose=Purpose.WORK,
            split=Split.TEST,
            model_hash=NO_MODEL.info.model_hash,
            profile=NO_MODEL.info.profile,
            condition=None,
            policy_hash=self.session.policy.hash,
            project=self.session.project.name,
            seed=0,
            temperature=0.0,
            tools=(call.name,),
            tool_specs=(self.offered[call.name].spec,),
        )


def _turn(call: ToolCall) -> TurnRecord:
    text = canonical_json({"name": call.name, "arguments": call.arguments})
    reply = Reply(
        ids=(), sampled=(), raw_logprobs=(), behaviour_logprobs=(), text=text, finish=FinishReason.STOP, seconds=0.0
    )
    return TurnRecord(index=0, segments=(), reply=reply, kind=TurnKind.CALL)


def _nobody(intent: CallIntent) -> NoReturn:
    raise AssertionError(f"{intent.call.name}: without an asker nobody is asked")
