"""Choose the next token from one row of logits, and say how likely it was.

Raw is log-softmax at T = 1 without mask; behaviour is of the distribution that was really drawn from: masked, tempered,
its tail cut. Both are natural logarithms. A greedy choice has behaviour 0.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

# Beyond so many candidates the tail that top-p keeps is noise, and sorting the whole vocabulary costs more than
# decoding.
_TOP_P_CANDIDATES = 512


class Choice(NamedTuple):
    """A token with its two log-probabilities."""

    token: int
    raw_logprob: float
    behaviour_logprob: float


class Rows(NamedTuple):
    """Logits of one decode, `(rows, vocabulary)`, with the logarithm of each row's partition sum, `(rows,)`."""

    logits: NDArray[np.float32]
    log_sum: NDArray[np.float32]

    @classmethod
    def of(cls, logits: NDArray[np.float32]) -> "Rows":
        """Normalise all rows of a decode at once."""
        top = logits.max(axis=1)
        total = np.exp(logits - top[:, None]).sum(axis=1)
        return cls(logits, np.log(total) + top)

    def part(self, start: int, stop: int) -> "Rows":
        """Return the rows of one sequence."""
        return Rows(self.logits[start:stop], self.log_sum[start:stop])

    def raw_logprob(self, row: int, token: int) -> float:
        """Return log p(token) of one row at T = 1."""
        return float(self.logits[row, token] - self.log_sum[row])


def choose(
    rows: Rows,
    row: int,
    *,
    mask: NDArray[np.bool_] | None,
    temperature: float,
    top_p: float,
    generator: np.random.Generator,
) -> Choice:
    """Draw the token that follows `row`; at temperature 0 the likeliest allowed one."""
    logits = rows.logits[row]
    if mask is not None:
        logits = np.where(mask, logits, -np.inf)
    if temperature <= 0:
        token = int(logits.argmax())
        return Choice(token, rows.raw_logprob(row, token), 0.0)
    token, behaviour = _draw(logits / temperature, top_p, generator)
    return Choice(token, rows.raw_logprob(row, token), behaviour)


def _draw(scores: NDArray[np.float32], top_p: float, generator: np.random.Generator) -> tuple[int, float]:
    candidates = np.arange(len(scores))
    if top_p < 1.0:
        count = min(_TOP_P_CANDIDATES, len(scores))
        candidates = np.argpartition(scores, -count)[-count:]
        candidates = candidates[np.argsort(scores[candidates])[::-1]]
    weights = np.exp(scores[candidates] - scores[candidates].max()).astype(np.float64)
    if top_p < 1.0:
        share = np.cumsum(weights) / weights.sum()
        weights[np.searchsorted(share, top_p) + 1 :] = 0.0
    sums = np.cumsum(weights)
    index = int(np.searchsorted(sums, generator.random() * sums[-1], side="right"))
    index = min(index, len(weights) - 1)
    return int(candidates[index]), float(np.log(weights[index] / sums[-1]))
