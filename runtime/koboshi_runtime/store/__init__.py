"""The trace store: the one file in which every run, step, call, decision, outcome, model and job is kept."""

from .errors import SchemaTooNewError, StoreError, StoreRuleError
from .recorder import RunRecorder
from .rows import JobStatus, RunFilter
from .store import Store
from .write import TRANSITIONS

__all__ = [
    "TRANSITIONS",
    "JobStatus",
    "RunFilter",
    "RunRecorder",
    "SchemaTooNewError",
    "Store",
    "StoreError",
    "StoreRuleError",
]
