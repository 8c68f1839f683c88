"""Where an experiment works: a folder of its own, with a home for the base model and a trace store for each step.

The user's own home is never opened for its runs or models, so nothing that is rolled out here is trained on at night.
Every model is loaded in a worker that is closed before the next one starts, and before anything is fitted: one heavy
process at a time.
"""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from koboshi_runtime.config_values import Settings
from koboshi_runtime.home import Home, open_home
from koboshi_runtime.model import Model, PromptProfile
from koboshi_runtime.models.registry import ModelEntry
from koboshi_runtime.models.verbs import AddSettings, add_model
from koboshi_runtime.opening import open_contributions
from koboshi_runtime.project import Project, load_project
from koboshi_runtime.runner import Runner, RunSettings
from koboshi_runtime.store import Store
from koboshi_runtime.templates_init import init_project
from koboshi_runtime.trust import pin_new, require_trust
from koboshi_runtime.workermodel import WorkerModel, WorkerSettings
from koboshi_tools import UsageError, hash_file, hash_value

from ..conditions import tuned_profile
from ..stages import MASTER_FILE, master_of
from .file import Experiment, Place
from .sources import Data


@dataclass(frozen=True, slots=True)
class LabPlace:
    """An experiment with its data, its working folder, and the machine's settings."""

    experiment: Experiment
    data: Data
    work: Path
    home: Home
    users_home: Home
    settings: Settings

    @classmethod
    def open(
        cls, experiment: Experiment, data: Data, work: Path, *, users_home: Home, settings: Settings
    ) -> "LabPlace":
        """Make the working folder and its home."""
        work.mkdir(parents=True, exist_ok=True, mode=0o700)
        worker = settings.worker.model_copy(update=experiment.worker.model_dump())
        own = settings.model_copy(update={"worker": worker})
        return cls(experiment, data, work, open_home(path=work / "home"), users_home, own)

    def base(self) -> ModelEntry:
        """Return the base model, fetched at the first call. Raises UsageError if it cannot be trained."""
        base = self.experiment.base
        entry = add_model(self.home, self._source(), AddSettings(name="base", template=base.template))
        if not entry.manifest.trainable:
            raise UsageError(f"{base.source} cannot be trained: {entry.manifest.trainable_reason}")
        return entry

    def base_identity(self) -> str:
        """Return what tells this base from others: a pinned package, or the hash of a file."""
        source = self._source()
        return source if source.startswith("pypi:") else hash_file(Path(source))

    def master(self) -> Path:
        """Return the base's F16 master, made at the first call."""
        base = self.base()
        master_of(base.path, base.path.parent)
        return base.path.parent / MASTER_FILE

    def learner_profile(self) -> PromptProfile:
        """Return how the seeded model and all arms are spoken to."""
        return tuned_profile(self.base().manifest.profile, self.experiment.conditions)

    def project_key(self, place: Place) -> str:
        """Return the hash of what a project is: pack and seed, or every file of the folder."""
        if place.pack:
            return hash_value([place.pack, place.seed])
        root = self.data.path(str(place.folder))
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return hash_value([[str(path.relative_to(root)), hash_file(path)] for path in files])

    def project(self, place: Place) -> Project:
        """Return a copy of the project, made at the first call: what runs do to it is done to the copy.

        Raises UntrustedError for a folder that the user has not agreed to.
        """
        folder = self.work / "projects" / self.project_key(place).removeprefix("sha256:")[:16]
        if not folder.exists():
            if place.pack:
                init_project(folder, place.pack, seed=place.seed)
            else:
                source = load_project(self.data.path(str(place.folder)))
                require_trust(self.users_home, source)
                shutil.copytree(source.root, folder)
            pin_new(self.home, folder)
        return load_project(folder)

    def runner(
        self, place: Place, model: Model, store: Store, settings: RunSettings, *, system: str | None = None
    ) -> Runner:
        """Return a runner of a project's tasks on `model`; `system` stands in for the project's system prompt."""
        project = self.project(place)
        opened = open_contributions(self.home, project)
        if system is not None:
            project = replace(project, system_prompt=system)
        return Runner(project, opened.policy, opened.tools, model, store, settings)

    @asynccontextmanager
    async def model(self, file: Path, profile: PromptProfile) -> AsyncIterator[WorkerModel]:
        """Load a model file in a worker, closed at the end."""
        settings = WorkerSettings(**self.settings.worker.model_dump())
        model = await WorkerModel.start(
            file, settings, model_hash=hash_file(file), name=file.parent.name, profile=profile
        )
        try:
            yield model
        finally:
            await model.close()

    def folder(self, kind: str, key: str) -> Path:
        """Return the folder of a step by its key, made at the first call."""
        path = self.work / f"{kind}-{key.removeprefix('sha256:')[:16]}"
        path.mkdir(exist_ok=True, mode=0o700)
        return path

    def _source(self) -> str:
        source = self.experiment.base.source
        return source if source.startswith("pypi:") else str(self.data.path(source))
