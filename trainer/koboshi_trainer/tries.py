"""How often train tasks are tried before a fit, and how freely.

What no run of a task could do teaches nothing but how it fails. So such tasks may be tried more often than the others,
and more freely: one success among many tries is worth more than a second one where there is one already.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tries:
    """How often each task is tried, and how much more often one that none of those runs solved."""

    samples: int
    temperature: float
    retries: int = 0
    retry_temperature: float = 1.0
