"""From a task to a finished run, and from many tasks to many runs in one event loop.

A run of real work uses the project's workspace itself. Every other run gets a scratch copy of it as soon as it is
offered a tool that does more than read, so that nothing made at night touches the live world. The number of runs at
once is bounded by the model's sequences: one more would push another's prompt out of the cache.
"""

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from koboshi_policies import Policy, offerable
from koboshi_tools import EffectClass, Frozen, Tool, ToolSpec, Transport, UsageError

from . import prompt
from .checkers import CheckSettings
from .graph import Agent
from .ids import new_id
from .live import Asker, LiveRun, RunPlan, revive
from .model import Model
from .project import Project
from .records import (
    EndReason,
    OutcomeLabel,
    Purpose,
    RunEnd,
    RunHeader,
    RunStatus,
    Split,
    verdict_of,
)
from .store import RunRecorder, Store
from .tasks import Task, offered_tools


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How runs are made. `condition` is used by models that know conditions; `jobs` None means as many as fit."""

    purpose: Purpose
    split: Split | None = None
    seed: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    condition: str | None = prompt.SUCCESS
    jobs: int | None = None
    constrained: bool = True
    asker: Asker | None = None
    check_settings: CheckSettings = field(default_factory=CheckSettings)


class RunResult(Frozen):
    """What became of one run; `calls_begun` and `invalid_calls` count every call that the model opened."""

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


@dataclass(slots=True)
class Runner:
    """Runs tasks of one project on one model, recording into one store."""

    project: Project
    policy: Policy
    tools: Mapping[str, Tool]
    model: Model
    store: Store
    settings: RunSettings
    agent: Agent = field(default_factory=Agent)

    async def run(
        self, task: Task, *, sample: int = 0, model: Model | None = None, demonstration: bool = False
    ) -> RunResult:
        """Carry out one task. Raises StoreError if it cannot be recorded; every other end is in the result."""
        live_model = model or self.model
        with self._workspace(task) as workspace:
            plan = self._plan(task, sample, live_model, workspace, demonstration=demonstration)
            run_id = new_id()
            live = LiveRun(run_id, plan, live_model, self.store, RunRecorder(self.store, run_id))
            live.recorder.start(plan.header)
            await live.open()
            await self._carry(live)
            return result_of(live)

    async def resume(self, run_id: str) -> RunResult:
        """Go on with a run that was cut off. Raises UsageError if it has ended or is alive in another process."""
        trajectory = self.store.trajectory(run_id)
        if trajectory.end is not None or not self.store.claim(run_id):
            raise UsageError(f"run {run_id} cannot be resumed: it has ended, or another process has it")
        header = trajectory.header
        if header.model_hash != self.model.info.model_hash:
            raise UsageError(
                f"run {run_id} was begun by model {header.model_hash}, not by {self.model.info.model_hash}",
                hint=f"pass --model {header.model_hash[7:19]}",
            )
        task = Task.model_validate(header.task) if header.task else Task(id=run_id, prompt=header.prompt, checker=None)
        with self._workspace(task) as workspace:
            plan = self._plan(task, header.sample, self.model, workspace, demonstration=False, header=header)
            live = await revive(run_id, plan, self.model, self.store, trajectory)
            await self._carry(live)
            return result_of(live)

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
        async with asyncio.TaskGroup() as group:
            for _ in range(min(jobs, len(tasks) * samples)):
                group.create_task(work())
        return [found[task.id, sample] for task in tasks for sample in range(samples)]

    async def _carry(self, live: LiveRun) -> None:
        try:
            await self.agent.run(live)
        except asyncio.CancelledError:
            live.recorder.status(RunStatus.INTERRUPTED)
            await asyncio.shield(live.recorder.commit(live.thread_state))
            raise

    def _plan(
        self,
        task: Task,
        sample: int,
        model: Model,
        workspace: Path,
        *,
        demonstration: bool,
        header: RunHeader | None = None,
    ) -> RunPlan:
        # A run that is resumed was told its tools already: what the project offers now must not change its prompt.
        offered = header.tool_specs if header else self._offered(task)
        header = header or self._header(task, sample, model, offered, demonstration=demonstration)
        return RunPlan(
            header=header,
            task=task,
            system=header.system,
            offered=offered,
            tools=self.tools,
            foreign=frozenset(spec.name for spec in task.tool_specs or ()),
            policy=self.policy,
            budgets=self.project.budgets,
            workspace=workspace,
            tool_settings=self.project.tool_settings,
            checks=self.project.checks,
            check_settings=self.settings.check_settings,
            asker=self.settings.asker,
            constrained=self.settings.constrained,
        )

    def _header(
        self, task: Task, sample: int, model: Model, offered: Sequence[ToolSpec], *, demonstration: bool
    ) -> RunHeader:
        settings, profile = self.settings, model.info.profile
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
            task_id=task.id,
            task=task.as_json(),
            tools=tuple(spec.name for spec in offered),
            system=self.project.system_prompt,
            tool_specs=tuple(offered),
            sample=sample,
            demonstration=demonstration,
        )

    def _offered(self, task: Task) -> tuple[ToolSpec, ...]:
        allowed = offerable([name for name in self.project.select_tools(self.tools) if name in self.tools], self.policy)
        offered = offered_tools(task, allowed)
        return (*(self.tools[name].spec for name in offered.names), *offered.specs)

    @contextmanager
    def _workspace(self, task: Task) -> Iterator[Path]:
        source = self.project.task_workspace(task)
        offered = [self.tools[spec.name] for spec in self._offered(task) if spec.name in self.tools]
        reads_only = all(tool.effect is EffectClass.READ for tool in offered)
        if self.settings.purpose is Purpose.WORK or reads_only:
            yield source
            return
        with tempfile.TemporaryDirectory(prefix="koboshi-scratch-") as folder:
            scratch = Path(folder) / "workspace"
            shutil.copytree(source, scratch, symlinks=True)
            yield scratch


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
    )
