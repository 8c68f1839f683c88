"""From what a night came to, to its report: nothing is decided here, and every number was measured before."""

import resource
from dataclasses import dataclass, field
from itertools import takewhile

from koboshi_runtime.ids import utc_now
from koboshi_runtime.models.registry import short
from koboshi_runtime.store import Store
from koboshi_runtime.watch import Watch
from koboshi_tools import Frozen, KoboshiError

from ..dataset import Counts
from ..methods import Method
from ..morning.report import Cost, Kind, Learnt, Morning, disk_of
from ..pipeline import TrainResult
from ..workshop import Workshop
from .place import Night
from .readiness import JOB, readiness


class Built(Frozen):
    """A dataset that was built: where it lies, its counts, and the number of the newest label it knew."""

    path: str
    counts: Counts
    seen: int


@dataclass(slots=True)
class Found:
    """What a night came to so far; filled stage by stage, so that a night that fails can report what it did."""

    watch: Watch | None
    tried: dict[str, int] = field(default_factory=dict)
    built: Built | None = None
    trained: TrainResult | None = None


def morning_of(
    workshop: Workshop, method: Method, night: Night, found: Found, kind: Kind, error: KoboshiError | None
) -> Morning:
    """Return the report of a night that ended as `kind`, by `error` where one ended it."""
    night.at("report")
    trained = found.trained
    seen = found.built.seen if found.built and kind is not Kind.FAILED else None
    return Morning(
        night_id=night.begun.night_id,
        project=workshop.project.name,
        began_at=night.begun.began_at,
        ended_at=utc_now(),
        kind=kind,
        live=_live(workshop),
        candidate=trained.name if trained else None,
        reasons=(str(error),) if error else _reasons(trained),
        hint=error.hint if error else None,
        notes=("An earlier attempt was cut off; this one went on where it stood.",) if night.resumed else (),
        learnt=_learnt(method, found.built, trained) if found.built and trained else None,
        verdict=trained.verdict if trained else None,
        watch=found.watch.text if found.watch else None,
        went_back=found.watch is not None and found.watch.rolled_back,
        refused_before=_refused_before(workshop.store),
        tried=found.tried,
        labels=readiness(workshop.store, workshop.settings.nightly, seen=seen),
        cost=_cost(night),
        disk=disk_of(workshop.home),
        seen=seen,
    )


def _refused_before(store: Store) -> int:
    """Count the refusals since the last night that promoted."""
    ends = [str(job.result["kind"]) for job in store.jobs(JOB) if job.result and "kind" in job.result]
    since = list(takewhile(lambda kind: kind != Kind.PROMOTED, ends))
    return since.count(Kind.REFUSED)


def _live(workshop: Workshop) -> str:
    try:
        known = workshop.registry.current().manifest
    except KoboshiError as error:
        # A night that failed for want of a model has a report too.
        return str(error)
    return f"{known.name} {short(known.model_hash)}"


def _reasons(trained: TrainResult | None) -> tuple[str, ...]:
    if trained is None or trained.promoted:
        return ()
    if trained.verdict is None:
        return tuple(f"the file is not the model that was trained: {reason}" for reason in trained.parity.reasons)
    return tuple(reason.text for reason in trained.verdict.reasons)


def _learnt(method: Method, built: Built, trained: TrainResult) -> Learnt:
    counts, fit = built.counts, trained.fit
    return Learnt(
        method=method.value,
        rows=counts.labels,
        failure_classes=counts.failure_classes,
        tools=counts.tools,
        demonstrations=counts.demonstrations,
        left_out=counts.excluded,
        optimizer_steps=fit.optimizer_steps,
        tokens=fit.tokens,
        losses=fit.losses,
        held_out_before=fit.held_out_before,
        held_out_after=fit.held_out_after,
    )


def _cost(night: Night) -> Cost:
    own, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return Cost(
        seconds=night.seconds(),
        processor_s=round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 1),
        # Linux counts in units of 1,024 bytes.
        peak_memory_mb=round(max(own.ru_maxrss, children.ru_maxrss) * 1024 / 1e6),
    )
