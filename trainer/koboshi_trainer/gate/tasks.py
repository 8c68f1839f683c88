"""Choose tonight's gate tasks: never trained on, least recently used first, as many as the proof needs.

A task is known by the hash of its normalised prompt, so that two tasks that ask the same are one, and a task stays the
same when its file is renamed. The choice is a pure function: equal arguments choose equal tasks in equal order, on
every machine. What was used is recorded by the ledger's grant.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from koboshi_runtime.ids import prompt_hash
from koboshi_runtime.tasks import Task
from koboshi_tools import UsageError

from ..stats import tasks_needed

EXPECTED_DIFFERENCE = 0.10
"""Ten points: what a night is planned to be able to prove."""

EXPECTED_DISCORDANCE = 0.35
"""Upper end of the share of tasks (0.25 to 0.35) on which two models of some 50 % success disagree at T > 0; used until
an earlier gate has measured it."""

PLANNED_POWER = 0.88
"""Above the 80 % that is promised: the discordance is an estimate, and each floor refuses some true gains."""

_KEY_CHARACTERS = 24


@dataclass(frozen=True, slots=True)
class GateChoice:
    """Tonight's tasks, `keys` in the same order for the ledger.

    `needed` is how many were wanted, `trained` how many of the pool were left out because a training set held their
    prompt, `repeated` how many because an earlier task of the pool asks the same.
    """

    tasks: tuple[Task, ...]
    keys: tuple[str, ...]
    needed: int
    trained: int
    repeated: int

    @property
    def more_tasks(self) -> int:
        """How many tasks the pool lacks."""
        return max(0, self.needed - len(self.tasks))


def plan_tasks(
    alpha: float,
    *,
    difference: float = EXPECTED_DIFFERENCE,
    discordance: float = EXPECTED_DISCORDANCE,
    power: float = PLANNED_POWER,
    least: int = 50,
) -> int:
    """Return how many tasks a gate at one-sided `alpha` wants.

    Args:
        alpha: what `Ledger.offer` says.
        difference: the true gain to be proved, as a share.
        discordance: share of tasks on which only one of the two models succeeds; `GateVerdict.discordance` measures it.
        power: chance of proving it.
        least: never fewer, whatever the formula says.

    Raises:
        UsageError: `alpha` is 0, since no number of tasks proves anything then.
    """
    if alpha <= 0:
        raise UsageError(
            f"a gate cannot be planned at alpha {alpha}", hint="Wait until the error budget has some left."
        )
    return max(least, tasks_needed(difference, discordance, alpha=alpha, power=power))


def choose_gate_tasks(
    pool: Sequence[Task], needed: int, *, last_used: Mapping[str, int], trained_prompts: Collection[str]
) -> GateChoice:
    """Return up to `needed` tasks of `pool`: those never used first, then those used longest ago, then by hash.

    Args:
        pool: the gate split.
        needed: how many are wanted, from `plan_tasks`; fewer are returned where the pool is smaller.
        last_used: number of the last grant that used a task, by key, from `Ledger.last_used`.
        trained_prompts: hashes of the normalised prompts of every training set of either model.
    """
    trained = frozenset(trained_prompts)
    fresh = {key: task for task in reversed(pool) if (key := prompt_hash(task.prompt)) not in trained}
    seen = sum(prompt_hash(task.prompt) in trained for task in pool)
    by_key = {task_key(full_hash): task for full_hash, task in fresh.items()}
    keys = sorted(by_key, key=lambda key: (last_used.get(key, -1), key))[:needed]
    return GateChoice(
        tasks=tuple(by_key[key] for key in keys),
        keys=tuple(keys),
        needed=needed,
        trained=seen,
        repeated=len(pool) - seen - len(fresh),
    )


def granted_tasks(pool: Sequence[Task], keys: Sequence[str]) -> tuple[Task, ...] | None:
    """Return the tasks of a grant in its order; None if one of them is no longer in the pool."""
    by_key = {task_key(prompt_hash(task.prompt)): task for task in reversed(pool)}
    found = tuple(by_key[key] for key in keys if key in by_key)
    return found if keys and len(found) == len(keys) else None


def task_key(hash_of_prompt: str) -> str:
    """Return the short form in which the ledger keeps a prompt's hash: 24 hexadecimal digits, 96 bits."""
    return hash_of_prompt.removeprefix("sha256:")[:_KEY_CHARACTERS]
