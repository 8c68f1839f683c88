"""A watched model is, to the runner, the model behind it."""

from types import SimpleNamespace
from typing import cast

from koboshi_runtime.model import KeepsRuns
from koboshi_runtime.workermodel import WorkerModel
from koboshi_trainer.demo.watch import WatchedModel


def test_end_of_a_watched_run_reaches_the_model_that_keeps_it() -> None:
    released: list[str] = []
    model = cast(WorkerModel, SimpleNamespace(info=None, begin_id=None, release=released.append))
    watched = WatchedModel(model, lambda line: None)
    assert isinstance(watched, KeepsRuns)
    watched.release("run-1")
    assert released == ["run-1"]
