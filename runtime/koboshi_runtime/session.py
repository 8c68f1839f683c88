"""What a command needs to run tasks: project, policy, tools, model and store, opened and closed together.

The model loads in its worker, and writes the first turn, while this process imports LangGraph, which takes as long.
Outside a project an agent has no files: its workspace is a folder that goes away with the session.
"""

import importlib
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from koboshi_policies import Policy
from koboshi_tools import Tool

from . import redact
from .config_values import Settings
from .home import Home
from .model import Model, ModelInfo
from .models.registry import ModelEntry, Registry
from .opening import open_contributions
from .project import Project, bare_project, load_project
from .served_model import ServedModel, served_model
from .store import Store
from .tool_swaps import Versions
from .tuning import worker_settings
from .watch import Watch, follow
from .worker_process import WorkerProcess
from .workermodel import WorkerModel

if TYPE_CHECKING:
    from .runner import Runner, RunSettings


@dataclass(frozen=True, slots=True)
class Place:
    """Where a session happens: home, project folder (None outside a project), settings, further policy files."""

    home: Home
    folder: Path | None
    settings: Settings
    policy_files: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class Session:
    """What is open; `watched` is how the live model stands since it went live, None where it is not watched."""

    project: Project
    policy: Policy
    tools: Mapping[str, Tool]
    store: Store
    model: Model
    entry: ModelEntry | None = None
    watched: Watch | None = None
    versions: Versions = field(default_factory=dict)

    def runner(self, settings: "RunSettings") -> "Runner":
        """Return a runner with these settings."""
        from .runner import Runner

        return Runner(self.project, self.policy, self.tools, self.model, self.store, settings, versions=self.versions)


@asynccontextmanager
async def open_session(
    place: Place,
    *,
    model_ref: str | None = None,
    model: Model | None = None,
    runs: int | None = None,
    before_loading: Callable[[Project], None] | None = None,
    share: bool = False,
    process: WorkerProcess | None = None,
) -> AsyncIterator[Session]:
    """Open a session on the model that `model_ref` names, else the project's, else the configured one.

    `model` takes the place of a registered one, for tests and embedding. `runs` is how many runs will be made, if that
    is known: no more sequences are made room for. `before_loading` sees the project and may refuse by raising: loading
    a model takes seconds. `share` takes the worker of a server that runs here, if it has that model; else `process` is
    taken, if one was started early. Raises KoboshiError: no model in the home, a project that is not trusted, a
    project, policy or tool that does not load, a store that cannot be opened.
    """
    async with AsyncExitStack() as stack:
        redact.use(place.settings.redact.patterns, place.settings.redact.keep)
        project = _project(place, stack)
        opened = open_contributions(place.home, project, place.policy_files)
        stack.callback(opened.close)
        if before_loading is not None:
            before_loading(project)
        store = Store.open(place.home.traces)
        stack.callback(store.close)
        if model is not None:
            yield Session(project, opened.policy, opened.tools, store, model, versions=opened.versions)
            return
        ref = reference_of(place, project, model_ref)
        watched = follow(place.home, store, rollback=place.settings.watch.rollback) if ref == "current" else None
        entry = Registry(place.home).resolve(ref)
        shared = await _shared(place, entry) if share else None
        loaded = shared or await _load(place, entry, runs, process)
        stack.push_async_callback(loaded.close)
        yield Session(project, opened.policy, opened.tools, store, loaded, entry, watched, opened.versions)


def _project(place: Place, stack: AsyncExitStack) -> Project:
    if place.folder is not None:
        return load_project(place.folder)
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="koboshi-"))
    return replace(bare_project(Path(scratch)), name=Path.cwd().name or "root")


def reference_of(place: Place, project: Project, model_ref: str | None) -> str:
    """Return which model is meant: what was named, else the project's, else the configured one."""
    if model_ref:
        return model_ref
    return project.model if project.model != "current" else place.settings.model.ref


async def _shared(place: Place, entry: ModelEntry) -> ServedModel | None:
    """Return the server's model, if it is the one that is wanted, with room for as long a run."""
    room = worker_settings(place.home, place.settings, entry).context_tokens

    def suits(info: ModelInfo) -> bool:
        return info.model_hash == entry.manifest.model_hash and info.context_tokens >= room

    return await served_model(place.home, suits)


async def load_model(
    home: Home, entry: ModelEntry, settings: Settings, *, runs: int | None = None, process: WorkerProcess | None = None
) -> WorkerModel:
    """Load a registered model in a worker of its own, with room for `runs` at once. Raises ModelError."""
    loaded = worker_settings(home, settings, entry)
    if runs is not None:
        loaded = replace(loaded, parallel=min(loaded.parallel, runs))
    return await WorkerModel.start(
        entry.path,
        loaded,
        model_hash=entry.manifest.model_hash,
        name=entry.manifest.name,
        profile=entry.manifest.profile,
        process=process,
    )


async def _load(place: Place, entry: ModelEntry, runs: int | None, process: WorkerProcess | None) -> WorkerModel:
    # Nobody waits for this import here: who needs the graph before it is there waits for the rest of it.
    threading.Thread(target=importlib.import_module, args=("koboshi_runtime.graph",)).start()
    return await load_model(place.home, entry, place.settings, runs=runs, process=process)
