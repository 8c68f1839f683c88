"""Train an adapter on rows: the whole loop, top to bottom.

The same rows, settings, base and machine give the same adapter, also when the process was killed on the way: a call
with the same arguments goes on from the last checkpoint. The loss of an optimizer step is the weighted mean over all
its learnt ids, however they fall into micro-batches. The model is lent: it comes back frozen, in the dtype it was
trained in, on the device that it was on, without the adapter.
"""

import json
import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from koboshi_runtime.files import replace_file, sync_folder
from koboshi_tools import KoboshiError, UsageError, hash_value

from . import lora
from .batches import OptimizerBatch, micro_batches
from .checkpoints import Progress, load_checkpoint, save_checkpoint
from .devices import device_of, faster_dtype, on
from .fit_values import FitProgress, FitReport, FitSettings, OnProgress
from .lean import lean
from .loss import learnt_loss, targets_of
from .objectives import Objective, objective_of
from .rows import TokenRow
from .schedule import learning_rate, plan_fit, row_tokens
from .shared_prefix import body_hidden, set_attention, use_shared_prefix
from .team import ALONE, Team

CHECKPOINT_FILE = "checkpoint.pt"
REPORT_FILE = "fit.json"

HeldOut = Mapping[str, Sequence[TokenRow]]


def fit(
    model: Any,
    rows: Sequence[TokenRow],
    settings: FitSettings,
    out_dir: Path,
    *,
    base: str,
    held_out: HeldOut | None = None,
    progress: OnProgress | None = None,
    team: Team = ALONE,
) -> FitReport:
    """Train a fresh adapter for `model` on `rows` and leave it in `out_dir` in PEFT's format, with the report.

    Every process of a `team` calls it with the same arguments and a model of its own. `base` names the weights of
    `model` (a hash) and is part of the fit's identity. `held_out` is measured before and after by the names given.
    Raises UsageError without rows, KoboshiError for another fit's checkpoint in `out_dir` or a loss that is no number.
    """
    if not rows:
        raise UsageError("there is no row to train on", hint="`koboshi nightly status` says which labels are missing.")
    out_dir.mkdir(parents=True, exist_ok=True)
    fit_hash = _fit_hash(rows, settings, base, held_out or {})
    done = _finished(out_dir, fit_hash)
    if done is not None:
        return done
    with _adapted(model, settings, team) as adapter:
        plan = plan_fit(rows, settings)
        objective = objective_of(model, adapter, plan, settings)
        job = _Job(model, adapter, settings, plan, fit_hash, out_dir / CHECKPOINT_FILE, objective, team)
        state = _train(job, held_out or {}, progress)
        if settings.patience is not None and state.best is not None:
            adapter.load(state.best)
        report = _report(job, rows, state)
        if not team.writes:
            return report
        lora.save(adapter.state(), out_dir, r=settings.r, alpha=settings.alpha, base=base)
    replace_file(out_dir / REPORT_FILE, (report.model_dump_json(indent=2) + "\n").encode())
    job.checkpoint.unlink(missing_ok=True)
    sync_folder(out_dir)
    return report


@dataclass(frozen=True, slots=True)
class _Job:
    model: Any
    adapter: lora.Adapter
    settings: FitSettings
    plan: list[OptimizerBatch]
    fit_hash: str
    checkpoint: Path
    objective: Objective
    team: Team


@contextmanager
def _adapted(model: Any, settings: FitSettings, team: Team) -> Iterator[lora.Adapter]:
    with on(model, team.device(device_of(settings.device))):
        model.to(_dtype(settings, team)).train()
        if settings.checkpointing:
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        attention = use_shared_prefix(model)
        adapter = lora.attach(model, r=settings.r, alpha=settings.alpha, seed=settings.seed)
        try:
            with lean(model):
                yield adapter
        finally:
            lora.detach(model, adapter)
            set_attention(model, attention)
            if settings.checkpointing:
                model.gradient_checkpointing_disable()
            model.eval()


def _dtype(settings: FitSettings, team: Team) -> torch.dtype:
    if settings.dtype != "auto":
        named: torch.dtype = getattr(torch, settings.dtype)
        return named
    # Measured, so it might come out otherwise in each process.
    return torch.bfloat16 if team.follow(faster_dtype() is torch.bfloat16) else torch.float32


def _train(job: _Job, held_out: HeldOut, on_progress: OnProgress | None) -> Progress:
    settings = job.settings
    optimizer = torch.optim.AdamW(
        list(job.adapter.parameters()), lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=True
    )
    state = _resume(job, optimizer) or Progress(held_out=[_measure(job, held_out)])
    for number in range(state.optimizer_step, len(job.plan)):
        if _stopped(state, settings):
            break
        start = time.perf_counter()
        _optimizer_step(job, optimizer, job.plan[number], state)
        state.seconds += time.perf_counter() - start
        if settings.evaluate_every and state.optimizer_step % settings.evaluate_every == 0:
            _evaluate(job, held_out, state)
        if job.team.writes and state.optimizer_step % settings.checkpoint_every == 0:
            save_checkpoint(
                job.checkpoint, job.fit_hash, state, adapter=job.adapter.state(), optimizer=optimizer.state_dict()
            )
        if on_progress is not None and job.team.writes:
            on_progress(_told(state, len(job.plan)))
    if not (settings.evaluate_every and state.optimizer_step % settings.evaluate_every == 0):
        _evaluate(job, held_out, state)
    return state


def _optimizer_step(job: _Job, optimizer: torch.optim.Optimizer, batch: OptimizerBatch, state: Progress) -> None:
    settings = job.settings
    rate = learning_rate(state.optimizer_step, len(job.plan), settings)
    for group in optimizer.param_groups:
        group["lr"] = rate
    weight = job.objective.begin(batch)
    head = job.model.get_output_embeddings().weight
    loss, computed = 0.0, 0
    for micro in job.team.share(batch, settings.micro_tokens):
        total, own = job.objective.loss(micro, body_hidden(job.model, micro), head)
        (total / weight).backward()  # type: ignore[no-untyped-call]
        loss += own / weight
        computed += micro.tokens
    loss, computed_by_all = job.team.add_up(job.adapter.parameters(), (loss, float(computed)))
    state.computed_tokens += round(computed_by_all)
    norm = float(torch.nn.utils.clip_grad_norm_(list(job.adapter.parameters()), settings.max_gradient_norm))
    if not math.isfinite(loss) or not math.isfinite(norm):
        raise KoboshiError(
            f"optimizer step {state.optimizer_step + 1} gave a loss of {loss} and a gradient of {norm}",
            hint="Train with a lower --learning-rate; nothing was kept of this fit.",
        )
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    state.optimizer_step += 1
    state.losses.append(loss)
    state.gradient_norms.append(norm)
    state.tokens += row_tokens(batch)
    state.learnt_tokens += sum(
        row.learnt for micro in batch for row, own in zip(micro.rows, micro.own, strict=True) if own
    )


@torch.no_grad()
def held_out_loss(model: Any, rows: Sequence[TokenRow], *, max_tokens: int) -> float:
    """Return the mean loss per learnt id of `rows`, unweighted; the model must compute flat micro-batches."""
    head = model.get_output_embeddings().weight
    total, count = 0.0, 0
    for micro in micro_batches(rows, max_tokens=max_tokens):
        _, losses = learnt_loss(body_hidden(model, micro), head, targets_of(micro))
        total += float(losses.sum())
        count += len(losses)
    return total / count


def _measure(job: _Job, held_out: HeldOut) -> dict[str, float]:
    tokens = job.settings.micro_tokens
    return {name: held_out_loss(job.model, rows, max_tokens=tokens) for name, rows in held_out.items() if rows}


def _evaluate(job: _Job, held_out: HeldOut, state: Progress) -> None:
    measured = _measure(job, held_out)
    state.held_out.append(measured)
    loss = sum(measured.values()) / len(measured) if measured else 0.0
    if measured and loss < state.best_loss:
        state.best_loss, state.best_step, state.best = loss, state.optimizer_step, job.adapter.state()


def _stopped(state: Progress, settings: FitSettings) -> bool:
    if settings.patience is None or not settings.evaluate_every:
        return False
    return state.optimizer_step - state.best_step >= settings.patience * settings.evaluate_every


def _resume(job: _Job, optimizer: torch.optim.Optimizer) -> Progress | None:
    found = load_checkpoint(job.checkpoint, job.fit_hash)
    if found is None:
        return None
    job.adapter.load(found["adapter"])
    optimizer.load_state_dict(found["optimizer"])
    progress: Progress = found["progress"]
    return progress


def _told(state: Progress, steps: int) -> FitProgress:
    rate = state.seconds / state.optimizer_step
    return FitProgress(
        optimizer_step=state.optimizer_step,
        optimizer_steps=steps,
        loss=state.losses[-1],
        seconds=state.seconds,
        remaining_s=rate * (steps - state.optimizer_step),
    )


def _report(job: _Job, rows: Sequence[TokenRow], state: Progress) -> FitReport:
    kept = state.best_step if job.settings.patience is not None and state.best is not None else state.optimizer_step
    edge = max(1, len(state.losses) // 10)
    return FitReport(
        fit_hash=job.fit_hash,
        optimizer_steps=state.optimizer_step,
        kept_step=kept,
        rows=len(rows),
        label_mix=dict(sorted(Counter(row.label for row in rows).items())),
        tokens=state.tokens,
        computed_tokens=state.computed_tokens,
        learnt_tokens=state.learnt_tokens,
        seconds=state.seconds,
        tokens_per_s=state.tokens / state.seconds,
        dtype=str(job.model.dtype).removeprefix("torch."),
        loss_first=sum(state.losses[:edge]) / edge,
        loss_last=sum(state.losses[-edge:]) / edge,
        losses=tuple(state.losses),
        gradient_norms=tuple(state.gradient_norms),
        held_out_before=state.held_out[0],
        held_out_after=min(state.held_out[1:], key=_mean) if kept != state.optimizer_step else state.held_out[-1],
        stopped_early=state.optimizer_step < len(job.plan),
        update_norm=_update_norm(job.adapter),
        settings=job.settings,
    )


def _mean(measured: Mapping[str, float]) -> float:
    return sum(measured.values()) / max(1, len(measured))


def _update_norm(adapter: lora.Adapter) -> float:
    """The Frobenius norm of all updates together; 0 means that nothing was learnt."""
    squares: list[Tensor] = []
    for layer in adapter.layers.values():
        a, b = layer.lora_a.detach(), layer.lora_b.detach()
        squares.append(((b.T @ b) * (a @ a.T)).sum() * layer.scale**2)
    return math.sqrt(max(0.0, float(torch.stack(squares).sum())))


def _fit_hash(rows: Sequence[TokenRow], settings: FitSettings, base: str, held_out: HeldOut) -> str:
    def plain(some: Sequence[TokenRow]) -> list[Any]:
        return [
            [row.prefix_ids, row.ids, row.learn, row.weight, row.label, row.group]
            + ([plain([row.twin])] if row.twin is not None else [])
            for row in some
        ]

    held = {name: plain(some) for name, some in held_out.items()}
    return hash_value([plain(rows), settings.identity(), base, held])


def _finished(out_dir: Path, fit_hash: str) -> FitReport | None:
    path = out_dir / REPORT_FILE
    if not path.exists():
        return None
    report = FitReport.model_validate(json.loads(path.read_text(encoding="utf-8")))
    return report if report.fit_hash == fit_hash else None
