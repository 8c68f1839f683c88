CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
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
, redacted INTEGER NOT NULL DEFAULT 0, imported TEXT, history TEXT, guidance REAL NOT NULL DEFAULT 0, forked_at INTEGER);
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
, arguments TEXT, asked TEXT);
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
CREATE VIRTUAL TABLE "runs_fts" USING FTS5 (
    "prompt", "answer",
    tokenize='unicode61',
    content="runs"
);
CREATE TRIGGER "runs_ai" AFTER INSERT ON "runs" BEGIN
  INSERT INTO "runs_fts" (rowid, "prompt", "answer") VALUES (new.rowid, new."prompt", new."answer");
END;
CREATE TRIGGER "runs_ad" AFTER DELETE ON "runs" BEGIN
  INSERT INTO "runs_fts" ("runs_fts", rowid, "prompt", "answer") VALUES('delete', old.rowid, old."prompt", old."answer");
END;
CREATE TRIGGER "runs_au" AFTER UPDATE ON "runs" BEGIN
  INSERT INTO "runs_fts" ("runs_fts", rowid, "prompt", "answer") VALUES('delete', old.rowid, old."prompt", old."answer");
  INSERT INTO "runs_fts" (rowid, "prompt", "answer") VALUES (new.rowid, new."prompt", new."answer");
END;
CREATE VIRTUAL TABLE "steps_fts" USING FTS5 (
    "reply",
    tokenize='unicode61',
    content="steps"
);
CREATE TRIGGER "steps_ai" AFTER INSERT ON "steps" BEGIN
  INSERT INTO "steps_fts" (rowid, "reply") VALUES (new.rowid, new."reply");
END;
CREATE TRIGGER "steps_ad" AFTER DELETE ON "steps" BEGIN
  INSERT INTO "steps_fts" ("steps_fts", rowid, "reply") VALUES('delete', old.rowid, old."reply");
END;
CREATE TRIGGER "steps_au" AFTER UPDATE ON "steps" BEGIN
  INSERT INTO "steps_fts" ("steps_fts", rowid, "reply") VALUES('delete', old.rowid, old."reply");
  INSERT INTO "steps_fts" (rowid, "reply") VALUES (new.rowid, new."reply");
END;
CREATE VIRTUAL TABLE "tool_calls_fts" USING FTS5 (
    "arguments", "output",
    tokenize='unicode61',
    content="tool_calls"
);
CREATE TRIGGER "tool_calls_ai" AFTER INSERT ON "tool_calls" BEGIN
  INSERT INTO "tool_calls_fts" (rowid, "arguments", "output") VALUES (new.rowid, new."arguments", new."output");
END;
CREATE TRIGGER "tool_calls_ad" AFTER DELETE ON "tool_calls" BEGIN
  INSERT INTO "tool_calls_fts" ("tool_calls_fts", rowid, "arguments", "output") VALUES('delete', old.rowid, old."arguments", old."output");
END;
CREATE TRIGGER "tool_calls_au" AFTER UPDATE ON "tool_calls" BEGIN
  INSERT INTO "tool_calls_fts" ("tool_calls_fts", rowid, "arguments", "output") VALUES('delete', old.rowid, old."arguments", old."output");
  INSERT INTO "tool_calls_fts" (rowid, "arguments", "output") VALUES (new.rowid, new."arguments", new."output");
END;
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
CREATE TABLE forgotten (
  run_id TEXT PRIMARY KEY, reason TEXT NOT NULL, who TEXT NOT NULL, learnt_by TEXT NOT NULL, forgotten_at TEXT NOT NULL
);
CREATE TABLE retractions (
  outcome_id INTEGER PRIMARY KEY REFERENCES outcomes (outcome_id) ON DELETE CASCADE, who TEXT NOT NULL,
  created_at TEXT NOT NULL
);
CREATE VIEW standing_outcomes AS SELECT * FROM outcomes WHERE outcome_id NOT IN (SELECT outcome_id FROM retractions);
CREATE TABLE verdicts (
  id INTEGER PRIMARY KEY REFERENCES runs (id) ON DELETE CASCADE, label TEXT NOT NULL, source TEXT NOT NULL,
  outcome_id INTEGER NOT NULL
);
CREATE TRIGGER verdicts_follow_outcomes AFTER INSERT ON outcomes BEGIN
  INSERT OR REPLACE INTO verdicts SELECT r.id, o.label, o.source, o.outcome_id FROM standing_outcomes o JOIN runs r USING (run_id)
    WHERE o.run_id = new.run_id ORDER BY CASE o.source WHEN 'checker' THEN 0 WHEN 'project_check' THEN 1
    WHEN 'person' THEN 2 WHEN 'event' THEN 3 ELSE 4 END, o.outcome_id DESC LIMIT 1;
END;
CREATE TRIGGER verdicts_follow_retractions AFTER INSERT ON retractions BEGIN
  DELETE FROM verdicts WHERE id =
    (SELECT r.id FROM outcomes o JOIN runs r USING (run_id) WHERE o.outcome_id = new.outcome_id);
  INSERT INTO verdicts
    SELECT r.id, o.label, o.source, o.outcome_id FROM standing_outcomes o JOIN runs r USING (run_id)
    WHERE o.run_id = (SELECT run_id FROM outcomes WHERE outcome_id = new.outcome_id) ORDER BY CASE o.source WHEN 'checker' THEN 0 WHEN 'project_check' THEN 1
    WHEN 'person' THEN 2 WHEN 'event' THEN 3 ELSE 4 END, o.outcome_id DESC LIMIT 1;
END;
CREATE VIEW current_outcomes AS
SELECT o.run_id, o.label, o.source, o.who, o.rationale, o.score, o.created_at
FROM verdicts v JOIN outcomes o USING (outcome_id);
CREATE TABLE run_tools (
  tool TEXT NOT NULL, id INTEGER NOT NULL REFERENCES runs (id) ON DELETE CASCADE, PRIMARY KEY (tool, id)
) WITHOUT ROWID;
CREATE INDEX run_tools_by_run ON run_tools (id);
CREATE TRIGGER run_tools_follow_calls AFTER INSERT ON tool_calls BEGIN
  INSERT OR IGNORE INTO run_tools SELECT new.tool, id FROM runs WHERE run_id = new.run_id;
END;
CREATE INDEX runs_listed ON runs (id, purpose, split, status, model_hash);
CREATE INDEX runs_by_model ON runs (model_hash, purpose);
CREATE VIEW run_overview AS
SELECT r.run_id, r.created_at, r.purpose, r.split, r.status, coalesce(m.name, r.model_hash) AS model,
  coalesce(o.label, 'unknown') AS outcome, o.source AS outcome_source, r.end_reason, r.task_id,
  (SELECT count(*) FROM steps s WHERE s.run_id = r.run_id) AS steps,
  (SELECT count(*) FROM tool_calls c WHERE c.run_id = r.run_id) AS tool_calls, r.prompt, r.answer, r.imported
FROM runs r LEFT JOIN models m USING (model_hash) LEFT JOIN current_outcomes o USING (run_id);
CREATE INDEX runs_by_fork ON runs (parent_run_id) WHERE forked_at IS NOT NULL;
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
