"""What every stage works with: the home with its store and registry, one project, and models loaded on demand.

Opened once, handed to plain functions. Nothing is trained or judged here.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from koboshi_policies import Policy
from koboshi_runtime.config_values import Settings
from koboshi_runtime.home import Home
from koboshi_runtime.model import Model, PromptProfile
from koboshi_runtime.models.registry import ModelEntry, Registry
from koboshi_runtime.opening import open_contributions
from koboshi_runtime.project import Project, load_project
from koboshi_runtime.runner import Runner, RunSettings
from koboshi_runtime.store import Store
from koboshi_runtime.tool_swaps import Versions
from koboshi_runtime.tuning import worker_settings
from koboshi_runtime.workermodel import WorkerModel
from koboshi_tools import Tool

from .conditions import tuned_profile


@dataclass(frozen=True, slots=True)
class Workshop:
    """A home and a project, opened."""

    home: Home
    registry: Registry
    store: Store
    project: Project
    policy: Policy
    tools: Mapping[str, Tool]
    settings: Settings
    versions: Versions = field(default_factory=dict)

    @classmethod
    def open(cls, home: Home, folder: Path, settings: Settings) -> "Workshop":
        """Open the store and the project in `folder`. Raises KoboshiError where one of them is wrong."""
        project = load_project(folder)
        # Nothing here is real work, and MCP tools are called in no other: there is no server to end.
        opened = open_contributions(home, project)
        store, registry = Store.open(home.traces), Registry(home)
        return cls(home, registry, store, project, opened.policy, opened.tools, settings, opened.versions)

    def close(self) -> None:
        """Close the store."""
        self.store.close()

    def runner(self, model: Model, settings: RunSettings) -> Runner:
        """Return a runner of the project's tasks on `model`."""
        return Runner(self.project, self.policy, self.tools, model, self.store, settings, versions=self.versions)

    @asynccontextmanager
    async def model(self, entry: ModelEntry, profile: PromptProfile | None = None) -> AsyncIterator[WorkerModel]:
        """Load a registered model, spoken to as its manifest says or by `profile`; it is closed at the end."""
        manifest = entry.manifest
        model = await WorkerModel.start(
            entry.path,
            worker_settings(self.home, self.settings, entry),
            model_hash=manifest.model_hash,
            name=manifest.name,
            profile=profile or manifest.profile,
        )
        try:
            yield model
        finally:
            await model.close()

    def base_of(self, entry: ModelEntry) -> ModelEntry:
        """Return the model that `entry` was once trained from: itself, if it came from outside."""
        parent = entry.manifest.parents.base
        return self.registry.resolve(parent) if parent else entry

    def learner_profile(self, entry: ModelEntry) -> PromptProfile:
        """Return how a model trained from `entry` is spoken to: with conditions, those that the live model knows.

        Runs of one generation are rows of the next only where both know the same sentences.
        """
        return tuned_profile(entry.manifest.profile, self.registry.current().manifest.profile.conditions)
