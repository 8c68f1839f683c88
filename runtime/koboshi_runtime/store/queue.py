"""Which unlabelled runs a person should judge first, and why: those whose label says the most that is not known yet.

A run's score is the sum of five signals, each between 0 and 1; its reasons are those signals in words, the weightiest
first. Of several runs of one prompt the best comes in the first round, the next in the second and so on, so that
twenty labels are twenty different questions. A label that weak signals gave is no judgement.

Only the newest 500 unlabelled runs are ranked: nobody labels more, and a store of a million steps answers as quickly
as a small one.
"""

import math
import sqlite3
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .codecs import unpack_optional, unpack_text
from .rows import QueueRow

_RANKED = 500

_ENOUGH = 20
"""Labelled runs of a tool after which one more says little: they pin its success rate to about 20 points."""

_HALF_NEW = 200
"""A run with so many newer ones in the queue counts half as new as the newest."""

_WEIGHT = {"disagreement": 1.0, "unsure": 1.0, "tool": 0.7, "weak": 0.5, "new": 0.2}
"""Disagreement and doubt come from the run itself; rarity of its tools, weak signals and age only lean on them."""

JUDGED = "(SELECT v.label FROM verdicts v WHERE v.id = r.id AND v.source <> 'weak')"
"""The label of the run `r` that counts, without weak signals; NULL where there is none."""

_WAITING = f"""r.purpose = 'work' AND r.status IN ('finished', 'failed') AND r.end_reason <> 'outside'
  AND coalesce({JUDGED}, 'unknown') = 'unknown'
  AND NOT EXISTS (SELECT 1 FROM standing_outcomes WHERE run_id = r.run_id AND source = 'person')"""

# NOT INDEXED: read from the newest on, and stop at the limit, instead of sorting every work run.
_NEWEST = f"""
SELECT r.id, r.run_id, r.created_at, r.prompt, r.prompt_hash, r.answer,
  (SELECT sum(mean_logprob * reply_tokens) / sum(reply_tokens) FROM steps
    WHERE run_id = r.run_id AND mean_logprob NOT NULL) AS mean_logprob,
  (SELECT o.rationale FROM standing_outcomes o WHERE o.run_id = r.run_id AND o.source = 'weak'
    ORDER BY o.outcome_id DESC LIMIT 1) AS weak
FROM runs r NOT INDEXED WHERE {_WAITING} ORDER BY r.id DESC LIMIT ?
"""

_SIBLINGS = f"""
SELECT count(*) AS runs, count(DISTINCT answer) AS answers, total(label = 'success') AS successes,
  total(label = 'failure') AS failures
FROM (SELECT r.answer, {JUDGED} AS label FROM runs r
  WHERE r.purpose IN ('work', 'rollout') AND r.prompt_hash = ? AND NOT r.demonstration LIMIT 100)
"""

_LABELLED = f"""
SELECT count(*) FROM (SELECT 1 FROM run_tools r WHERE r.tool = ?
  AND coalesce({JUDGED}, 'unknown') <> 'unknown' LIMIT {_ENOUGH})
"""


class _Reason(NamedTuple):
    weight: float
    text: str


def label_queue(db: sqlite3.Connection, limit: int | None = None) -> list[QueueRow]:
    """Return the ended work runs of a model that nobody has judged, the most informative first."""
    found = db.execute(_NEWEST, (_RANKED,)).fetchall()
    tools = {row["run_id"]: _tools(db, row["run_id"]) for row in found}
    labelled = {tool: db.execute(_LABELLED, (tool,)).fetchone()[0] for tool in set().union(*tools.values())}
    siblings = {key: db.execute(_SIBLINGS, (key,)).fetchone() for key in {row["prompt_hash"] for row in found}}
    ranked = [
        (row["prompt_hash"], _row(row, tools[row["run_id"]], siblings[row["prompt_hash"]], labelled, place))
        for place, row in enumerate(found)
    ]
    return _in_rounds(ranked)[:limit]


def count_unlabelled(db: sqlite3.Connection) -> int:
    """Return how many runs wait for a label, also those that are too old to be ranked."""
    count: int = db.execute(f"SELECT count(*) FROM runs r WHERE {_WAITING}").fetchone()[0]
    return count


def _tools(db: sqlite3.Connection, run_id: str) -> tuple[str, ...]:
    rows = db.execute("SELECT tool FROM tool_calls WHERE run_id = ? GROUP BY tool ORDER BY min(call_id)", (run_id,))
    return tuple(row["tool"] for row in rows)


def _row(
    row: sqlite3.Row, tools: Sequence[str], siblings: sqlite3.Row, labelled: dict[str, int], place: int
) -> QueueRow:
    signals = {
        "disagreement": _disagreement(siblings),
        "unsure": _unsure(row["mean_logprob"]),
        "tool": _rare_tool(tools, labelled),
        "weak": None if row["weak"] is None else _Reason(1.0, f"weak signal: {unpack_text(row['weak'])}"),
        "new": _Reason(0.5 ** (place / _HALF_NEW), "new"),
    }
    weighed = [_Reason(_WEIGHT[name] * found.weight, found.text) for name, found in signals.items() if found]
    return QueueRow(
        run_id=row["run_id"],
        created_at=row["created_at"],
        prompt=unpack_text(row["prompt"]),
        answer=unpack_optional(row["answer"]),
        mean_logprob=row["mean_logprob"],
        tools=tuple(unpack_text(tool) for tool in tools),
        score=round(sum(reason.weight for reason in weighed), 3),
        reasons=tuple(reason.text for reason in sorted(weighed, key=lambda reason: -reason.weight)),
    )


def _disagreement(siblings: sqlite3.Row) -> _Reason | None:
    """Runs of one prompt that ended differently: the variance of their labels, or else how far their answers differ."""
    judged = int(siblings["successes"] + siblings["failures"])
    rate = siblings["successes"] / judged if judged else 0.0
    if 0 < rate < 1:
        return _Reason(4 * rate * (1 - rate), f"{int(siblings['successes'])} of {judged} judged runs of it succeeded")
    if not judged and siblings["answers"] > 1:
        differ = (siblings["answers"] - 1) / (siblings["runs"] - 1)
        return _Reason(differ, f"{siblings['answers']} different answers in {siblings['runs']} runs of it")
    return None


def _unsure(mean_logprob: float | None) -> _Reason | None:
    """One minus the mean probability (geometric) of the tokens that the model drew."""
    if mean_logprob is None or not math.isfinite(mean_logprob):
        return None
    sure = math.exp(min(mean_logprob, 0.0))
    return _Reason(1 - sure, f"the model was {sure:.0%} sure of a token")


def _rare_tool(tools: Iterable[str], labelled: dict[str, int]) -> _Reason | None:
    rarest = min(tools, key=labelled.__getitem__, default=None)
    if rarest is None or labelled[rarest] >= _ENOUGH:
        return None
    known = labelled[rarest]
    return _Reason(1 - known / _ENOUGH, f"{known or 'no'} labelled run{'s' * (known != 1)} with {unpack_text(rarest)}")


def _in_rounds(rows: Sequence[tuple[str, QueueRow]]) -> list[QueueRow]:
    """Return the best run of every prompt, then the second best of each, and so on."""
    rounds: Counter[str] = Counter()
    ordered = []
    for prompt_hash, row in sorted(rows, key=lambda pair: -pair[1].score):
        ordered.append((rounds[prompt_hash], row))
        rounds[prompt_hash] += 1
    return [row for _, row in sorted(ordered, key=lambda pair: pair[0])]
