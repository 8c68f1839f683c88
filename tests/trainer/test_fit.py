import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers

from koboshi_tools import KoboshiError, UsageError
from koboshi_trainer import lora
from koboshi_trainer.fit import fit
from koboshi_trainer.fit_values import FitProgress, FitSettings
from koboshi_trainer.rows import TokenRow

SETTINGS = FitSettings(
    r=8, alpha=16, learning_rate=5e-2, optimizer_steps=12, batch_rows=4, dtype="float32", checkpoint_every=4
)


class Killed(Exception):
    """Stands for the end of a process."""


def model() -> Any:
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        vocab_size=61,
        initializer_range=0.2,
    )
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


def rows(count: int = 8) -> list[TokenRow]:
    made = []
    for number in range(count):
        ids = tuple((7 * i + 13 * number + i * number) % 61 for i in range(12))
        label = "success" if number % 2 else "failure"
        made.append(TokenRow((1, 2, 3, 4), ids, tuple(i > 3 for i in range(12)), label=label, group=str(number)))
    return made


def killed_after(steps: int) -> Any:
    def progress(told: FitProgress) -> None:
        if told.optimizer_step == steps:
            raise Killed

    return progress


def test_eight_rows_are_learnt_by_heart(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"optimizer_steps": 80, "learning_rate": 3e-2, "batch_rows": 8})
    report = fit(model(), rows(), settings, tmp_path, base="b", held_out={"seen": rows()})
    assert report.held_out_before["seen"] > 4
    assert report.held_out_after["seen"] < 0.4
    assert report.loss_last < report.loss_first
    assert report.update_norm > 0


def test_same_seed_gives_the_same_adapter_and_another_seed_another(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fit(model(), rows(), SETTINGS.model_copy(update={"seed": seed}), tmp_path / name, base="b")
    first, same, other = (lora.load_state(tmp_path / name) for name in ("a", "b", "c"))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("steps", [3, 4, 11])
def test_fit_that_was_cut_off_gives_the_adapter_of_one_that_was_not(tmp_path: Path, steps: int) -> None:
    held_out = {"seen": rows()}
    cut = tmp_path / "cut"
    whole = fit(model(), rows(), SETTINGS, tmp_path / "whole", base="b", held_out=held_out)
    with pytest.raises(Killed):
        fit(model(), rows(), SETTINGS, cut, base="b", held_out=held_out, progress=killed_after(steps))
    resumed = fit(model(), rows(), SETTINGS, cut, base="b", held_out=held_out)
    assert resumed.losses == whole.losses
    assert resumed.held_out_after == whole.held_out_after
    one, two = lora.load_state(tmp_path / "whole"), lora.load_state(cut)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not (cut / "checkpoint.pt").exists()


def test_checkpoint_of_another_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        fit(model(), rows(), SETTINGS, tmp_path, base="b", progress=killed_after(4))
    with pytest.raises(KoboshiError, match="another fit"):
        fit(model(), rows(7), SETTINGS, tmp_path, base="b")


def test_finished_fit_is_not_done_again(tmp_path: Path) -> None:
    report = fit(model(), rows(), SETTINGS, tmp_path, base="b")
    assert fit(model(), rows(), SETTINGS, tmp_path, base="b", progress=killed_after(1)) == report


def test_adapter_loads_in_peft_and_computes_the_same(tmp_path: Path) -> None:
    base = model()
    row = rows()[0]
    report = fit(base, rows(), SETTINGS, tmp_path, base="b", held_out={"one": [row]})
    loaded = peft.PeftModel.from_pretrained(base, str(tmp_path))
    ids = torch.tensor([[*row.prefix_ids, *row.ids]])
    labels = torch.tensor([[-100] * 4 + [i if learn else -100 for i, learn in zip(row.ids, row.learn, strict=True)]])
    assert float(loaded(input_ids=ids, labels=labels).loss) == pytest.approx(report.held_out_after["one"], rel=1e-4)


def test_micro_batches_do_not_change_the_loss_of_an_optimizer_step(tmp_path: Path) -> None:
    reports = [
        fit(model(), rows(), SETTINGS.model_copy(update=change), tmp_path / name, base="b")
        for name, change in (
            ("together", {}),
            ("apart", {"micro_tokens": 1}),
            ("unshared", {"share_prefix": False}),
        )
    ]
    assert reports[1].losses == pytest.approx(reports[0].losses, rel=1e-3)
    assert reports[2].losses == pytest.approx(reports[0].losses, rel=1e-3)
    assert reports[0].tokens == reports[1].tokens == reports[2].tokens
    assert reports[0].computed_tokens < reports[2].computed_tokens == reports[2].tokens


def test_row_of_small_weight_moves_the_adapter_less(tmp_path: Path) -> None:
    weighted = [
        TokenRow(row.prefix_ids, row.ids, row.learn, weight=0.05 if row.label == "failure" else 1.0, label=row.label)
        for row in rows()
    ]
    parts = {label: [row for row in rows() if row.label == label] for label in ("success", "failure")}
    report = fit(model(), weighted, SETTINGS, tmp_path, base="b", held_out=parts)
    gained = {name: report.held_out_before[name] - report.held_out_after[name] for name in parts}
    assert gained["success"] > 2 * gained["failure"]


def test_fit_stops_when_the_held_out_loss_no_longer_falls_and_keeps_the_best(tmp_path: Path) -> None:
    wrong = [TokenRow(row.prefix_ids, row.ids[::-1], row.learn) for row in rows()]
    settings = SETTINGS.model_copy(update={"optimizer_steps": 60, "evaluate_every": 2, "patience": 2})
    report = fit(model(), rows(), settings, tmp_path, base="b", held_out={"other": wrong})
    assert report.stopped_early
    assert report.kept_step < report.optimizer_steps < 60


def test_report_counts_what_was_done(tmp_path: Path) -> None:
    told: list[FitProgress] = []
    report = fit(model(), rows(), SETTINGS, tmp_path, base="b", progress=told.append)
    assert report.label_mix == {"failure": 4, "success": 4}
    assert (report.optimizer_steps, len(report.losses), len(report.gradient_norms)) == (12, 12, 12)
    assert report.tokens == 12 * 4 * 16
    assert report.computed_tokens == 12 * (4 + 4 * 12)
    assert report.learnt_tokens == 12 * 4 * 8
    assert [one.optimizer_step for one in told] == list(range(1, 13))
    assert told[-1].remaining_s == 0 < told[0].remaining_s


def test_loss_that_is_no_number_is_said_and_leaves_no_adapter(tmp_path: Path) -> None:
    broken = model()
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    with pytest.raises(KoboshiError, match="loss of nan"):
        fit(broken, rows(), SETTINGS, tmp_path, base="b")
    assert list(tmp_path.iterdir()) == []


def test_no_rows_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no row"):
        fit(model(), [], SETTINGS, tmp_path, base="b")


def test_bf16_learns_too(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"optimizer_steps": 40, "dtype": "bfloat16", "learning_rate": 2e-2})
    report = fit(model(), rows(), settings, tmp_path, base="b", held_out={"seen": rows()})
    assert report.dtype == "bfloat16"
    assert report.held_out_after["seen"] < report.held_out_before["seen"] / 2


@pytest.mark.slow
def test_kill_9_in_the_middle_loses_nothing_that_a_rerun_does_not_bring_back(tmp_path: Path) -> None:
    whole = fit(model(), rows(), SETTINGS, tmp_path / "whole", base="b")
    code = (
        "import sys; from pathlib import Path; from tests.trainer.test_fit import SETTINGS, model, rows; "
        "from koboshi_trainer.fit import fit; "
        "fit(model(), rows(), SETTINGS, Path(sys.argv[1]), base='b', "
        "progress=lambda told: print(told.optimizer_step, flush=True) or "
        "(told.optimizer_step == 7 and sys.stdin.read()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "killed")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        while process.stdout.readline().strip() != "7":
            assert process.poll() is None
        os.kill(process.pid, signal.SIGKILL)
    again = fit(model(), rows(), SETTINGS, tmp_path / "killed", base="b")
    assert again.losses == whole.losses
    assert sorted(path.name for path in (tmp_path / "killed").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "fit.json",
    ]
