"""Follow a model after it went live, and go back to the one before it if success fell: step 16 of the walk.

Compared are the judged work runs of both models, project by project: all of them, and those that called each tool that
was in use before. A sequential test decides (`sequential.drop_evidence`), so that it may be asked after every run: each
comparison has a weight, by how many runs it rested on before the swap, and their weighted mean must exceed 1 / `ALPHA`.

Watched is the newest model that a gate let live, against the one it was proved on, as long as both stand so; what a
person chose by hand is not undone, and a model that the watch took out is not taken out again. Asked whenever work
begins, when a run is labelled, by each night, and every minute by a server. Not covered: projects, tools and tasks that
are new since the swap, and success that falls because tasks became harder.
"""

import math
from collections.abc import Mapping, Sequence

from koboshi_policies.sequential import ALPHA, LEAST, Tally, drop_evidence
from koboshi_tools import Frozen

from .home import Home
from .models.manifest import ModelManifest
from .models.registry import Registry
from .store import JobStatus, Store
from .store.watch import Group, count_outcomes

JOB = "watch"
"""The kind under which rollbacks by the watch are recorded among the store's jobs."""


class Followed(Frozen):
    """One comparison: a project's runs, or those that called `tool`; `evidence` above 1 speaks for a drop."""

    project: str
    tool: str | None
    before: Tally
    after: Tally
    evidence: float

    @property
    def text(self) -> str:
        """The comparison in words."""
        what = self.project if self.tool is None else f"{self.project} with {self.tool}"
        return f"success of {what} went from {_share(self.before)} to {_share(self.after)}"


class Watch(Frozen):
    """How a model stands since it went live; `evidence` is the weighted mean, and a drop is proved from `limit` on.

    `rolled_back` says that the model before it is live again.
    """

    model_hash: str
    model: str
    against_hash: str
    against: str
    followed: tuple[Followed, ...]
    evidence: float
    limit: float
    rolled_back: bool = False

    @property
    def fell(self) -> bool:
        """Whether success fell for sure."""
        return self.evidence >= self.limit

    @property
    def worst(self) -> Followed | None:
        """The comparison that speaks most for a drop."""
        return max(self.followed, key=lambda one: one.evidence, default=None)

    @property
    def text(self) -> str:
        """How it stands, in one line."""
        worst = self.worst
        if worst is None:
            return f"{self.model}: too few judged runs of {self.against} to compare with, {LEAST} are the least"
        if self.rolled_back:
            return f"went back from {self.model} to {self.against}: {worst.text}"
        seen = sum(one.after.total for one in self.followed if one.tool is None)
        told = f"; {worst.text}" if self.fell else ""
        return f"{self.model} after {seen} judged runs: success {'fell' if self.fell else 'holds'}{told}"


def follow(home: Home, store: Store, *, rollback: bool = True) -> Watch | None:
    """Return how the live model stands, after going back from it if success fell; None where nothing is watched."""
    registry = Registry(home)
    pair = _watched(registry)
    if pair is None or _taken_out(store, pair[0].model_hash):
        return None
    found = judge(*pair, store)
    if not (found.fell and rollback):
        return found
    # Imported here because adding models brings archives and downloads, which no run needs.
    from .models.verbs import rollback_model

    job = store.start_job(JOB, {"model": found.model_hash, "back_to": found.against_hash})
    live = rollback_model(home, away_from=found.model_hash)
    done = found.model_copy(update={"rolled_back": live.manifest.model_hash == found.against_hash})
    store.finish_job(job, JobStatus.DONE, done.model_dump(mode="json"))
    return done


def judge(model: ModelManifest, against: ModelManifest, store: Store) -> Watch:
    """Compare the runs of a model since it went live with those of the one before it."""
    with store.reading() as db:
        before = count_outcomes(db, against.model_hash, newest=True)
        after = count_outcomes(db, model.model_hash, newest=False)
    followed = compare_groups(before, after)
    return Watch(
        model_hash=model.model_hash,
        model=model.name,
        against_hash=against.model_hash,
        against=against.name,
        followed=followed,
        evidence=mean_evidence(followed),
        limit=1 / ALPHA,
    )


def compare_groups(before: Mapping[Group, Tally], after: Mapping[Group, Tally]) -> tuple[Followed, ...]:
    """Return the comparison of every group that can be compared: it had `LEAST` outcomes before."""
    return tuple(
        Followed(
            project=group.project,
            tool=group.tool,
            before=old,
            after=(new := after.get(group, Tally())),
            evidence=drop_evidence(old, new),
        )
        for group, old in sorted(before.items(), key=lambda pair: (pair[0].project, pair[0].tool or ""))
        if old.total >= LEAST
    )


def mean_evidence(followed: Sequence[Followed]) -> float:
    """Return the mean of the evidence: one half for projects, one for tools, each shared out by the runs before."""
    parts = [[one for one in followed if (one.tool is None) is whole] for whole in (True, False)]
    means = [_weighted(part) for part in parts if part]
    return math.fsum(means) / len(means) if means else 1.0


def rollbacks(store: Store, since: str = "") -> list[Watch]:
    """Return what the watch took out since a time (ISO 8601, UTC), the newest first."""
    done = [job for job in store.jobs(JOB) if job.status is JobStatus.DONE and job.started_at >= since]
    return [found for job in done if (found := Watch.model_validate(job.result)).rolled_back]


def _watched(registry: Registry) -> tuple[ModelManifest, ModelManifest] | None:
    previous = registry.previous()
    if previous is None:
        return None
    current = registry.current().manifest
    proved = current.gate is not None and current.gate.accepted and current.gate.against == previous.manifest.model_hash
    return (current, previous.manifest) if proved and registry.newest_served() == current.model_hash else None


def _taken_out(store: Store, model_hash: str) -> bool:
    return any(watch.model_hash == model_hash for watch in rollbacks(store))


def _weighted(part: Sequence[Followed]) -> float:
    return math.fsum(one.evidence * one.before.total for one in part) / sum(one.before.total for one in part)


def _share(tally: Tally) -> str:
    return f"{100 * tally.rate:.0f} % of {tally.total}" if tally.rate is not None else "nothing"
