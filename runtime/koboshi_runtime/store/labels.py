"""How many runs a night could learn from, counted in the store without reading one of them.

The count is of labelled train runs; which of them a dataset keeps, after duplicates and caps, only building it says.
Time is told by the number of the last label, which no clock can set back.
"""

from koboshi_tools import Frozen

from .queue import JUDGED
from .store import Store

# What went wrong around the model teaches nothing; the trainer's `quality` leaves the same ends out.
_NOT_THE_MODELS_DOING = (
    "('model_error', 'in_doubt', 'not_replayable', 'time_budget', 'workspace_lost', 'outside', 'redacted')"
)

_COUNT = f"""
SELECT count(*) AS labelled, total(label = 'success') AS successes, total(newest > :after) AS newer FROM (
  SELECT {JUDGED} AS label,
    (SELECT max(outcome_id) FROM standing_outcomes WHERE run_id = r.run_id AND source <> 'weak') AS newest
  FROM runs r WHERE r.purpose IN ('work', 'rollout') AND r.split = 'train' AND NOT r.redacted
    AND r.status IN ('finished', 'failed') AND r.end_reason NOT IN {_NOT_THE_MODELS_DOING}
    AND NOT EXISTS (SELECT 1 FROM runs e WHERE e.purpose IN ('eval', 'gate') AND e.prompt_hash = r.prompt_hash)
) WHERE label IN ('success', 'failure')
"""


class LabelCounts(Frozen):
    """Labelled train runs, those labelled after a given label, and `last`, the number of the newest label of all."""

    labelled: int
    successes: int
    newer: int
    last: int


def count_labels(store: Store, *, after: int = 0) -> LabelCounts:
    """Return what there is to learn from, and how much of it was labelled after label number `after`."""
    with store.reading() as db:
        row = db.execute(_COUNT, {"after": after}).fetchone()
        last = db.execute("SELECT coalesce(max(outcome_id), 0) FROM outcomes").fetchone()[0]
    counts = {name: int(row[name]) for name in ("labelled", "successes", "newer")}
    return LabelCounts(**counts, last=last)
