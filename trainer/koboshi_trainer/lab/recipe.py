"""The keys of an experiment: for every step the hash of all that goes into it, known before anything is made.

A step's key holds the keys of the steps before it, so whoever changes a demonstration, a task or a number changes the
key of everything behind it and of nothing else. Keys are of inputs, never of results: that a result with this key lies
in the folder means that it need not be made, on whatever machine it was.
"""

from dataclasses import dataclass, field
from functools import cached_property

from koboshi_runtime.ids import prompt_hash
from koboshi_runtime.packs import Demonstration
from koboshi_runtime.tasks import Task
from koboshi_tools import hash_value

from ..dataset import DatasetSettings
from ..identity import identity
from .file import Arm, ArmFit, Decoding, Examination, arm_fit
from .place import LabPlace
from .sources import read_solved, read_tasks, solved_hash, tasks_hash, without

# Raised when a step comes to mean something else, so that older results are not taken for its own.
_VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """What an experiment is made of, read once: demonstrations, tasks, and the key of each step."""

    place: LabPlace
    evaluations: dict[str, tuple[Task, ...]] = field(init=False)

    def __post_init__(self) -> None:
        found = {one.name: read_tasks(one.tasks, self.place.data) for one in self.place.experiment.evaluation}
        object.__setattr__(self, "evaluations", found)

    @cached_property
    def evaluated(self) -> set[str]:
        """The hashes of every prompt that is evaluated: none of them is demonstrated, rolled out or trained on."""
        return {prompt_hash(task.prompt) for tasks in self.evaluations.values() for task in tasks}

    @cached_property
    def solved(self) -> tuple[Demonstration, ...]:
        """The demonstrations, without those of evaluated prompts and each prompt once."""
        found = read_solved(self.place.experiment.seeded.demonstrations, self.place.data)
        kept = {task.prompt for task in without([one.task for one in found], self.evaluated)}
        first: dict[str, Demonstration] = {}
        for one in found:
            if one.task.prompt in kept:
                first.setdefault(one.task.prompt, one)
        return tuple(first.values())

    @cached_property
    def pool_tasks(self) -> tuple[Task, ...]:
        """The tasks that the seeded model tries, without those that are evaluated."""
        sources = self.place.experiment.pool.tasks
        return without([task for source in sources for task in read_tasks(source, self.place.data)], self.evaluated)

    @cached_property
    def dataset_settings(self) -> DatasetSettings:
        """The pool's settings, with every condition that an arm names."""
        named = [name for arm in self.place.experiment.arm if arm.method for name in self.fit_of(arm).classes]
        return self.place.experiment.pool.dataset.naming(named)

    def fit_of(self, arm: Arm) -> ArmFit:
        """Return how an arm is fitted."""
        return arm_fit(self.place.experiment.fit, arm)

    @cached_property
    def base_key(self) -> str:
        """Of the base model."""
        return hash_value([_VERSION, self.place.base_identity(), self.place.experiment.base.template])

    @cached_property
    def seeded_key(self) -> str:
        """Of the seeded model."""
        experiment = self.place.experiment
        return hash_value(
            [
                self.base_key,
                self.place.project_key(experiment.project),
                experiment.conditions,
                solved_hash(self.solved),
                identity(experiment.seeded.fit),
            ]
        )

    @cached_property
    def pool_key(self) -> str:
        """Of the frozen pool."""
        pool = self.place.experiment.pool
        frozen = self.dataset_settings.model_dump(mode="json") | {"caps": self.dataset_settings.caps.identity()}
        retried = [pool.retries, pool.retry_temperature] if pool.retries else []
        beyond = [pool.beyond] if pool.beyond else []
        own = [pool.samples, pool.temperature, *retried, *beyond, pool.seed, frozen]
        return hash_value([self.seeded_key, tasks_hash(self.pool_tasks), own])

    @cached_property
    def rollouts_key(self) -> str:
        """Of the seeded model's runs, which several pools may be frozen from."""
        return hash_value([self.seeded_key, self.place.experiment.project.model_dump(mode="json")])

    def model_key(self, arm: Arm, seed: int) -> str:
        """Of the model that an arm is measured by."""
        if arm.model == "base":
            return self.base_key
        if arm.model == "seeded":
            return self.seeded_key
        like = self.place.experiment.arm_named(arm.like) if arm.like else None
        length = [self.model_key(like, self.place.experiment.seeds[0]), arm.epochs_of is None] if like else None
        return hash_value([self.pool_key, str(arm.method), self.fit_of(arm).identity(), length, seed])

    def tasks_of(self, evaluation: Examination, decoding: Decoding) -> tuple[Task, ...]:
        """Return the tasks of one measurement."""
        return self.evaluations[evaluation.name][: decoding.tasks]

    def runs_key(self, arm: Arm, seed: int, evaluation: Examination, decoding: Decoding) -> str:
        """Of one measurement."""
        project = evaluation.project or self.place.experiment.project
        return hash_value(
            [
                self.model_key(arm, seed),
                self.place.project_key(project),
                tasks_hash(self.tasks_of(evaluation, decoding)),
                {name: value for name, value in identity(decoding).items() if name != "name"},
                [arm.examples, solved_hash(self.solved[: arm.examples])],
                self.run_seed(seed, decoding),
            ]
        )

    def run_seed(self, seed: int, decoding: Decoding) -> int:
        """Return the seed that runs are drawn with: greedy ones have none of their own."""
        return seed if decoding.temperature > 0 else 0
