"""Several processes at one fit: the same adapter as one of them alone gives, and none goes on without the others."""

import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.trainer.conftest import Kit
from tests.trainer.test_contrast import with_twins
from tests.trainer.test_fit import SETTINGS, rows

from koboshi_tools import KoboshiError, UsageError
from koboshi_trainer import lora
from koboshi_trainer.fit_file import fit_file
from koboshi_trainer.fit_values import FitProgress
from koboshi_trainer.rows import TokenRow
from koboshi_trainer.schedule import plan_fit
from koboshi_trainer.team import ALONE, Team, team_of
from koboshi_trainer.weights import load_model


@pytest.mark.parametrize("size", [2, 3, 5])
def test_shares_are_the_batch_each_row_once_and_about_equal(size: int) -> None:
    some = [*rows(8), *with_twins(4)]
    (batch, *_) = plan_fit(some, SETTINGS.model_copy(update={"batch_rows": 12}))
    shares = [Team(rank, size).share(batch, 1536) for rank in range(size)]
    shared = [row for share in shares for micro in share for row, own in zip(micro.rows, micro.own, strict=True) if own]
    assert sorted(map(id, shared)) == sorted(map(id, some))
    lengths = [sum(len(row.ids) for micro in share for row in micro.rows) for share in shares]
    longest = max(len(row.ids) * (2 if row.twin else 1) for row in some)
    assert max(lengths) - min(lengths) <= longest


def test_a_process_alone_computes_the_batch_as_it_is() -> None:
    (batch, *_) = plan_fit(rows(), SETTINGS)
    assert ALONE.share(batch, 1) is batch
    assert ALONE.add_up([], (1.0, 2.0)) == [1.0, 2.0]
    with team_of(1, print) as team:
        assert team is ALONE


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match="2 CUDA devices for 3 processes"), team_of(3, print):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("contrast", [0.0, 2.0])
def test_two_processes_give_the_adapter_of_one(tmp_path: Path, kit: Kit, contrast: float) -> None:
    master = kit.write_tiny_model(tmp_path / "m.gguf", "llama")
    some = with_twins(8) if contrast else rows()
    settings = SETTINGS.model_copy(update={"contrast": contrast, "learning_rate": 1e-2})
    reports = {}
    for name, processes in (("one", 1), ("two", 2)):
        own = settings.model_copy(update={"processes": processes})
        reports[name] = fit_file(master, load_model(master), some, own, tmp_path / name, held_out={"seen": some})
    one, two = reports["one"], reports["two"]
    assert two.losses == pytest.approx(one.losses, rel=1e-3)
    assert two.held_out_after["seen"] == pytest.approx(one.held_out_after["seen"], rel=1e-3)
    assert (two.tokens, two.learnt_tokens) == (one.tokens, one.learnt_tokens)
    first, second = (lora.load_state(tmp_path / name) for name in ("one", "two"))
    assert all(torch.allclose(first[name], second[name], atol=1e-3) for name in first)
    assert not (tmp_path / "two" / "checkpoint.pt").exists()


@pytest.mark.slow
def test_a_fit_whose_process_died_says_so_and_goes_on_from_its_checkpoint(tmp_path: Path, kit: Kit) -> None:
    master = kit.write_tiny_model(tmp_path / "m.gguf", "llama")
    settings = SETTINGS.model_copy(update={"processes": 2, "checkpoint_every": 2, "learning_rate": 1e-2})
    train: Any = partial(fit_file, master, load_model(master), rows(), settings, tmp_path / "cut")

    def kill_the_other(told: FitProgress) -> None:
        if told.optimizer_step == 5:
            _kill_children()

    with pytest.raises(KoboshiError, match="a process of the fit died: .* ended with -9") as error:
        train(progress=kill_the_other)
    assert error.value.hint is not None
    steps: list[int] = []
    resumed = train(progress=lambda told: steps.append(told.optimizer_step))
    assert steps[0] in {5, 6}
    whole = fit_file(master, load_model(master), rows(), settings, tmp_path / "whole")
    assert resumed.losses == pytest.approx(whole.losses, rel=1e-5)


def _kill_children() -> None:
    """Kill what this process started, as a machine short of memory would."""
    import multiprocessing

    for child in multiprocessing.active_children():
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
    time.sleep(0.2)


def test_rows_are_pickled_with_their_twins() -> None:
    import pickle

    some: list[TokenRow] = with_twins(2)
    assert pickle.loads(pickle.dumps(some)) == some
