"""Whether there is enough for a night to learn from, and what is missing if there is not.

A night spends hours, and a part of the gate's error budget: it begins only with `[nightly] least_runs` labelled runs,
`least_new` of them labelled since the last night that trained.
"""

from koboshi_runtime.config_values import NightlySettings
from koboshi_runtime.store import JobStatus, Store
from koboshi_runtime.store.labels import count_labels
from koboshi_tools import Frozen

JOB = "nightly"
"""The kind under which nights are recorded among the store's jobs."""


class Readiness(Frozen):
    """Labelled runs and those of them that are new since the last night, beside what is needed.

    `unlabelled` runs wait for a label; `missing` is how many more labels it takes, 0 where a night can be.
    """

    labelled: int
    needed: int
    newer: int
    needed_new: int
    unlabelled: int

    @property
    def missing(self) -> int:
        """How many more labelled runs a night needs."""
        return max(0, self.needed - self.labelled, self.needed_new - self.newer)

    @property
    def text(self) -> str:
        """How it stands, in one line."""
        if not self.missing:
            return f"{self.labelled} labelled, {self.newer} of them since the last night: enough"
        if self.labelled < self.needed:
            found = f"{self.labelled} labelled, {self.needed} needed"
        elif not self.newer:
            found = f"no run was labelled since the last night, {self.needed_new} needed"
        else:
            found = f"{self.newer} labelled since the last night, {self.needed_new} needed"
        return f"{found}: {self._way_out()}"

    def _way_out(self) -> str:
        if not self.unlabelled:
            return f"run and label {self.missing} more"
        if self.unlabelled < self.missing:
            return f"label {self.unlabelled}, and run {self.missing - self.unlabelled} more"
        return f"label {self.missing}"


def readiness(store: Store, settings: NightlySettings, *, seen: int | None = None) -> Readiness:
    """Return how it stands now; `seen` is the newest label that a night knew, default what the last one recorded."""
    counts = count_labels(store, after=last_seen(store) if seen is None else seen)
    return Readiness(
        labelled=counts.labelled,
        needed=settings.least_runs,
        newer=counts.newer,
        needed_new=min(settings.least_new, settings.least_runs),
        unlabelled=store.count_unlabelled(),
    )


def last_seen(store: Store) -> int:
    """Return the number of the newest label when the last night that trained froze its dataset; 0 before any did."""
    for job in store.jobs(JOB):
        if job.status in {JobStatus.DONE, JobStatus.REFUSED} and (seen := (job.result or {}).get("seen")):
            return int(seen)
    return 0
