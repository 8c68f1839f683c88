"""Koboshi from Python: open a project, run tasks, read what happened, say how it went.

Everything works as on the command line: the same home, configuration, policy, tools and trace store. These are plain
calls, for scripts and notebooks; whoever writes asynchronous code uses `session.open_session`, which they wrap.
"""

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

from .config import load_config
from .config_values import RunSettings as RunDefaults
from .home import open_home
from .live import Asker
from .loop_thread import LoopThread
from .model import Model
from .records import Outcome, OutcomeLabel, OutcomeSource, Purpose, Trajectory
from .runner import RunResult, RunSettings
from .session import Place, Session, open_session
from .tasks import Task, prompt_task

__all__ = ["OpenProject", "open_project"]


def open_project(
    folder: Path | str, *, model: str | Model | None = None, home: Path | str | None = None, asker: Asker | None = None
) -> "OpenProject":
    """Open the project in `folder` on a model; use the result as a context manager, or close it.

    Args:
        folder: holds `koboshi.toml`.
        model: a reference such as `current`, a name or a hash, or anything that keeps the `Model` protocol.
        home: instead of `$KOBOSHI_HOME`.
        asker: whom the policy's `ask` rules ask; without one such calls are denied.

    Raises:
        KoboshiError: no such project or model, or one that does not load.
    """
    root = Path(folder)
    place = Place(open_home(path=Path(home).absolute() if home else None), root, load_config(root).settings)
    reference, given = (model, None) if isinstance(model, str) else (None, model)
    return OpenProject(open_session(place, model_ref=reference, model=given), place.settings.run, asker)


class OpenProject:
    """A project with its model loaded. Calls may come from any thread; each waits for its result."""

    def __init__(
        self, session: AbstractAsyncContextManager[Session], defaults: RunDefaults, asker: Asker | None
    ) -> None:
        self._context, self._defaults, self._asker = session, defaults, asker
        self._loop = LoopThread()
        try:
            self.session = self._loop.wait(_enter(session))
        except BaseException:
            self._loop.close()
            raise

    def run(self, task: str | Task, *, seed: int | None = None, temperature: float | None = None) -> RunResult:
        """Carry out a prompt or a task as real work, in the project's own workspace."""
        return self.run_all([task], seed=seed, temperature=temperature)[0]

    def run_all(
        self,
        tasks: Iterable[str | Task],
        *,
        samples: int = 1,
        seed: int | None = None,
        temperature: float | None = None,
    ) -> list[RunResult]:
        """Carry out each task `samples` times, many at once, and return the results in the order of the tasks.

        `seed` and `temperature` default to the configuration's. Raises UsageError, before the first run, for a task
        that cannot be run or judged here.
        """
        wanted = [prompt_task(task) if isinstance(task, str) else task for task in tasks]
        session, defaults = self.session, self._defaults
        checks = session.project.check_settings(allow_commands=False)
        session.project.refuse_unrunnable(wanted, checks)
        settings = RunSettings(
            purpose=Purpose.WORK,
            seed=defaults.seed if seed is None else seed,
            temperature=defaults.temperature if temperature is None else temperature,
            top_p=defaults.top_p,
            jobs=min(defaults.jobs or session.model.info.parallel, session.model.info.parallel),
            asker=self._asker,
            check_settings=checks,
        )
        return self._loop.wait(session.runner(settings).run_all(wanted, samples=samples))

    def trajectory(self, run_id: str) -> Trajectory:
        """Return all that is stored of a run: its prompt, turns with their ids, calls, decisions and outcomes."""
        return self.session.store.trajectory(run_id)

    def label(self, run_id: str, label: OutcomeLabel | str, *, who: str = "python", why: str = "") -> None:
        """Say how a run went, as `koboshi outcome set` does; labels are added, never changed."""
        outcome = Outcome(label=OutcomeLabel(label), source=OutcomeSource.PERSON, who=who, rationale=why)
        self.session.store.add_outcome(run_id, outcome)

    def close(self) -> None:
        """End the model's worker and close the store; safe to call twice."""
        if not self._loop.closed:
            try:
                self._loop.wait(_leave(self._context))
            finally:
                self._loop.close()

    def __enter__(self) -> "OpenProject":
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()


async def _enter(session: AbstractAsyncContextManager[Session]) -> Session:
    return await session.__aenter__()


async def _leave(session: AbstractAsyncContextManager[Session]) -> None:
    await session.__aexit__(None, None, None)
