"""How far a model, as it is loaded, agrees with another file of the same weights: the measure beside every speed."""

import numpy as np
from numpy.typing import NDArray

from ..llama import Engine
from .facts import Agreement


def agreement(engine: Engine, reference: Engine, text: str) -> Agreement:
    """Compare two engines of one vocabulary on a text, cut to one batch."""
    ids = reference.vocabulary.tokenize(text)[: min(engine.settings.batch_tokens, engine.settings.context_tokens)]
    ours, theirs = _log_probabilities(engine, ids), _log_probabilities(reference, ids)
    same = ours.argmax(axis=1) == theirs.argmax(axis=1)
    divergence = (np.exp(theirs) * (theirs - ours)).sum(axis=1)
    return Agreement(tokens=len(ids), top1=round(float(same.mean()), 4), divergence=round(float(divergence.mean()), 5))


def _log_probabilities(engine: Engine, ids: list[int]) -> NDArray[np.float64]:
    count = len(ids)
    logits = engine.decode(ids, range(count), [0] * count, [True] * count).astype(np.float64)
    engine.forget(0, 0)
    top = logits.max(axis=1, keepdims=True)
    found: NDArray[np.float64] = logits - top - np.log(np.exp(logits - top).sum(axis=1, keepdims=True))
    return found
