"""A watched model is, to the runner, the model behind it."""

from types import SimpleNamespace

from koboshi_runtime.model import KeepsRuns
from koboshi_trainer.demo.watch import WatchedModel


def test_end_of_a_watched_run_reaches_the_model_that_keeps_it() -> None:
    released: list[str] = []
    watched = WatchedModel(SimpleNamespace(info=None, begin_id=None, release=released.append), lambda line: None)
    assert isinstance(watched, KeepsRuns)
    watched.release("run-1")
    assert released == ["run-1"]
