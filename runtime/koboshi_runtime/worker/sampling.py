"""Choose the next token from one row of logits, or from two that are set against each other, and say how likely it was.

Raw is log-softmax at T = 1 without mask; behaviour is of the distribution that was really drawn from: masked, tempered,
its tail cut, guided. Both are natural logarithms. A greedy choice has behaviour 0.

A row is some 50,000 numbers for every token of every run: all passes over it write into scratch memory that is kept,
because the page faults of fresh arrays cost several times the arithmetic.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Beyond so many candidates the tail that top-p keeps is noise, and sorting the whole vocabulary costs more than
# decoding.
_TOP_P_CANDIDATES = 512

# A draw looks for its block first and for its token within the block, instead of summing up the whole vocabulary.
_BLOCK = 256

# Only tokens at least this likely, as a part of the likeliest allowed one, are guided among: where the model is sure,
# what the other condition makes unlikely is noise (Li et al., 2210.15097).
_PLAUSIBLE = 0.1

_scratch = np.zeros(0, dtype=np.float32)


class Choice(NamedTuple):
    """A token with its two log-probabilities."""

    token: int
    raw_logprob: float
    behaviour_logprob: float


class Guide(NamedTuple):
    """Logits `(vocabulary,)` of the same place under the other condition, and how far to go away from them."""

    against: NDArray[np.float32]
    strength: float


class Rows(NamedTuple):
    """Logits of one decode, `(rows, vocabulary)`; of each row the likeliest token and the log of its partition sum."""

    logits: NDArray[np.float32]
    likeliest: NDArray[np.int64]
    log_sum: NDArray[np.float32]

    @classmethod
    def of(cls, logits: NDArray[np.float32]) -> "Rows":
        """Look through all rows of a decode; each row is still in the cache when it is summed."""
        likeliest = np.zeros(len(logits), dtype=np.int64)
        log_sum = np.zeros(len(logits), dtype=np.float32)
        for number, row in enumerate(logits):
            likeliest[number] = best = row.argmax()
            log_sum[number] = np.log(_weights(row, row[best], 1.0)[: len(row)].sum()) + row[best]
        return cls(logits, likeliest, log_sum)

    def part(self, start: int, stop: int) -> "Rows":
        """Return the rows of one sequence."""
        return Rows(self.logits[start:stop], self.likeliest[start:stop], self.log_sum[start:stop])

    def copied(self) -> "Rows":
        """Return rows of their own memory: those of a decode are overwritten by the next one."""
        return Rows(self.logits.copy(), self.likeliest.copy(), self.log_sum.copy())

    def raw_logprob(self, row: int, token: int) -> float:
        """Return log p(token) of one row at T = 1."""
        return float(self.logits[row, token] - self.log_sum[row])


def _scratch_blocks(count: int) -> NDArray[np.float32]:
    """Return memory for `count` numbers, up to whole blocks, zeros behind them."""
    global _scratch
    size = -(-count // _BLOCK) * _BLOCK
    if len(_scratch) < size:
        _scratch = np.zeros(size, dtype=np.float32)
    _scratch[count:size] = 0.0
    return _scratch[:size]


def _weights(scores: NDArray[np.float32], top: np.float32, temperature: float) -> NDArray[np.float32]:
    """Return exp((scores - top) / temperature), zeros up to whole blocks; valid until the next call."""
    padded = _scratch_blocks(len(scores))
    weights = padded[: len(scores)]
    np.subtract(scores, top, out=weights)
    if temperature != 1.0:
        weights *= np.float32(1.0 / temperature)
    np.exp(weights, out=weights)
    return padded


def likeliest(rows: Rows, row: int) -> Choice:
    """Return the token that a greedy choice without mask takes."""
    token = int(rows.likeliest[row])
    return Choice(token, rows.raw_logprob(row, token), 0.0)


def choose(
    rows: Rows,
    row: int,
    *,
    mask: NDArray[np.bool_] | None,
    temperature: float,
    top_p: float,
    generator: np.random.Generator,
    guide: Guide | None = None,
) -> Choice:
    """Draw the token that follows `row`; at temperature 0 the likeliest allowed one."""
    logits = rows.logits[row]
    allowed = None if mask is None else np.flatnonzero(mask)
    scores = logits if allowed is None else logits[allowed]
    if guide is not None:
        scores = _guided(scores, guide.against if allowed is None else guide.against[allowed], guide.strength)
    if temperature <= 0:
        index, behaviour = int(scores.argmax()), 0.0
    elif top_p < 1.0:
        index, behaviour = _draw_top_p(scores / np.float32(temperature), top_p, generator)
    else:
        index, behaviour = _draw(scores, temperature, generator)
    token = index if allowed is None else int(allowed[index])
    return Choice(token, rows.raw_logprob(row, token), behaviour)


def _guided(scores: NDArray[np.float32], against: NDArray[np.float32], strength: float) -> NDArray[np.float32]:
    """Return (1 + g) z - g z' over the plausible tokens, minus infinity elsewhere (Frans et al., 2505.23458)."""
    plausible = scores >= scores.max() + np.float32(np.log(_PLAUSIBLE))
    guided = np.full(len(scores), -np.inf, dtype=np.float32)
    guided[plausible] = (1 + strength) * scores[plausible] - strength * against[plausible]
    return guided


def _draw(scores: NDArray[np.float32], temperature: float, generator: np.random.Generator) -> tuple[int, float]:
    weights = _weights(scores, scores.max(), temperature)
    blocks = weights.reshape(-1, _BLOCK)
    ends = np.cumsum(blocks.sum(axis=1), dtype=np.float64)
    aim = min(generator.random() * ends[-1], np.nextafter(ends[-1], 0.0))
    block = int(np.searchsorted(ends, aim, side="right"))
    # Rounding may aim beside a block's weights, never at a token whose weight is nothing.
    likely = np.flatnonzero(blocks[block])
    within = np.cumsum(blocks[block, likely], dtype=np.float64)
    place = int(np.searchsorted(within, aim - (ends[block] - within[-1]), side="right"))
    index = block * _BLOCK + int(likely[min(place, len(likely) - 1)])
    return index, float(np.log(weights[index] / ends[-1]))


def _draw_top_p(scores: NDArray[np.float32], top_p: float, generator: np.random.Generator) -> tuple[int, float]:
    count = min(_TOP_P_CANDIDATES, len(scores))
    candidates = np.argpartition(scores, -count)[-count:]
    candidates = candidates[np.argsort(scores[candidates])[::-1]]
    weights = np.exp(scores[candidates] - scores[candidates[0]]).astype(np.float64)
    share = np.cumsum(weights) / weights.sum()
    weights[np.searchsorted(share, top_p) + 1 :] = 0.0
    sums = np.cumsum(weights)
    index = int(np.searchsorted(sums, generator.random() * sums[-1], side="right"))
    index = min(index, len(weights) - 1)
    return int(candidates[index]), float(np.log(weights[index] / sums[-1]))
