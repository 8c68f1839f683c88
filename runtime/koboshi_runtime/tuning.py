"""The settings of the worker that were measured to be the fastest here, kept for each machine and model.

What a person or a project configured is never overridden. Everything that loads a model, for runs, gates and training
alike, asks `worker_settings`, so that what serves is what the gate saw.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from koboshi_tools import Frozen, KoboshiError, hash_value

from .config_values import Settings
from .files import replace_file
from .home import Home
from .machine import describe
from .models.registry import ModelEntry
from .packs import PACKS, load_pack
from .worker import kernels
from .worker.facts import Agreement, Pace
from .workermodel import WorkerSettings

_FILE = "tuned.json"
_TRIAL_SECONDS = 300.0

# Two files of the same weights differ by so much on some hundred tokens without one being the worse.
_TOP1_SLACK = 0.01


class Tuned(Frozen):
    """What is chosen by measurement; see `llama.EngineSettings`."""

    threads: int
    batch_threads: int
    flash_attention: bool
    cell_type: Literal["f16", "bf16"]


class Trial(Frozen):
    """One combination with its pace, and how far it agrees with the F16 file, where there is one."""

    tuned: Tuned
    pace: Pace
    agreement: Agreement | None = None


def worker_settings(home: Home, settings: Settings, entry: ModelEntry) -> WorkerSettings:
    """Return how `entry` is loaded: as configured, else as tuned for this machine, else by default."""
    base = WorkerSettings(
        **settings.worker.model_dump(),
        adapter=entry.adapter,
        prefixes=home.run / "prefixes",
        prefix_mb=settings.disk.prefix_mb,
    )
    found = _read(home).get(_key(entry))
    if found is None:
        return base
    given = settings.worker.model_fields_set
    return replace(base, **{name: value for name, value in found.model_dump().items() if name not in given})


def tune(
    home: Home,
    entry: ModelEntry,
    settings: WorkerSettings,
    *,
    reference: Path | None,
    progress: Callable[[str], None],
) -> tuple[Trial, ...]:
    """Try the combinations, keep the fastest for all runs at once, and return all of them, the fastest first.

    `reference` is an F16 file of the same weights. A combination that thinks another token the likeliest more often
    than the best one does, by more than `_TOP1_SLACK`, is shown and not kept. Raises KoboshiError where a file does not
    load.
    """
    trials = []
    for tuned in candidates(describe().processors):
        tried = replace(settings, **tuned.model_dump())
        agreement = _agreement(entry.path, tried, reference) if reference else None
        trials.append(Trial(tuned=tuned, pace=_pace(entry.path, tried), agreement=agreement))
        progress(f"{described(tuned)}: {trials[-1].pace.many_ms} ms a step of {trials[-1].pace.parallel} runs")
    trials.sort(key=lambda trial: trial.pace.many_ms)
    _write(home, {**_read(home), _key(entry): choose(trials).tuned})
    return tuple(trials)


def choose(trials: Sequence[Trial]) -> Trial:
    """Return the fastest of those that agree with F16 as well as the best does."""
    best = max((trial.agreement.top1 for trial in trials if trial.agreement), default=0.0)
    good = [trial for trial in trials if trial.agreement is None or trial.agreement.top1 >= best - _TOP1_SLACK]
    return min(good, key=lambda trial: trial.pace.many_ms)


def candidates(processors: int) -> Sequence[Tuned]:
    """Return what is worth trying: attention with both kinds of cells, on all processors and on half of them."""
    threads = sorted({processors, max(1, processors // 2)}, reverse=True)
    attention: tuple[tuple[bool, Literal["f16", "bf16"]], ...] = ((True, "f16"), (False, "f16"), (False, "bf16"))
    return [
        Tuned(threads=count, batch_threads=count, flash_attention=flash, cell_type=cells)
        for count, (flash, cells) in product(threads, attention)
    ]


def described(tuned: Tuned) -> str:
    """Return a combination in words."""
    attention = "flash attention" if tuned.flash_attention else "plain attention"
    return f"{tuned.threads} thread{'s' * (tuned.threads > 1)}, {attention}, {tuned.cell_type} cells"


def _pace(path: Path, settings: WorkerSettings) -> Pace:
    return Pace.model_validate(_child("pace", path, settings)["pace"])


def _agreement(path: Path, settings: WorkerSettings, reference: Path) -> Agreement:
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write(_text())
        file.flush()
        return Agreement.model_validate(_child("agree", path, settings, str(reference), file.name)["agreement"])


def _text() -> str:
    """Return what models are compared on: questions of both packs, with their numbers and names."""
    return "\n".join(task.prompt for name in PACKS for task in load_pack(name).generate("dev", 12, 0))


def _child(verb: str, path: Path, settings: WorkerSettings, *others: str) -> dict[str, Any]:
    told = json.dumps(settings.as_fields(""))
    command = [sys.executable, "-m", "koboshi_runtime.worker", verb, str(path), told, *others]
    done = subprocess.run(command, capture_output=True, timeout=_TRIAL_SECONDS, check=False)
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    if done.returncode != 0 or not lines:
        raise KoboshiError(f"llama.cpp ended with {done.returncode} while {path} was measured")
    answer: dict[str, Any] = json.loads(lines[-1])
    if not answer["ok"]:
        raise KoboshiError(answer["error"])
    return answer


def _key(entry: ModelEntry) -> str:
    machine = describe()
    named = [machine.processor, machine.processors, entry.manifest.model_hash]
    # What is fastest beside llama.cpp's kernels is not what is beside ours.
    own = [kernels.library_path().name] if kernels.why_not() is None else []
    return hash_value(named + own)


def _read(home: Home) -> dict[str, Tuned]:
    path = home.models / _FILE
    if not path.exists():
        return {}
    try:
        return {key: Tuned.model_validate(value) for key, value in json.loads(path.read_bytes()).items()}
    except (ValueError, ValidationError, AttributeError) as error:
        raise KoboshiError(
            f"{path} is not readable: {error}", hint="remove it, and run: koboshi doctor --tune"
        ) from error


def _write(home: Home, found: dict[str, Tuned]) -> None:
    text = json.dumps({key: tuned.model_dump() for key, tuned in found.items()}, indent=1)
    replace_file(home.models / _FILE, text.encode())
