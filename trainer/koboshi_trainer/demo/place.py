"""Where a demo lives, and how it runs tasks there.

`DIR/home` is a home of its own and `DIR/<pack>` the project: the user's own home is never opened. Each batch of runs
loads its model in a worker that is closed before the next one starts, so that one model is in memory at a time.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from koboshi_runtime.config_values import Settings, WorkerSettings
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.models.registry import ModelEntry, Registry
from koboshi_runtime.packs import Pack, load_pack
from koboshi_runtime.project import load_project
from koboshi_runtime.prompt import SUCCESS
from koboshi_runtime.records import Purpose, Split
from koboshi_runtime.runner import RunResult, RunSettings
from koboshi_runtime.tasks import Task, load_tasks

from ..workshop import Workshop
from .plan import DemoPlan

Advance = Callable[[float, float], None]


@dataclass(frozen=True, slots=True)
class DemoPlace:
    """One demo's folder, plan, pack and seed."""

    root: Path
    plan: DemoPlan
    pack: Pack
    seed: int
    home: Home

    @property
    def project_folder(self) -> Path:
        """Where the project lies."""
        return self.root / self.pack.name

    @property
    def stages_folder(self) -> Path:
        """Where the finished stages are kept."""
        return self.home.runs / "demo"

    @property
    def registry(self) -> Registry:
        """The models of the demo's own home."""
        return Registry(self.home)

    def tasks(self, split: str, count: int) -> tuple[Task, ...]:
        """Return the first `count` tasks of a split's file. Raises UsageError before the project was made."""
        return load_tasks(load_project(self.project_folder).task_file(split))[:count]

    @contextmanager
    def workshop(self) -> Iterator[Workshop]:
        """Open home and project for as long as the context lasts."""
        worker = WorkerSettings(context_tokens=self.plan.context_tokens, parallel=self.plan.parallel)
        workshop = Workshop.open(self.home, self.project_folder, Settings(worker=worker))
        try:
            yield workshop
        finally:
            workshop.close()

    def examine(
        self,
        entry: ModelEntry,
        tasks: Sequence[Task],
        advance: Advance,
        *,
        system: str | None = None,
        condition: str = SUCCESS,
    ) -> list[RunResult]:
        """Run test tasks greedily on a model, stored as evaluations, and return the results in their order.

        `system` stands in for the project's system prompt, `condition` in for success where the model knows conditions.
        """
        settings = RunSettings(purpose=Purpose.EVAL, split=Split.TEST, seed=self.seed, condition=condition)
        done = 0

        def one(_: RunResult) -> None:
            nonlocal done
            done += 1
            advance(done, len(tasks))

        async def work(workshop: Workshop) -> list[RunResult]:
            async with workshop.model(entry) as model:
                return await workshop.runner(model, settings).run_all(tasks, on_result=one)

        with self.workshop() as workshop:
            if system is not None:
                workshop = replace(workshop, project=replace(workshop.project, system_prompt=system))
            return asyncio.run(work(workshop))


def open_place(root: Path, plan: DemoPlan, pack: str, seed: int) -> DemoPlace:
    """Return the place of a demo, its home made. Raises UsageError for an unknown pack."""
    found = load_pack(pack)
    return DemoPlace(root.resolve(), plan, found, seed, open_home(path=root.resolve() / "home"))
