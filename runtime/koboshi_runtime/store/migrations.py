"""The schema of the trace store, as the steps that lead to it.

A migration that was released never changes; a new one is appended, and the number of applied migrations is the file's
`user_version`, by which an older koboshi refuses a newer file. Integer keys are the order of writing and outlive
VACUUM; times are text in UTC and are for people.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from sqlite_utils import Database, Migrations

    Step: TypeAlias = Callable[[Database], None]

_STEPS: list[Step] = []


def migrations() -> Callable[[Step], Step]:
    """Return what adds a step to the end; a step's name is what a file remembers of it."""

    def add(step: Step) -> Step:
        _STEPS.append(step)
        return step

    return add


def all_steps() -> Migrations:
    """Return every step, in order."""
    # Imported here: a file that is as new as koboshi needs nothing of it, and it takes as long as all the rest.
    from sqlite_utils import Migrations

    steps = Migrations("koboshi")
    for step in _STEPS:
        steps()(step)
    return steps


_TABLES = """
CREATE TABLE models (
  model_hash TEXT PRIMARY KEY, name TEXT NOT NULL, profile TEXT NOT NULL, manifest TEXT NOT NULL, state TEXT NOT NULL,
  created_at TEXT NOT NULL, updated_at TEXT NOT NULL
);
CREATE TABLE jobs (
  job_id TEXT PRIMARY KEY, kind TEXT NOT NULL, status TEXT NOT NULL, manifest TEXT NOT NULL, result TEXT,
  started_at TEXT NOT NULL, finished_at TEXT
);
CREATE TABLE tasks (
  prompt_hash TEXT PRIMARY KEY, prompt TEXT NOT NULL, split TEXT NOT NULL, given_by TEXT NOT NULL,
  first_seen_at TEXT NOT NULL
);
CREATE TABLE offers (
  offer_hash TEXT PRIMARY KEY, system TEXT NOT NULL, tool_specs TEXT NOT NULL
);
CREATE TABLE runs (
  id INTEGER PRIMARY KEY, run_id TEXT NOT NULL UNIQUE, created_at TEXT NOT NULL, status TEXT NOT NULL, owner TEXT,
  purpose TEXT NOT NULL, split TEXT NOT NULL, prompt TEXT NOT NULL, prompt_hash TEXT NOT NULL, task_id TEXT, task TEXT,
  model_hash TEXT NOT NULL, profile TEXT NOT NULL, condition TEXT, policy_hash TEXT NOT NULL, project TEXT NOT NULL,
  tools TEXT NOT NULL, offer_hash TEXT NOT NULL REFERENCES offers (offer_hash),
  seed INTEGER NOT NULL, temperature REAL NOT NULL, top_p REAL NOT NULL, sample INTEGER NOT NULL,
  parent_run_id TEXT, demonstration INTEGER NOT NULL,
  end_reason TEXT, answer TEXT, error TEXT, ended_at TEXT
);
CREATE INDEX runs_by_purpose ON runs (purpose, prompt_hash);
CREATE INDEX runs_by_task ON runs (task_id);
CREATE INDEX runs_by_status ON runs (status);
CREATE TABLE segments (
  segment_id INTEGER PRIMARY KEY, hash BLOB NOT NULL UNIQUE, text TEXT NOT NULL, ids BLOB NOT NULL
);
CREATE TABLE steps (
  step_id INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
  step_index INTEGER NOT NULL, kind TEXT NOT NULL, reply TEXT NOT NULL, error TEXT,
  in_context INTEGER NOT NULL, finish TEXT NOT NULL,
  reply_ids BLOB NOT NULL, sampled BLOB NOT NULL, raw_logprobs BLOB NOT NULL, behaviour_logprobs BLOB NOT NULL,
  reply_tokens INTEGER NOT NULL, mean_logprob REAL, reused_tokens INTEGER NOT NULL, decoded_tokens INTEGER NOT NULL,
  seconds REAL NOT NULL, created_at TEXT NOT NULL, UNIQUE (run_id, step_index)
);
CREATE TABLE step_segments (
  run_id TEXT NOT NULL, step_index INTEGER NOT NULL, position INTEGER NOT NULL, kind TEXT NOT NULL,
  segment_id INTEGER NOT NULL REFERENCES segments (segment_id), PRIMARY KEY (run_id, step_index, position),
  FOREIGN KEY (run_id, step_index) REFERENCES steps (run_id, step_index) ON DELETE CASCADE
) WITHOUT ROWID;
CREATE TABLE tool_calls (
  call_id INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE,
  step_index INTEGER NOT NULL, call_index INTEGER NOT NULL, tool TEXT NOT NULL, arguments TEXT NOT NULL,
  tool_version TEXT, tool_digest TEXT, effect TEXT,
  idempotent INTEGER NOT NULL, idempotency_key TEXT NOT NULL UNIQUE, intent_at TEXT NOT NULL,
  transport TEXT, tool_verdict TEXT, output TEXT, seconds REAL, truncated INTEGER, result_at TEXT,
  UNIQUE (run_id, step_index, call_index)
);
CREATE INDEX tool_calls_by_tool ON tool_calls (tool, transport);
CREATE TABLE decisions (
  decision_id INTEGER PRIMARY KEY, call_id INTEGER NOT NULL REFERENCES tool_calls (call_id) ON DELETE CASCADE,
  verdict TEXT NOT NULL, reason TEXT NOT NULL, rule TEXT, file TEXT, line INTEGER, layer TEXT, decided_at TEXT NOT NULL
);
CREATE INDEX decisions_by_call ON decisions (call_id);
CREATE TABLE outcomes (
  outcome_id INTEGER PRIMARY KEY, run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE, label TEXT NOT NULL,
  source TEXT NOT NULL, who TEXT NOT NULL, rationale TEXT NOT NULL, score REAL, created_at TEXT NOT NULL
);
CREATE INDEX outcomes_by_run ON outcomes (run_id);
CREATE TRIGGER outcomes_are_append_only BEFORE UPDATE ON outcomes BEGIN
  SELECT RAISE(ABORT, 'outcomes are append-only');
END;
CREATE TABLE thread_state (
  run_id TEXT PRIMARY KEY REFERENCES runs (run_id) ON DELETE CASCADE, state BLOB NOT NULL, updated_at TEXT NOT NULL
);
"""

_VIEWS = """
CREATE VIEW current_outcomes AS
SELECT run_id, label, source, who, rationale, score, created_at FROM (
  SELECT *, row_number() OVER (PARTITION BY run_id ORDER BY
    CASE source WHEN 'checker' THEN 0 WHEN 'project_check' THEN 1 WHEN 'person' THEN 2 WHEN 'event' THEN 3 ELSE 4 END,
    outcome_id DESC) AS place FROM outcomes
) WHERE place = 1;
CREATE VIEW run_overview AS
SELECT r.run_id, r.created_at, r.purpose, r.split, r.status, coalesce(m.name, r.model_hash) AS model,
  coalesce(o.label, 'unknown') AS outcome, o.source AS outcome_source, r.end_reason, r.task_id,
  (SELECT count(*) FROM steps s WHERE s.run_id = r.run_id) AS steps,
  (SELECT count(*) FROM tool_calls c WHERE c.run_id = r.run_id) AS tool_calls, r.prompt, r.answer
FROM runs r LEFT JOIN models m USING (model_hash) LEFT JOIN current_outcomes o USING (run_id);
CREATE VIEW calls AS
SELECT c.run_id, c.step_index, c.call_index, coalesce(m.name, r.model_hash) AS model, r.purpose, c.tool, c.arguments,
  coalesce(c.transport, 'in_doubt') AS transport, c.tool_verdict, c.output, c.seconds, c.intent_at, c.result_at,
  c.tool_version, c.effect, c.idempotency_key, c.transport IS NOT 'ok' OR c.tool_verdict IS 'error' AS failed
FROM tool_calls c JOIN runs r USING (run_id) LEFT JOIN models m USING (model_hash);
CREATE VIEW failed_calls AS SELECT * FROM calls WHERE failed;
CREATE VIEW in_doubt_calls AS SELECT * FROM calls WHERE transport = 'in_doubt';
CREATE VIEW tool_success AS
SELECT model, tool, count(*) AS calls, sum(failed) AS failed, round(1.0 - avg(failed), 3) AS success_rate,
  sum(transport = 'error') AS error, sum(transport = 'timeout') AS timeout, sum(transport = 'denied') AS denied,
  sum(transport = 'invalid') AS invalid, sum(transport = 'in_doubt') AS in_doubt
FROM calls GROUP BY model, tool;
"""

_SEARCHED = {"runs": ["prompt", "answer"], "steps": ["reply"], "tool_calls": ["arguments", "output"]}


@migrations()
def m001_tables(db: Database) -> None:
    """Create the tables."""
    _run_script(db, _TABLES)


@migrations()
def m002_views(db: Database) -> None:
    """Create the views with plain names."""
    _run_script(db, _VIEWS)


@migrations()
def m003_search(db: Database) -> None:
    """Index prompts, answers, replies, arguments and results for full-text search."""
    for table, columns in _SEARCHED.items():
        db.table(table).enable_fts(columns, create_triggers=True, tokenize="unicode61")


_APPROVALS = """
ALTER TABLE decisions ADD COLUMN arguments TEXT;
ALTER TABLE decisions ADD COLUMN asked TEXT;
UPDATE decisions SET asked = 'approved' WHERE CAST(reason AS TEXT) LIKE '%; approved by a person';
UPDATE decisions SET asked = 'refused' WHERE CAST(reason AS TEXT) LIKE '%; refused by a person';
UPDATE decisions SET asked = 'unattended' WHERE CAST(reason AS TEXT) LIKE '%; nobody is attending to be asked';
CREATE TABLE shadow_decisions (
  call_id INTEGER PRIMARY KEY REFERENCES tool_calls (call_id) ON DELETE CASCADE, verdict TEXT NOT NULL,
  reason TEXT NOT NULL, rule TEXT, file TEXT, line INTEGER, layer TEXT, arguments TEXT, decided_at TEXT NOT NULL
);
CREATE TABLE approvals (
  id INTEGER PRIMARY KEY, approval_id TEXT NOT NULL UNIQUE, call_hash TEXT NOT NULL, idempotency_key TEXT NOT NULL,
  run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE, tool TEXT NOT NULL, arguments TEXT NOT NULL,
  tool_version TEXT, policy_hash TEXT NOT NULL,
  reason TEXT NOT NULL, attended INTEGER NOT NULL, asked_at TEXT NOT NULL, expires_at TEXT NOT NULL,
  answer TEXT, who TEXT, why TEXT, answered_at TEXT, used_by TEXT
);
CREATE INDEX approvals_by_call ON approvals (call_hash);
CREATE INDEX tool_calls_by_time ON tool_calls (intent_at);
"""


@migrations()
def m004_approvals(db: Database) -> None:
    """Keep what a policy changed of a call, what became of an ask, shadow decisions, and questions to a person."""
    _run_script(db, _APPROVALS)


_SWAPS = """
CREATE TABLE run_versions (
  run_id TEXT NOT NULL REFERENCES runs (run_id) ON DELETE CASCADE, tool TEXT NOT NULL, tool_digest TEXT NOT NULL,
  PRIMARY KEY (run_id, tool)
) WITHOUT ROWID;
CREATE TABLE tool_swaps (
  id INTEGER PRIMARY KEY, project TEXT NOT NULL, tool TEXT NOT NULL, base_digest TEXT NOT NULL,
  old_version TEXT NOT NULL, old_digest TEXT NOT NULL, new_version TEXT NOT NULL, new_digest TEXT NOT NULL,
  stage TEXT NOT NULL, share REAL NOT NULL, reason TEXT NOT NULL, who TEXT NOT NULL,
  began_at TEXT NOT NULL, moved_at TEXT NOT NULL
);
CREATE INDEX tool_swaps_by_tool ON tool_swaps (project, tool);
CREATE TABLE shadow_calls (
  call_id INTEGER PRIMARY KEY REFERENCES tool_calls (call_id) ON DELETE CASCADE, tool_version TEXT NOT NULL,
  tool_digest TEXT NOT NULL, transport TEXT NOT NULL, tool_verdict TEXT, output TEXT NOT NULL, seconds REAL NOT NULL,
  same INTEGER NOT NULL
);
CREATE INDEX tool_calls_by_digest ON tool_calls (tool_digest, intent_at);
"""


@migrations()
def m005_tool_swaps(db: Database) -> None:
    """Keep where each version of a tool stands, which one a run was given, and what versions in shadow said."""
    _run_script(db, _SWAPS)


_LEAVING = """
ALTER TABLE runs ADD COLUMN redacted INTEGER NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN imported TEXT;
CREATE TABLE forgotten (
  run_id TEXT PRIMARY KEY, reason TEXT NOT NULL, who TEXT NOT NULL, learnt_by TEXT NOT NULL, forgotten_at TEXT NOT NULL
);
"""


@migrations()
def m006_leaving(db: Database) -> None:
    """Mark runs that held secrets or were read from elsewhere, and keep which runs were forgotten."""
    _run_script(db, _LEAVING)


@migrations()
def m007_history(db: Database) -> None:
    """Keep what had been said before the prompt of a run that was read from elsewhere."""
    _run_script(db, "ALTER TABLE runs ADD COLUMN history TEXT;")


_COUNTING = """SELECT r.id, o.label, o.source, o.outcome_id FROM standing_outcomes o JOIN runs r USING (run_id)
    WHERE o.run_id = {run_id} ORDER BY CASE o.source WHEN 'checker' THEN 0 WHEN 'project_check' THEN 1
    WHEN 'person' THEN 2 WHEN 'event' THEN 3 ELSE 4 END, o.outcome_id DESC LIMIT 1"""

_VERDICTS = f"""
CREATE TABLE retractions (
  outcome_id INTEGER PRIMARY KEY REFERENCES outcomes (outcome_id) ON DELETE CASCADE, who TEXT NOT NULL,
  created_at TEXT NOT NULL
);
CREATE VIEW standing_outcomes AS SELECT * FROM outcomes WHERE outcome_id NOT IN (SELECT outcome_id FROM retractions);
CREATE TABLE verdicts (
  id INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE, label TEXT NOT NULL, source TEXT NOT NULL,
  outcome_id INTEGER NOT NULL
);
INSERT INTO verdicts SELECT r.id, c.label, c.source, (SELECT max(outcome_id) FROM outcomes o
  WHERE (o.run_id, o.source) = (c.run_id, c.source)) FROM current_outcomes c JOIN runs r USING (run_id);
CREATE TRIGGER verdicts_follow_outcomes AFTER INSERT ON outcomes BEGIN
  INSERT OR REPLACE INTO verdicts {_COUNTING.format(run_id="new.run_id")};
END;
CREATE TRIGGER verdicts_follow_retractions AFTER INSERT ON retractions BEGIN
  DELETE FROM verdicts WHERE id =
    (SELECT r.id FROM outcomes o JOIN runs r USING (run_id) WHERE o.outcome_id = new.outcome_id);
  INSERT INTO verdicts
    {_COUNTING.format(run_id="(SELECT run_id FROM outcomes WHERE outcome_id = new.outcome_id)")};
END;
DROP VIEW current_outcomes;
CREATE VIEW current_outcomes AS
SELECT o.run_id, o.label, o.source, o.who, o.rationale, o.score, o.created_at
FROM verdicts v JOIN outcomes o USING (outcome_id);
CREATE TABLE run_tools (
  tool TEXT NOT NULL, id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE, PRIMARY KEY (tool, id)
) WITHOUT ROWID;
CREATE INDEX run_tools_by_run ON run_tools (id);
INSERT OR IGNORE INTO run_tools SELECT c.tool, r.id FROM tool_calls c JOIN runs r USING (run_id);
CREATE TRIGGER run_tools_follow_calls AFTER INSERT ON tool_calls BEGIN
  INSERT OR IGNORE INTO run_tools SELECT new.tool, id FROM runs WHERE run_id = new.run_id;
END;
CREATE INDEX runs_listed ON runs (id, purpose, split, status, model_hash);
"""


@migrations()
def m008_verdicts(db: Database) -> None:
    """Let a person take a label back, and keep what lists of many runs filter by: the verdict, the tools, the facts."""
    _run_script(db, _VERDICTS)


_BY_MODEL = "CREATE INDEX runs_by_model ON runs (model_hash, purpose)"


@migrations()
def m009_runs_by_model(db: Database) -> None:
    """Find the runs of a model in the order of writing: the watch asks for them whenever work begins."""
    db.execute(_BY_MODEL)


_OVERVIEW = """
DROP VIEW run_overview;
CREATE VIEW run_overview AS
SELECT r.run_id, r.created_at, r.purpose, r.split, r.status, coalesce(m.name, r.model_hash) AS model,
  coalesce(o.label, 'unknown') AS outcome, o.source AS outcome_source, r.end_reason, r.task_id,
  (SELECT count(*) FROM steps s WHERE s.run_id = r.run_id) AS steps,
  (SELECT count(*) FROM tool_calls c WHERE c.run_id = r.run_id) AS tool_calls, r.prompt, r.answer, r.imported
FROM runs r LEFT JOIN models m USING (model_hash) LEFT JOIN current_outcomes o USING (run_id);
"""


@migrations()
def m010_overview(db: Database) -> None:
    """Say of each run in the overview where it was read from, if no model here made it."""
    _run_script(db, _OVERVIEW)


@migrations()
def m011_guidance(db: Database) -> None:
    """Say of each run how far its tokens were drawn away from those of the failure condition."""
    db.execute("ALTER TABLE runs ADD COLUMN guidance REAL NOT NULL DEFAULT 0")


_FORKS = "CREATE INDEX runs_by_fork ON runs (parent_run_id) WHERE forked_at IS NOT NULL"


@migrations()
def m012_forks(db: Database) -> None:
    """Say of each run how many turns it took over from the run that it was forked from, and find those of a run."""
    db.execute("ALTER TABLE runs ADD COLUMN forked_at INTEGER")
    db.execute(_FORKS)


_RECORDED_ONLY = """
DROP VIEW tool_success;
DROP VIEW failed_calls;
DROP VIEW in_doubt_calls;
DROP VIEW calls;
CREATE VIEW calls AS
SELECT c.run_id, c.step_index, c.call_index, coalesce(m.name, r.model_hash) AS model, r.purpose, c.tool, c.arguments,
  coalesce(c.transport, 'in_doubt') AS transport, c.tool_verdict, c.output, c.seconds, c.intent_at, c.result_at,
  c.tool_version, c.effect, c.idempotency_key,
  CASE c.transport WHEN 'not_executed' THEN NULL WHEN 'ok' THEN c.tool_verdict IS 'error' ELSE 1 END AS failed
FROM tool_calls c JOIN runs r USING (run_id) LEFT JOIN models m USING (model_hash);
CREATE VIEW failed_calls AS SELECT * FROM calls WHERE failed;
CREATE VIEW in_doubt_calls AS SELECT * FROM calls WHERE transport = 'in_doubt';
CREATE VIEW tool_success AS
SELECT model, tool, count(*) AS calls, coalesce(sum(failed), 0) AS failed, round(1.0 - avg(failed), 3) AS success_rate,
  sum(transport = 'error') AS error, sum(transport = 'timeout') AS timeout, sum(transport = 'denied') AS denied,
  sum(transport = 'invalid') AS invalid, sum(transport = 'in_doubt') AS in_doubt,
  sum(transport = 'not_executed') AS not_executed
FROM calls GROUP BY model, tool;
"""


@migrations()
def m013_recorded_only(db: Database) -> None:
    """Count a call that is only recorded, never made, neither as failed nor in a tool's success rate."""
    _run_script(db, _RECORDED_ONLY)


SCHEMA_VERSION = 13
"""The number of migrations: what `PRAGMA user_version` says of a file that this koboshi wrote."""


def schema_version(connection: sqlite3.Connection) -> int:
    """Return the schema version of a file; 0 for an empty one."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return version


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file behind `connection` to `SCHEMA_VERSION`; the caller holds the write lock."""
    from sqlite_utils import Database

    all_steps().apply(Database(connection, execute_plugins=False))
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _run_script(db: Database, script: str) -> None:
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            db.execute(statement)
            statement = ""
