"""What an experiment leaves to be committed: one small JSON for each fit and for each measurement.

A result names the key of all that went into it, so that it is made anew when one of its inputs changes and never
otherwise; and the hash of the experiment file that it was made under, so that a report can say which are of another
version. Outcomes are one character a task, in the order of the tasks, which is all that paired statistics need.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from koboshi_runtime.files import replace_file
from koboshi_tools import Frozen, KoboshiError

from ..auroc import Auroc
from ..guards import Guards

SUCCESS_MARK, FAILURE_MARK = "1", "0"


class FitResult(Frozen):
    """What a fit did; losses are per learnt id, `kept_by_layer` the share of the update that the Q8_0 file kept."""

    kind: Literal["fit"] = "fit"
    key: str
    experiment: str
    arm: str
    seed: int
    method: str
    model_hash: str
    rows: int
    label_mix: dict[str, int]
    optimizer_steps: int
    tokens: int
    learnt_tokens: int
    seconds: float
    losses: tuple[float, ...]
    gradient_norm_first: float
    gradient_norm_last: float
    update_norm: float
    guards: Guards | None
    kept_total: float | None
    kept_by_layer: dict[int, float]
    settings: dict[str, object]


class RunsResult(Frozen):
    """What became of one model on one set of tasks, decoded in one way.

    `outcomes` has 1 for a success and 0 for anything else, of the first sample where several were drawn; `chosen` has
    the same for each way of choosing one of several samples.
    """

    kind: Literal["runs"] = "runs"
    key: str
    experiment: str
    arm: str
    seed: int
    evaluation: str
    decoding: str
    model_hash: str
    tasks: int
    tasks_hash: str
    samples: int
    outcomes: str
    chosen: dict[str, str] = Field(default_factory=dict)
    auroc: dict[str, Auroc] = Field(default_factory=dict)
    calls_begun: int
    invalid_calls: int
    mean_steps: float | None
    output_tokens: int
    seconds: float


class PoolResult(Frozen):
    """Of what the pool and the demonstrations are, and how often the seeded model solved a train task.

    `seed` is None where one pool stands under all seeds.
    """

    kind: Literal["pool"] = "pool"
    key: str
    experiment: str
    runs: int
    successes: int
    tasks: int
    solved_tasks: int
    train: int
    held_out: int
    seed: int | None = None
    labels: dict[str, int]
    failure_classes: dict[str, int]
    excluded: dict[str, int]
    demonstrations: int


Result = Annotated[FitResult | RunsResult | PoolResult, Field(discriminator="kind")]
_ANY: TypeAdapter[FitResult | RunsResult | PoolResult] = TypeAdapter(Result)


class Found(NamedTuple):
    """All results of a folder, by kind."""

    fits: tuple[FitResult, ...]
    runs: tuple[RunsResult, ...]
    pools: tuple[PoolResult, ...]


def fit_name(arm: str, seed: int) -> str:
    """Return the file's name of a fit's result."""
    return f"{arm}.s{seed}.fit.json"


def runs_name(arm: str, seed: int, evaluation: str, decoding: str) -> str:
    """Return the file's name of a measurement's result."""
    return f"{arm}.s{seed}.{evaluation}.{decoding}.json"


def pool_name(seed: int | None) -> str:
    """Return the file's name of a pool's result, of one seed or of all."""
    return "pool.json" if seed is None else f"pool.s{seed}.json"


def write_result(folder: Path, name: str, result: FitResult | RunsResult | PoolResult) -> None:
    """Write a result durably, readable by everybody as other files of a repository are."""
    folder.mkdir(parents=True, exist_ok=True)
    # One line a key: the lists of a curve stay on theirs, and a changed number is one changed line.
    lines = (f" {json.dumps(key)}: {json.dumps(value)}" for key, value in result.model_dump(mode="json").items())
    replace_file(folder / name, ("{\n" + ",\n".join(lines) + "\n}\n").encode())
    (folder / name).chmod(0o644)


def read_result(path: Path) -> FitResult | RunsResult | PoolResult | None:
    """Return the result in a file, or None if there is no such file. Raises KoboshiError if it is none."""
    try:
        return _ANY.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]["msg"]
        raise KoboshiError(f"{path} is not a result of the lab: {first}", hint="Remove it and run again.") from error


def read_all(folder: Path) -> Found:
    """Return every result in a folder, in the order of the files' names."""
    found = list(_results(folder))
    return Found(
        fits=tuple(one for one in found if isinstance(one, FitResult)),
        runs=tuple(one for one in found if isinstance(one, RunsResult)),
        pools=tuple(one for one in found if isinstance(one, PoolResult)),
    )


def _results(folder: Path) -> Iterator[FitResult | RunsResult | PoolResult]:
    for path in sorted(folder.glob("*.json")):
        result = read_result(path)
        if result is not None:
            yield result
