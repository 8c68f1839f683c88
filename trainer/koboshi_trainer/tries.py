"""How train tasks are tried before a fit: how often, how freely, and what is tried beyond that where it teaches more.

What no run of a task could do teaches nothing but how it fails. So such tasks may be tried more often than the others,
and more freely: one success among many tries is worth more than a second one where there is one already. A task that
every run solved teaches nothing new either; asked for a failure there, a model that knows the conditions writes the
mistakes that look most like a success. And a failed run of a task that was solved holds the step at which it was lost.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """How often each task is tried, and what is tried beyond that.

    A task that none of its runs solved is tried `retries` times more, at `retry_temperature`, drawn away from the
    failure condition by `retry_guidance`. One that all of them solved is tried `hard_negatives` times under the failure
    condition. Of one that was both solved and failed, a failed run is forked `forks` times at each place that blame
    asks for. Of one that was failed though a tool had said the answer, such a run is gone on with from there `finishes`
    times.
    """

    samples: int
    temperature: float
    retries: int = 0
    retry_temperature: float = 1.0
    retry_guidance: float = 0.0
    hard_negatives: int = 0
    forks: int = 0
    finishes: int = 0
