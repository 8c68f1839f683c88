"""An experiment file: what is compared with what, on which tasks, from which base, in one TOML file.

The file holds no data and no path of a machine: data lies in folders that `--data NAME=DIR` names, and what the file
writes as `data:NAME/path`. Every arm is named, every number stands here or is printed as a default. The hash of the
parsed file is kept in each result, so that a report knows which results are of another version of it.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PrivateAttr, StringConstraints, ValidationError, model_validator

from koboshi_runtime.config_values import DEFAULT_MODEL
from koboshi_tools import Frozen, UsageError, hash_value

from ..dataset import DatasetSettings
from ..fit_values import WITHOUT_CONTRAST, FitSettings
from ..identity import LATER, identity
from ..methods import Method
from ..tries import Tries

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
GREEDY = "greedy"


class Source(Frozen):
    """Where tasks come from: exactly one of `pack`, `file`, `gsm8k` and `canaries`; `skip` and `count` cut a part out.

    `gsm8k` is a problem file with `<<expression=result>>` annotations, `steps` how many of them a problem may have.
    """

    pack: str | None = None
    file: str | None = None
    gsm8k: str | None = None
    canaries: str | None = None
    split: str = "train"
    seed: int = 0
    steps: tuple[int, ...] = (1, 2)
    skip: int = Field(default=0, ge=0)
    count: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _one_kind(self) -> "Source":
        given = [name for name in ("pack", "file", "gsm8k", "canaries") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError(f"give one of pack, file, gsm8k and canaries, not {len(given)}")
        return self


class Base(Frozen):
    """The untrained model, as `koboshi models add` takes it."""

    source: str = DEFAULT_MODEL
    template: str | None = None


class Place(Frozen):
    """The project that runs are made in: a pack made anew under `seed`, or a folder."""

    pack: str | None = None
    folder: str | None = None
    seed: int = 0

    @model_validator(mode="after")
    def _one_kind(self) -> "Place":
        if (self.pack is None) == (self.folder is None):
            raise ValueError("give either pack or folder")
        return self


class Worker(Frozen):
    """How models are loaded: tokens of one run, and how many run at once."""

    context_tokens: int = Field(default=1536, ge=64)
    parallel: int = Field(default=16, ge=1, le=256)


class Seeded(Frozen):
    """The model that the arms start from: the base, trained once on demonstrations."""

    demonstrations: Source
    fit: FitSettings = FitSettings(learning_rate=1e-3)


_RETRYING = ("retries", "retry_temperature")
_BEYOND = {"retry_guidance", "hard_negatives", "forks", "finishes"}


class Pool(Frozen):
    """The seeded model's own runs, from which all arms take their rows. Failures are cut down by each arm."""

    tasks: tuple[Source, ...] = Field(min_length=1)
    samples: int = Field(default=4, ge=1)
    temperature: float = Field(default=0.8, gt=0)
    retries: int = Field(default=0, ge=0)
    retry_temperature: float = Field(default=1.0, gt=0)
    retry_guidance: Annotated[float, LATER] = Field(default=0.0, ge=0)
    hard_negatives: Annotated[int, LATER] = Field(default=0, ge=0)
    forks: Annotated[int, LATER] = Field(default=0, ge=0)
    finishes: Annotated[int, LATER] = Field(default=0, ge=0)
    seed: int = 0
    dataset: DatasetSettings = DatasetSettings()

    @property
    def tries(self) -> Tries:
        """How often a task is tried."""
        return Tries(
            samples=self.samples,
            temperature=self.temperature,
            retries=self.retries,
            retry_temperature=self.retry_temperature,
            retry_guidance=self.retry_guidance,
            hard_negatives=self.hard_negatives,
            forks=self.forks,
            finishes=self.finishes,
        )

    @property
    def beyond(self) -> dict[str, Any]:
        """What of the tries came later than the first results, where it is used."""
        return self.model_dump(include=_BEYOND, exclude_defaults=True)


class ArmFit(Frozen):
    """How all arms are fitted. `start` is the model that the adapter is laid on; `replay` counts demonstrations a row.

    `failures_per_success` cuts the pool's failures down, `sure_share` the successes at tasks that never failed, by the
    same stable choice for every arm; `pairs_first` keeps failures at tasks that were also solved before others. `steps`
    learns what a failed run did before its first bad step as a success; without `forked` no fork is used.
    """

    start: Literal["seeded", "base"] = "seeded"
    replay: float = Field(default=0.0, ge=0)
    failures_per_success: float | None = Field(default=None, gt=0)
    sure_share: float = Field(default=1.0, ge=0, le=1)
    pairs_first: bool = False
    steps: Annotated[bool, LATER] = False
    forked: Annotated[bool, LATER] = True
    failure_weight: float = Field(default=1.0, ge=0)
    demonstration_weight: float = Field(default=1.0, ge=0)
    half_life_days: Annotated[float | None, LATER] = Field(default=None, gt=0)
    classes: tuple[str, ...] = ()
    fewest: int = Field(default=50, ge=1)
    settings: FitSettings = FitSettings()

    def identity(self) -> dict[str, Any]:
        """Return what tells fits apart; with the choices that came later at their defaults, what it was before them."""
        later = {"sure_share", "pairs_first"}
        told = {name: value for name, value in identity(self).items() if name not in later}
        return told | self.model_dump(include=later, exclude_defaults=True)


class Arm(Frozen):
    """One way of learning, or, with `model`, a model as it is. What stands in `fit` replaces the common fit's values.

    `steps_of` takes the optimizer steps that another arm's fit comes to, `epochs_of` its passes over the rows: the two
    controls without which more rows are taken for a better method.
    """

    name: Name
    method: Method | None = None
    model: Literal["base", "seeded"] | None = None
    examples: int = Field(default=0, ge=0, description="demonstrations shown in the system prompt")
    fit: dict[str, Any] = Field(default_factory=dict)
    steps_of: Name | None = None
    epochs_of: Name | None = None
    decodings: tuple[Name, ...] = (GREEDY,)

    @model_validator(mode="after")
    def _trained_or_not(self) -> "Arm":
        if (self.method is None) == (self.model is None):
            raise ValueError("give either method (an arm that is trained) or model (base or seeded, as it is)")
        if self.model and (self.fit or self.like):
            raise ValueError("a model that is not trained has no fit, no steps_of and no epochs_of")
        if self.steps_of and self.epochs_of:
            raise ValueError("give either steps_of or epochs_of")
        return self

    @property
    def like(self) -> str | None:
        """The arm whose length this one takes."""
        return self.steps_of or self.epochs_of


class Decoding(Frozen):
    """How an arm's model is asked. With `samples` over 1, candidates are drawn and one is chosen in several ways.

    `weight` is that of the failure condition in the contrast, `guidance` draws each token away from that condition as
    it is written, `tasks` cuts the evaluation's tasks down.
    """

    name: Name
    condition: str = "success"
    constrained: bool = True
    temperature: float = Field(default=0.0, ge=0)
    samples: int = Field(default=1, ge=1)
    weight: float = Field(default=0.9, ge=0)
    guidance: Annotated[float, LATER] = Field(default=0.0, ge=0)
    tasks: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _drawn(self) -> "Decoding":
        if self.samples > 1 and self.temperature == 0:
            raise ValueError("several samples need a temperature above 0")
        return self


class Examination(Frozen):
    """Tasks that every arm is measured on. `decodings` narrows what an arm asks for; empty means all of it."""

    name: Name
    tasks: Source
    project: Place | None = None
    primary: bool = False
    decodings: tuple[Name, ...] = ()


class Experiment(Frozen):
    """The whole file. `reference` is the arm that the others are compared with.

    `seeds_of` says what a seed varies: the arms' fits over one seeded model and one pool, or the whole chain of seeded
    model, pool and fits.
    """

    name: Name
    question: str
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    seeds_of: Literal["fits", "chain"] = "fits"
    reference: Name
    conditions: str = "plain"
    base: Base = Base()
    project: Place
    worker: Worker = Worker()
    seeded: Seeded
    pool: Pool
    fit: ArmFit = ArmFit()
    arm: tuple[Arm, ...] = Field(min_length=1)
    decoding: tuple[Decoding, ...] = ()
    evaluation: tuple[Examination, ...] = Field(min_length=1)
    _whole: "Experiment | None" = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _names_exist(self) -> "Experiment":
        arms, ways = self._unique("arm"), self._unique("decoding") | {GREEDY}
        self._unique("evaluation")
        wanted = [self.reference, *(arm.like for arm in self.arm if arm.like)]
        if lost := [name for name in wanted if name not in arms]:
            raise ValueError(f"there is no arm {lost[0]!r}, only {', '.join(sorted(arms))}")
        if lost := [arm.name for arm in self.arm if arm.like and not self._sets_length(arm.like)]:
            raise ValueError(f"arm {lost[0]!r} takes its length from an arm that is not trained or takes its own so")
        used = [name for arm in self.arm for name in arm.decodings]
        used += [name for evaluation in self.evaluation for name in evaluation.decodings]
        if lost := [name for name in used if name not in ways]:
            raise ValueError(f"there is no decoding {lost[0]!r}, only {', '.join(sorted(ways))}")
        return self

    def _sets_length(self, name: str) -> bool:
        arm = self.arm_named(name)
        return arm.method is not None and arm.like is None

    def _unique(self, part: str) -> set[str]:
        names = [entry.name for entry in getattr(self, part)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"two of {part} are called {twice[0]!r}")
        return set(names)

    @property
    def hash(self) -> str:
        """The hash of all that the file says, also of a part of it; keys that came later count where they are used."""
        told = identity(self._whole or self)
        if not self.pool.retries:
            told["pool"] = {key: value for key, value in told["pool"].items() if key not in _RETRYING}
        return hash_value(told)

    def parts(self) -> "tuple[Experiment, ...]":
        """Return the experiments that share no model: one for each seed where a seed varies the whole chain."""
        return tuple(map(self._of_seed, self.seeds)) if self.seeds_of == "chain" else (self,)

    def _of_seed(self, seed: int) -> "Experiment":
        fit = self.seeded.fit.model_copy(update={"seed": seed})
        changed = {
            "seeds": (seed,),
            "seeded": self.seeded.model_copy(update={"fit": fit}),
            "pool": self.pool.model_copy(update={"seed": seed}),
        }
        part = self.model_copy(update=changed)
        part._whole = self
        return part

    @property
    def pool_seed(self) -> int | None:
        """The seed that a part's pool belongs to, None where one pool stands under all seeds."""
        return self.seeds[0] if self._whole is not None else None

    def has_seeds(self, arm: Arm, decoding: Decoding) -> bool:
        """Say whether a seed changes what an arm answers: a model as it is answers greedily in one way only."""
        trained = arm.method is not None or (arm.model == "seeded" and self.seeds_of == "chain")
        return trained or decoding.temperature > 0

    def seeds_measured(self, arm: Arm, decoding: Decoding) -> tuple[int, ...]:
        """Return the seeds that an arm is measured under."""
        first = (self._whole or self).seeds[:1]
        return self.seeds if self.has_seeds(arm, decoding) else tuple(seed for seed in self.seeds if seed in first)

    def arm_named(self, name: str) -> Arm:
        """Return an arm; KeyError if there is none."""
        return {arm.name: arm for arm in self.arm}[name]

    def way(self, name: str) -> Decoding:
        """Return a decoding by its name; greedy is there without being written."""
        return {decoding.name: decoding for decoding in (Decoding(name=GREEDY), *self.decoding)}[name]


def arm_fit(common: ArmFit, arm: Arm) -> ArmFit:
    """Return the fit of an arm: the common one with what the arm says instead. Raises UsageError for a wrong value.

    A bound that the arm gives (epochs, optimizer_steps or max_tokens) replaces every bound of the common fit. An arm
    that has no contrast takes nothing of how the common fit contrasts.
    """
    own = {**arm.fit}
    # The settings of a fit may stand in a table of their own, as in `[fit]`, or beside the rest.
    own |= own.pop("settings", {})
    outer = {name: own.pop(name) for name in list(own) if name in ArmFit.model_fields and name != "settings"}
    settings = common.settings.model_dump()
    if {"epochs", "optimizer_steps", "max_tokens"} & own.keys():
        settings |= {"epochs": FitSettings().epochs, "optimizer_steps": None, "max_tokens": None}
    if own.get("contrast") == 0:
        settings |= WITHOUT_CONTRAST
    try:
        return ArmFit.model_validate(common.model_dump() | outer | {"settings": settings | own})
    except ValidationError as error:
        raise UsageError(f"arm {arm.name!r}: {_reason(error)}", hint=_near(error)) from error


def read_experiment(path: Path) -> Experiment:
    """Return the experiment in a file. Raises UsageError that names the key and the nearest known one."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
        found = Experiment.model_validate(tables)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise UsageError(f"{path}: {_reason(error)}", hint=_near(error)) from error
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    for arm in found.arm:
        arm_fit(found.fit, arm)
    return found


def _reason(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = "unknown key" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _near(error: ValidationError) -> str | None:
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"] != "extra_forbidden":
        return "The experiment file is described in docs/reference/experiment-file.md."
    near = difflib.get_close_matches(str(first["loc"][-1]), sorted(_known_keys(Experiment)), n=1)
    return f"Did you mean {near[0]!r}?" if near else None


def _known_keys(model: type[BaseModel]) -> set[str]:
    kinds = (Source, Base, Place, Worker, Seeded, Pool, ArmFit, Arm, Decoding, Examination, FitSettings)
    return {name for kind in (model, *kinds, DatasetSettings) for name in kind.model_fields}
