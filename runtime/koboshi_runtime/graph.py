"""The agent as a LangGraph graph: generate → check → act → observe → … → finish, over many runs in one event loop.

The only place, with `thread_state`, that knows LangGraph. Its state holds the name of the next node and the step, so
that a run that was cut off goes on where it stood; what the nodes work on is the `LiveRun`, handed over as context.
Telemetry of LangChain's libraries is off before they are imported.
"""

from typing import Any, TypedDict

from .telemetry import force_off

force_off()

from langgraph.graph import END, START, StateGraph  # noqa: E402 - telemetry must be off before this import
from langgraph.runtime import Runtime  # noqa: E402
from langgraph.types import Command, interrupt  # noqa: E402

from koboshi_policies import Answer  # noqa: E402

from . import nodes  # noqa: E402
from .approvals import take_approval  # noqa: E402
from .live import LiveRun  # noqa: E402
from .records import CallIntent  # noqa: E402
from .thread_state import ThreadStateSaver  # noqa: E402

# One turn is at most four nodes; the budgets of a run end it long before LangGraph's own limit would.
_NODE_LIMIT = 100_000


class RunState(TypedDict):
    """What LangGraph keeps of a run."""

    goto: nodes.NodeName
    step: int


class Agent:
    """The compiled graph with its saver; one serves all runs of a process."""

    def __init__(self) -> None:
        self._saver = ThreadStateSaver()
        self._graph = _build().compile(checkpointer=self._saver)

    async def run(self, live: LiveRun) -> None:
        """Carry a run from where it stands to its end. Raises StoreError if its record cannot be written."""
        self._saver.attach(live)
        try:
            given: Any = None if live.thread_state is not None else RunState(goto="generate", step=0)
            while True:
                result = await self._invoke(given, live)
                questions = result.get("__interrupt__")
                if not questions:
                    return
                given = Command(resume=await self._answer(live, questions[0].value))
        finally:
            await self._saver.detach(live.run_id)

    async def _invoke(self, given: Any, live: LiveRun) -> dict[str, Any]:
        result: dict[str, Any] = await self._graph.ainvoke(
            given,
            {"configurable": {"thread_id": live.run_id}, "recursion_limit": _NODE_LIMIT},
            context=live,
            durability="sync",
        )
        return result

    async def _answer(self, live: LiveRun, question: Any) -> Answer:
        """Ask the run's asker. The run stays `running`: if its process dies waiting, it can be resumed."""
        asker = live.plan.asker
        intent = next(intent for intent in live.checked if intent.idempotency_key == question)
        if take_approval(live.store, intent, live.plan.policy.hash):
            return Answer.APPROVED
        return Answer.UNATTENDED if asker is None else await asker.ask(live.run_id, intent)


def _build() -> Any:
    graph = StateGraph(RunState, context_schema=LiveRun)
    for name, function in (("generate", _generate), ("check", _check), ("act", _act), ("observe", _observe)):
        graph.add_node(name, function)
        graph.add_conditional_edges(name, _next)
    graph.add_node("finish", _finish)
    graph.add_conditional_edges(START, _next)
    graph.add_edge("finish", END)
    return graph


def _next(state: RunState) -> str:
    return state["goto"]


def _state(live: LiveRun, goto: nodes.NodeName) -> RunState:
    return RunState(goto=goto, step=live.turn.index if live.turn else 0)


async def _generate(state: RunState, runtime: Runtime[LiveRun]) -> RunState:
    return _state(runtime.context, await nodes.generate(runtime.context))


async def _check(state: RunState, runtime: Runtime[LiveRun]) -> RunState:
    def approve(intent: CallIntent) -> Answer:
        # By its key alone: thread state is stored, and holds no text.
        return Answer(interrupt(intent.idempotency_key))

    return _state(runtime.context, await nodes.check_calls(runtime.context, approve))


async def _act(state: RunState, runtime: Runtime[LiveRun]) -> RunState:
    return _state(runtime.context, await nodes.act(runtime.context))


async def _observe(state: RunState, runtime: Runtime[LiveRun]) -> RunState:
    return _state(runtime.context, await nodes.observe(runtime.context))


async def _finish(state: RunState, runtime: Runtime[LiveRun]) -> RunState:
    await nodes.finish(runtime.context)
    return _state(runtime.context, "finish")
