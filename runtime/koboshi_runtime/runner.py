"""From a task to a finished run, and from many tasks to many runs in one event loop.

A run of real work uses the project's workspace itself. Every other run gets a scratch copy of it as soon as it is
offered a tool that does more than read, so that nothing made at night touches the live world. The number of runs at
once is bounded by the model's sequences: one more would push another's prompt out of the cache.

A run that is interrupted stands where a killed one would, at its last commit, and is resumed from there. A scratch copy
is gone with its process: a run that had begun to change one ends as `workspace_lost`. One that held a secret ends as
`redacted`: what the model was told, and what a call was to be made with, is not stored.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koboshi_policies import Answer, Policy, offerable
from koboshi_tools import EffectClass, Frozen, KoboshiError, Tool, ToolSpec, Transport, UsageError

from . import nodes, prompt
from .call_counts import CallCounts
from .checkers import CheckSettings
from .dialogue import Dialogue
from .forks import Fork
from .ids import new_id
from .live import Asker, LiveRun, RunPlan, revive
from .model import KeepsRuns, Model
from .project import Project
from .records import (
    EndReason,
    OutcomeLabel,
    Purpose,
    RunEnd,
    RunHeader,
    RunStatus,
    Split,
    Trajectory,
    verdict_of,
)
from .scratch import scratch_copy
from .store import Store
from .store.owner import hold
from .store.recorder import Watch
from .tasks import Task, offered_tools
from .tool_swaps import GivenTools, Versions, advance, follow_policy, given_tools, same_tools

if TYPE_CHECKING:
    from .graph import Agent

_HELD_SECRET = "it held a secret, which is not stored, so that it cannot go on where it stood: run the task again"
_LOST = "its scratch copy went with the process that made it, and it had begun to change it: run the task again"


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How runs are made. `condition` is used by models that know conditions; `jobs` None means as many as fit.

    With `guidance` g each token is drawn from (1 + g) times the logits under success less g times those under failure.

    `watch` is told what happens in each run, as it happens; it must not wait for anything.
    """

    purpose: Purpose
    split: Split | None = None
    seed: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    guidance: float = 0.0
    condition: str | None = prompt.SUCCESS
    jobs: int | None = None
    constrained: bool = True
    asker: Asker | None = None
    watch: Watch | None = None
    check_settings: CheckSettings = field(default_factory=CheckSettings)


class RunResult(Frozen):
    """What became of one run; `calls_begun` and `invalid_calls` count every call that the model opened.

    `unattended` counts the calls that were refused because a person was to be asked and nobody was there.
    """

    run_id: str
    task_id: str | None
    sample: int
    outcome: OutcomeLabel
    answer: str | None
    reason: EndReason
    error: str | None
    steps: int
    calls_begun: int
    invalid_calls: int
    tools: Mapping[str, int]
    tool_errors: Mapping[str, int]
    output_tokens: int
    seconds: float
    model_hash: str
    unattended: int = 0


@dataclass(slots=True)
class Runner:
    """Runs tasks of one project on one model, recording into one store."""

    project: Project
    policy: Policy
    tools: Mapping[str, Tool]
    model: Model
    store: Store
    settings: RunSettings
    agent: "Agent | None" = None
    versions: Versions = field(default_factory=dict)
    counts: CallCounts = field(init=False)
    _followed: bool = field(default=False, init=False)
    _making: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)

    def __post_init__(self) -> None:
        self.counts = CallCounts(self.store)
        if self.settings.guidance and not (
            self.model.info.profile.conditions and self.settings.condition == prompt.SUCCESS
        ):
            raise UsageError(
                f"{self.model.info.name} cannot be guided: guidance draws away from the failure condition, which only "
                "a model that was trained here knows, asked for a success",
                hint="Leave guidance out, or name another model with --model.",
            )

    async def run(
        self,
        task: Task,
        *,
        sample: int = 0,
        model: Model | None = None,
        demonstration: bool = False,
        run_id: str | None = None,
        dialogue: Dialogue | None = None,
        fork: Fork | None = None,
    ) -> RunResult:
        """Carry out one task, under a fresh id unless one is given, as the next question of `dialogue` if there is one.

        With `fork` it goes on behind turns of another run of the task; it ends as a model error if they cannot be said
        again as they were. Raises StoreError if it cannot be recorded; every other end is in the result.
        """
        live_model, run_id = model or self.model, run_id or new_id()
        live_model = live_model if fork is None else fork.model(live_model)
        given = self._given(run_id)
        header = self._header(task, sample, live_model, given, demonstration=demonstration)
        header = header.model_copy(update=_parent(dialogue, fork))
        with self._workspace(task, header) as workspace:
            plan = self._plan(task, header, workspace, given)
            if dialogue is not None:
                plan = replace(plan, earlier=await dialogue.earlier(live_model, self.store, plan))
            live = LiveRun(run_id, plan, live_model, self.store, self.store.recorder(run_id, plan.watch))
            live.recorder.start(plan.header)
            await live.open()
            with hold(run_id):
                await self._carry(live)
            if dialogue is not None:
                await dialogue.take(live)
            return result_of(live)

    async def resume(self, run_id: str) -> RunResult:
        """Go on with a run that was cut off; one that held a secret, or whose changed scratch copy is lost, has failed.

        Raises UsageError if it has ended, is alive in this or another process, was begun by another model, or was
        offered a tool that is no longer here.
        """
        with hold(run_id) as ours:
            if not ours:
                raise UsageError(f"run {run_id} cannot be resumed: it goes on in this process")
            return await self._resume(run_id)

    async def _resume(self, run_id: str) -> RunResult:
        header = self.store.trajectory(run_id).header
        given = same_tools(header.versions, self.tools, self.versions)
        task = Task.model_validate(header.task) if header.task else Task(id=run_id, prompt=header.prompt, checker=None)
        self._refuse_changed(run_id, header, task)
        if not self.store.claim(run_id):
            raise UsageError(f"run {run_id} cannot be resumed: it has ended, or another process has it")
        # Read again now that it is ours: its process may have gone on, and died, since it was read first.
        trajectory = self.store.trajectory(run_id)
        if trajectory.redacted:
            return await self._close(task, trajectory, given, EndReason.REDACTED, _HELD_SECRET)
        if self._copies(header) and any(call.intent.has_effect for call in trajectory.calls):
            return await self._close(task, trajectory, given, EndReason.WORKSPACE_LOST, _LOST)
        with self._workspace(task, header) as workspace:
            plan = self._plan(task, header, workspace, given)
            live = await revive(run_id, plan, self.model, self.store, trajectory)
            await self._carry(live)
            return result_of(live)

    async def _close(
        self, task: Task, trajectory: Trajectory, given: GivenTools, reason: EndReason, error: str
    ) -> RunResult:
        plan = self._plan(task, trajectory.header, self.project.workspace, given)
        live = await revive(trajectory.run_id, plan, self.model, self.store, trajectory)
        live.end = RunEnd(status=RunStatus.FAILED, reason=reason, answer=None, error=error)
        live.recorder.end(live.end)
        await live.recorder.commit()
        return result_of(live)

    def _refuse_changed(self, run_id: str, header: RunHeader, task: Task) -> None:
        if header.model_hash != self.model.info.model_hash:
            raise UsageError(
                f"run {run_id} was begun by model {header.model_hash}, not by {self.model.info.model_hash}",
                hint=f"pass --model {header.model_hash[7:19]}",
            )
        own = {spec.name for spec in task.tool_specs or ()}
        gone = [spec.name for spec in header.tool_specs if spec.name not in own and spec.name not in self.tools]
        if gone:
            raise UsageError(f"run {run_id} was offered the tool {gone[0]!r}, which is no longer here")

    async def run_all(
        self, tasks: Sequence[Task], *, samples: int = 1, on_result: Callable[[RunResult], None] | None = None
    ) -> list[RunResult]:
        """Carry out every task `samples` times, `jobs` at once, and return the results in the order of the tasks."""
        queue = iter([(task, sample) for task in tasks for sample in range(samples)])
        found: dict[tuple[str, int], RunResult] = {}

        async def work() -> None:
            for task, sample in queue:
                found[task.id, sample] = await self.run(task, sample=sample)
                if on_result is not None:
                    on_result(found[task.id, sample])

        # One commit for all of them, before the loop is busy: asked one by one, each would wait for its own.
        self.store.assign_splits([(task.prompt, self.settings.split) for task in tasks])
        jobs = self.settings.jobs or self.model.info.parallel
        await side_by_side(work, min(jobs, len(tasks) * samples))
        return [found[task.id, sample] for task in tasks for sample in range(samples)]

    async def _carry(self, live: LiveRun) -> None:
        stored = live.resumed
        try:
            await (await self._agent(live)).run(live)
            if self.versions and live.plan.header.purpose is Purpose.WORK:
                await asyncio.to_thread(advance, self.store, self.project.name)
        except asyncio.CancelledError:
            await asyncio.shield(self._interrupt(live, stored=stored or live.thread_state is not None))
            raise
        finally:
            live.leave_ahead()
            if isinstance(live.model, KeepsRuns):
                live.model.release(live.run_id)

    async def _agent(self, live: LiveRun) -> "Agent":
        """Return the graph. Where that takes a large import first, the model writes the run's first turn meanwhile."""
        if self.agent is not None:
            return self.agent
        nodes.write_ahead(live)
        async with self._making:
            if self.agent is None:
                self.agent = await asyncio.to_thread(_make_agent)
            return self.agent

    async def _interrupt(self, live: LiveRun, *, stored: bool) -> None:
        """Store that a run was interrupted, and nothing that its stored thread state does not know of."""
        recorder = self.store.recorder(live.run_id)
        if not stored:
            recorder.start(live.plan.header)
        recorder.status(RunStatus.INTERRUPTED)
        await recorder.commit()

    def _given(self, run_id: str) -> GivenTools:
        work, named = self.settings.purpose is Purpose.WORK, self.project.name
        if work and self.versions and not self._followed:
            follow_policy(self.store, named, self.tools, self.versions, self.policy.swaps)
            self._followed = True
        return given_tools(self.store, named, self.tools, self.versions, run_id=run_id, work=work)

    def _plan(self, task: Task, header: RunHeader, workspace: Path, given: GivenTools) -> RunPlan:
        return RunPlan(
            header=header,
            task=task,
            system=header.system,
            # A run that is resumed was told its tools: what the project offers now must not change its prompt.
            offered=header.tool_specs,
            tools=given.tools,
            shadows=given.shadows,
            foreign=frozenset(spec.name for spec in task.tool_specs or ()),
            policy=self.policy,
            budgets=self.project.budgets,
            workspace=workspace,
            tool_settings=self.project.tool_settings,
            checks=self.project.checks,
            check_settings=self.settings.check_settings,
            asker=self.settings.asker,
            counts=self.counts,
            watch=self.settings.watch,
            constrained=self.settings.constrained,
        )

    def _header(self, task: Task, sample: int, model: Model, given: GivenTools, *, demonstration: bool) -> RunHeader:
        settings, profile, offered = self.settings, model.info.profile, self._offered(task, given.tools)
        return RunHeader(
            prompt=task.prompt,
            purpose=settings.purpose,
            split=self.store.assign_split(task.prompt, settings.split),
            model_hash=model.info.model_hash,
            profile=profile,
            condition=settings.condition if profile.conditions else None,
            policy_hash=self.policy.hash,
            project=self.project.name,
            seed=settings.seed,
            temperature=settings.temperature,
            top_p=settings.top_p,
            guidance=settings.guidance,
            task_id=task.id,
            task=task.as_json(),
            tools=tuple(spec.name for spec in offered),
            system=self.project.system_prompt,
            tool_specs=offered,
            sample=sample,
            demonstration=demonstration,
            versions=dict(given.versions),
        )

    def _offered(self, task: Task, tools: Mapping[str, Tool]) -> tuple[ToolSpec, ...]:
        chosen = [name for name in self.project.select_tools(self.tools) if name in self.tools]
        allowed = offerable(chosen, self.policy, self.settings.purpose)
        offered = offered_tools(task, allowed)
        return (*(tools[name].spec for name in offered.names), *offered.specs)

    @contextmanager
    def _workspace(self, task: Task, header: RunHeader) -> Iterator[Path]:
        source = self.project.task_workspace(task)
        if not self._copies(header):
            yield source
            return
        with scratch_copy(source) as scratch:
            yield scratch

    def _copies(self, header: RunHeader) -> bool:
        """Say whether a run works on a scratch copy: by what it was offered, which may not be what is offered now."""
        tools = [self.tools[spec.name] for spec in header.tool_specs if spec.name in self.tools]
        reads_only = all(tool.effect is EffectClass.READ for tool in tools)
        return header.purpose is not Purpose.WORK and not reads_only


def _make_agent() -> "Agent":
    from .graph import Agent

    return Agent()


def _parent(dialogue: Dialogue | None, fork: Fork | None) -> dict[str, Any]:
    if fork is not None:
        return {"parent_run_id": fork.run.run_id, "forked_at": fork.turns}
    return {"parent_run_id": dialogue.run_id if dialogue else None}


async def side_by_side(work: Callable[[], Coroutine[Any, Any, None]], count: int) -> None:
    """Run `work` `count` times at once. A KoboshiError in one stops the others, and is raised as itself."""
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(count):
                group.create_task(work())
    except ExceptionGroup as several:
        ours, others = several.split(KoboshiError)
        if ours is None or others is not None:
            raise
        # What stops one run stops the others; the first says why.
        raise ours.exceptions[0] from several


def result_of(live: LiveRun) -> RunResult:
    """Return what became of a run that has ended."""
    end = live.end or RunEnd(status=RunStatus.FAILED, reason=EndReason.MODEL_ERROR, answer=None)
    tools: dict[str, int] = {}
    errors: dict[str, int] = {}
    for record in live.calls:
        name = record.intent.call.name
        tools[name] = tools.get(name, 0) + 1
        if record.result and (record.result.transport is not Transport.OK or record.result.verdict == "error"):
            errors[name] = errors.get(name, 0) + 1
    return RunResult(
        run_id=live.run_id,
        task_id=live.plan.header.task_id,
        sample=live.plan.header.sample,
        outcome=verdict_of(live.outcomes),
        answer=end.answer,
        reason=end.reason,
        error=end.error,
        steps=live.turn.index + 1 if live.turn else 0,
        calls_begun=len(live.calls) + live.invalid_calls,
        invalid_calls=live.invalid_calls,
        tools=tools,
        tool_errors=errors,
        output_tokens=live.tokens,
        seconds=live.seconds(),
        model_hash=live.plan.header.model_hash,
        unattended=sum(record.intent.decision.asked is Answer.UNATTENDED for record in live.calls),
    )
