"""What a model needs here, before anything is loaded: memory to serve, memory and disk for a night, and what is there.

Estimates, made from the file's header. Serving is what llama.cpp allocates: the weights, a KV cache of all sequences at
their full length, and the logits of one batch. A night keeps the weights, in 16 bits or in 4, beside what LoRA needs
for the positions that it computes together, and writes an F16 master, an F16 candidate and its quantised form.
"""

import os
import shutil
from pathlib import Path

from koboshi_tools import Frozen

from .config_values import TrainSettings
from .worker.facts import GgufFacts
from .workermodel import WorkerSettings

_CELL_BYTES = 2
_LOGIT_BYTES = 4

# Of a training process: its libraries; then what grows with a model, measured on SmolLM2-135M at rank 32, whose layers
# times width are `_MEASURED_WIDTH`: optimizer state, logits and what is computed on the way, and what each position
# keeps for the gradient. Checkpointing keeps about a tenth of that.
_PROCESS_BYTES = 0.35e9
_FIT_BYTES, _POSITION_BYTES, _MEASURED_WIDTH, _CHECKPOINTED = 0.65e9, 0.65e6, 30 * 576, 0.1
_FOUR_BIT_BYTES = 4.5 / 8

# Bytes of a night's files for each weight: F16 master 2, F16 candidate 2, Q8_0 release 1.06, adapter and checkpoints.
_NIGHT_BYTES_A_WEIGHT = 5.5

# Bits a weight by `general.file_type`; what is not listed counts as 8, which errs towards more weights than there are.
_BITS = {0: 32.0, 1: 16.0, 2: 4.5, 3: 5.0, 7: 8.5, 14: 4.6, 15: 4.85, 17: 5.7, 18: 6.56, 32: 16.0}


class Need(Frozen):
    """One thing that is needed, in GB of 1,000,000,000 bytes, and how much of it there is."""

    what: str
    needed_gb: float
    there_gb: float

    @property
    def fits(self) -> bool:
        """Whether there is enough."""
        return self.needed_gb <= self.there_gb


def needs(
    facts: GgufFacts, file_bytes: int, settings: WorkerSettings, train: TrainSettings, home: Path
) -> tuple[Need, ...]:
    """Return what serving a model and training it takes, beside what this machine has."""
    memory, disk = available_bytes(), shutil.disk_usage(home).free
    weights = weights_of(facts, file_bytes)
    return (
        _need("memory to serve", serving_bytes(facts, file_bytes, settings), memory),
        _need("memory for a night", training_bytes(facts, weights, train), memory),
        _need("disk for a night", _NIGHT_BYTES_A_WEIGHT * weights, disk),
    )


def training_bytes(facts: GgufFacts, weights: float, settings: TrainSettings) -> float:
    """Return what all processes of a fit of a model with so many weights hold together, with these settings."""
    embedding = min(weights, facts.vocab_size * facts.embedding_length)
    body = _FOUR_BIT_BYTES if settings.four_bit else 2.0
    kept = _CHECKPOINTED if settings.checkpointing else 1.0
    width = facts.block_count * facts.embedding_length / _MEASURED_WIDTH
    fitting = (_FIT_BYTES + settings.micro_tokens * _POSITION_BYTES * kept) * width
    return settings.processes * (2 * embedding + body * (weights - embedding) + fitting + _PROCESS_BYTES)


def weights_of(facts: GgufFacts, file_bytes: int) -> float:
    """Return about how many weights a file holds, by its size and how it is quantised."""
    return 8 * file_bytes / _BITS.get(facts.file_type if facts.file_type is not None else -1, 8.0)


def serving_bytes(facts: GgufFacts, file_bytes: int, settings: WorkerSettings) -> float:
    """Return what a worker with these settings holds at most."""
    cells = settings.context_tokens * settings.parallel
    # Keys and values; a header that does not say how wide they are is taken to share no heads.
    cache = 2 * facts.block_count * (facts.kv_width or facts.embedding_length) * _CELL_BYTES * cells
    return file_bytes + cache + _LOGIT_BYTES * settings.batch_tokens * facts.vocab_size


def available_bytes() -> int:
    """Return how much memory could be had now without swapping."""
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _need(what: str, needed: float, there: float) -> Need:
    return Need(what=what, needed_gb=round(needed / 1e9, 2), there_gb=round(there / 1e9, 2))
