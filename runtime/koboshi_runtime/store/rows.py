"""What the store's readers ask with and are given: small values, one a row."""

from enum import StrEnum
from typing import Any

from koboshi_tools import Frozen

from ..records import EndReason, OutcomeLabel, Purpose, RunStatus, Split


class RunFilter(Frozen):
    """Which runs are wanted; what is None or empty does not filter. `since` is ISO 8601 in UTC, `model` a name or hash.

    `text` is looked up in the full-text index: all of its words, in any order, in one prompt, reply or call. `fork_of`
    is the run they were forked from; `before` and `after` are runs: only those that were written earlier, or later.
    """

    purpose: Purpose | None = None
    split: Split | None = None
    status: RunStatus | None = None
    outcome: OutcomeLabel | None = None
    model: str | None = None
    task_id: str | None = None
    tool: str | None = None
    project: str | None = None
    text: str | None = None
    since: str | None = None
    imported: bool | None = None
    fork_of: str | None = None
    before: str | None = None
    after: str | None = None
    limit: int | None = None


class RunRow(Frozen):
    """A run in a list; `tools` are the tools it called, each once, `imported` what it was read from, if it was."""

    run_id: str
    created_at: str
    status: RunStatus
    purpose: Purpose
    split: Split
    outcome: OutcomeLabel
    model: str
    model_hash: str
    task_id: str | None
    prompt: str
    answer: str | None
    end_reason: EndReason | None
    steps: int
    calls: int
    tools: tuple[str, ...]
    imported: str | None = None


class SearchHit(Frozen):
    """A place where a text was found; the found words stand in [brackets].

    `where` is `run` (its prompt or answer, `step_index` None), `reply`, or `call` (its arguments or result).
    """

    run_id: str
    step_index: int | None
    where: str
    excerpt: str


class QueueRow(Frozen):
    """An unlabelled run; `mean_logprob` is that of its drawn tokens, None where there are none.

    `score` is how much its label is worth beside others', `reasons` say why, the weightiest first.
    """

    run_id: str
    created_at: str
    prompt: str
    answer: str | None
    mean_logprob: float | None
    tools: tuple[str, ...]
    score: float
    reasons: tuple[str, ...]


class ModelRow(Frozen):
    """A model as the store knows it."""

    model_hash: str
    name: str
    state: str
    profile: dict[str, Any]
    manifest: dict[str, Any]
    created_at: str
    updated_at: str


class JobStatus(StrEnum):
    """The life of a job: it runs, then it ends in one of the others."""

    RUNNING = "running"
    DONE = "done"
    REFUSED = "refused"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class JobRow(Frozen):
    """A stage of the trainer, an import, or other work that is no run."""

    job_id: str
    kind: str
    status: JobStatus
    manifest: dict[str, Any]
    result: dict[str, Any] | None
    started_at: str
    finished_at: str | None


class CheckReport(Frozen):
    """What `db check` found; `ok` is True if `problems` is empty; a damaged file is not counted."""

    ok: bool
    schema_version: int
    problems: tuple[str, ...]
    file_bytes: int
    log_bytes: int
    runs: int | None = None
    steps: int | None = None
    in_doubt: int | None = None
