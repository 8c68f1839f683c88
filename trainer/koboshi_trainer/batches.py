"""Which rows go into which optimizer step, and how they lie together.

The plan of an epoch is a pure function of the rows, the settings and a seed, so that a resumed fit goes on exactly
where it stopped. Within an optimizer step rows that share a prefix go together, longest first and each where there is
room left, into micro-batches: the prefix once, then each row's own ids, with no padding between them.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from .rows import TokenRow


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Rows behind one prefix, computed together: the prefix once, then every row's ids, a twin's behind its row's."""

    prefix_ids: tuple[int, ...]
    rows: tuple[TokenRow, ...]

    @property
    def tokens(self) -> int:
        """Positions that are really computed."""
        return len(self.prefix_ids) + sum(len(row.ids) for row in self.rows)

    @property
    def own(self) -> tuple[bool, ...]:
        """For each row, whether it is learnt for itself and is nobody's twin."""
        twins = {id(row.twin) for row in self.rows}
        return tuple(id(row) not in twins for row in self.rows)


OptimizerBatch = tuple[MicroBatch, ...]


def plan_epoch(
    rows: Sequence[TokenRow],
    *,
    batch_rows: int,
    max_tokens: int,
    seed: int,
    epoch: int = 0,
    tasks_together: bool = False,
    tasks_whole: bool = False,
) -> list[OptimizerBatch]:
    """Return the optimizer batches of one epoch, each of `batch_rows` rows (the last may be smaller).

    `max_tokens` bounds the positions of a micro-batch; a row that is longer than that stands alone. With
    `tasks_together` the rows of one task follow each other, so that a batch shows both outcomes of one problem.
    """
    keys = [
        (_key(seed, epoch, row.group) if tasks_together else "", _key(seed, epoch, str(n)))
        for n, row in enumerate(rows)
    ]
    order = sorted(range(len(rows)), key=keys.__getitem__)
    batches = [[rows[i] for i in order[at : at + batch_rows]] for at in range(0, len(order), batch_rows)]
    return [tuple(micro_batches(batch, max_tokens=max_tokens, tasks_whole=tasks_whole)) for batch in batches]


def micro_batches(rows: Sequence[TokenRow], *, max_tokens: int, tasks_whole: bool = False) -> list[MicroBatch]:
    """Lay `rows` and their twins out by prefix, longest first, at most `max_tokens` positions together.

    With `tasks_whole` the rows of one task stay in one micro-batch, unless they alone are too many for it.
    """
    by_prefix: dict[tuple[int, ...], list[TokenRow]] = {}
    for row in rows:
        by_prefix.setdefault(row.prefix_ids, []).append(row)
    found = []
    for prefix, members in by_prefix.items():
        room, members = max_tokens - len(prefix), sorted(members, key=lambda row: -len(row.ids))
        units = _by_task(members, room) if tasks_whole else [_with_twin(row) for row in members]
        found += [MicroBatch(prefix_ids=prefix, rows=tuple(part)) for part in _parts(units, room=room)]
    return found


def _with_twin(row: TokenRow) -> list[TokenRow]:
    return [row, row.twin] if row.twin is not None else [row]


def _by_task(rows: Sequence[TokenRow], room: int) -> list[list[TokenRow]]:
    tasks: dict[str, list[list[TokenRow]]] = {}
    for row in rows:
        tasks.setdefault(row.group, []).append(_with_twin(row))
    units: list[list[TokenRow]] = []
    for members in tasks.values():
        whole = [row for member in members for row in member]
        units += [whole] if _length(whole) <= room else members
    return units


def _length(rows: Sequence[TokenRow]) -> int:
    return sum(len(row.ids) for row in rows)


def _parts(units: Sequence[list[TokenRow]], *, room: int) -> list[list[TokenRow]]:
    """Lay units that stay together into the first part with room for them, at most `room` positions in a part."""
    parts: list[list[TokenRow]] = []
    left: list[int] = []
    for together in units:
        length = _length(together)
        found = next((number for number, free in enumerate(left) if length <= free), len(parts))
        if found == len(parts):
            parts.append([])
            left.append(room)
        parts[found].extend(together)
        left[found] -= length
    return parts


def _key(seed: int, epoch: int, text: str) -> str:
    """A stable pseudo-random sort key, the same on every machine and Python version."""
    return hashlib.sha256(f"{seed}:{epoch}:{text}".encode()).hexdigest()
