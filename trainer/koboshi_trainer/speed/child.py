"""`python -m koboshi_trainer.speed.child SIDE JOB`: train one epoch with one trainer, and print its speed as JSON."""

import json
import resource
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from ..fit import fit
from ..fit_values import FitSettings
from ..rows import TokenRow
from ..weights import load_model
from .measure import SideSpeed, SpeedSettings

_IGNORED = -100


def main() -> None:
    """Train with the side that the command line names."""
    side, job = sys.argv[1], json.loads(Path(sys.argv[2]).read_bytes())
    rows = [TokenRow(tuple(prefix), tuple(ids), tuple(learn)) for prefix, ids, learn in job["rows"]]
    settings = SpeedSettings(**job["settings"])
    torch.set_num_threads(settings.threads)
    with tempfile.TemporaryDirectory(prefix="koboshi-speed-") as folder:
        work = _koboshi if side == "koboshi" else _trl
        print(work(Path(job["master"]), rows, settings, Path(folder)).model_dump_json())


def _koboshi(master: Path, rows: list[TokenRow], settings: SpeedSettings, folder: Path) -> SideSpeed:
    own = FitSettings(
        r=settings.r,
        alpha=settings.alpha,
        learning_rate=settings.learning_rate,
        batch_rows=settings.batch_rows,
        dtype="bfloat16",
        checkpoint_every=10**6,
    )
    model = load_model(master, torch.bfloat16)
    _warm_up(lambda few: fit(model, few, own, folder / "warm", base="speed"), rows)
    report = fit(model, rows, own, folder / "fit", base="speed")
    return SideSpeed(
        side="koboshi",
        variant="as it is",
        tokens=report.tokens,
        learnt_tokens=report.learnt_tokens,
        computed_tokens=report.computed_tokens,
        optimizer_steps=report.optimizer_steps,
        seconds=report.seconds,
        tokens_per_s=report.tokens / report.seconds,
        peak_bytes=_peak_bytes(),
        loss_first=report.losses[0],
        loss_last=report.losses[-1],
    )


def _trl(master: Path, rows: list[TokenRow], settings: SpeedSettings, folder: Path) -> SideSpeed:
    from .trl import train

    model = load_model(master, torch.bfloat16)
    # TRL draws its batches by its own order; their rows and tokens are those of one epoch all the same.
    seconds, losses = train(model, [_as_lists(row) for row in rows], settings, folder)
    tokens = sum(len(row.prefix_ids) + len(row.ids) for row in rows)
    return SideSpeed(
        side="trl",
        variant=f"{settings.micro_rows} rows at once, {settings.loss_type}",
        tokens=tokens,
        learnt_tokens=sum(row.learnt for row in rows),
        computed_tokens=None,
        optimizer_steps=len(losses),
        seconds=seconds,
        tokens_per_s=tokens / seconds,
        peak_bytes=_peak_bytes(),
        loss_first=losses[0],
        loss_last=losses[-1],
    )


def _warm_up(run: Any, rows: list[TokenRow]) -> None:
    """Take one optimizer step, so that what is prepared once for a shape is not measured on either side."""
    run(rows[:16])


def _as_lists(row: TokenRow) -> dict[str, list[int]]:
    ids = [*row.prefix_ids, *row.ids]
    learn = [*[False] * len(row.prefix_ids), *row.learn]
    return {"input_ids": ids, "labels": [token if it else _IGNORED for token, it in zip(ids, learn, strict=True)]}


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
