"""How often tools were called lately: what rules with rates are decided by.

Calls of this process are known at once; those of other processes at most a second after they are stored. Each call is
counted once, by its idempotency key, whichever way it became known. A home without rates in its policy never asks.
"""

import time
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from koboshi_policies import Circumstances

from .store import Store

_HOUR_S, _MINUTE_S, _FRESH_S = 3600.0, 60.0, 1.0

_RECENT = """
SELECT c.idempotency_key, c.tool, c.intent_at, r.purpose FROM tool_calls c JOIN runs r USING (run_id)
JOIN decisions d ON d.decision_id = (SELECT max(decision_id) FROM decisions WHERE call_id = c.call_id)
WHERE c.intent_at > ? AND d.verdict IN ('allow', 'modify') AND r.imported IS NULL
"""


class CallCounts:
    """Counts permitted calls of the last hour, by purpose and tool."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._calls: dict[str, tuple[float, str, str]] = {}
        self._read_at: float | None = None

    def add(self, purpose: str, tool: str, idempotency_key: str) -> None:
        """Count a call that was just permitted."""
        self._calls.setdefault(idempotency_key, (time.time(), purpose, tool))

    def around(self, purpose: str, in_run: Mapping[str, int], turn: Mapping[str, int]) -> Circumstances:
        """Return the circumstances of a call, after those of its own `turn` that are not counted here yet."""
        self._refresh()
        now = time.time()
        hour: Counter[str] = Counter(turn)
        minute: Counter[str] = Counter(turn)
        for at, known, tool in self._calls.values():
            if known == purpose and at > now - _HOUR_S:
                hour[tool] += 1
                minute[tool] += at > now - _MINUTE_S
        return Circumstances(purpose, Counter(in_run) + Counter(turn), minute, hour)

    def _refresh(self) -> None:
        now = time.monotonic()
        if self._read_at is not None and now - self._read_at < _FRESH_S:
            return
        self._read_at = now
        since = datetime.now(UTC) - timedelta(seconds=_HOUR_S)
        with self._store.reading() as db:
            rows = db.execute(_RECENT, (since.isoformat(timespec="milliseconds"),)).fetchall()
        for row in rows:
            at = datetime.fromisoformat(row["intent_at"]).timestamp()
            self._calls.setdefault(row["idempotency_key"], (at, row["purpose"], str(row["tool"])))
        old = time.time() - _HOUR_S
        self._calls = {key: call for key, call in self._calls.items() if call[0] > old}
