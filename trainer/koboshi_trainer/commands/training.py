"""What the verbs that train share: the place to work in, the plan of a fit, and how Ctrl-C ends one."""

import os
import signal
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from koboshi_runtime.cli.context import load_config_here, open_home, project_dir
from koboshi_runtime.cli.trust import ask_for_trust
from koboshi_tools import UsageError

if TYPE_CHECKING:
    from koboshi_runtime.config_values import TrainSettings

    from ..stages import FitPlan
    from ..workshop import Workshop

Result = TypeVar("Result")


@contextmanager
def workshop_here(keys: Mapping[str, Any]) -> "Iterator[Workshop]":
    """Open the project here for training, with the settings that flags gave; the process steps back for others."""
    from ..workshop import Workshop

    settings = load_config_here(keys).settings
    folder = project_dir()
    if folder is None:
        raise UsageError(
            "there is no project here to train for", hint="Make one with `koboshi init DIR`, or name it with -C DIR."
        )
    home = open_home()
    ask_for_trust(home, folder)
    _step_back(settings.train)
    workshop = Workshop.open(home, folder, settings)
    try:
        yield workshop
    finally:
        workshop.close()


def plan_of(workshop: "Workshop") -> "FitPlan":
    """Return how the settings say to train what is current here."""
    from koboshi_runtime.estimate import weights_of
    from koboshi_runtime.models.inspect import inspect_gguf

    from ..train_settings import fit_plan

    base = workshop.base_of(workshop.registry.current()).path
    return fit_plan(workshop.settings.train, weights=weights_of(inspect_gguf(base), base.stat().st_size))


def run_stages(work: Coroutine[Any, Any, Result]) -> Result:
    """Run a pipeline to its end, or until Ctrl-C."""
    import asyncio

    stop_at_once()
    return asyncio.run(work)


def stop_at_once() -> None:
    """Let Ctrl-C end a fit: asyncio would turn it into a request to its tasks, which waits for a whole fit to end."""
    signal.signal(signal.SIGINT, _interrupt)


def _interrupt(signal_number: int, frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _step_back(settings: "TrainSettings") -> None:
    """Leave the processors to whoever works at the machine."""
    import torch

    os.nice(settings.nice)
    torch.set_num_threads(settings.threads)
