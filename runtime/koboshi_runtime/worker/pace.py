"""How long a step takes on this machine: one run alone, and all runs at once behind a common beginning."""

import time
from statistics import median

from ..llama import Engine
from .facts import Pace

# As long as the prompt of a few tools, and as far into a run as its second turn.
_SHARED_TOKENS = 320
_OWN_TOKENS = 32
_STEPS = 9

# Any ids do: what a token is changes nothing about its cost.
_FIRST_ID = 100


def pace(engine: Engine) -> Pace:
    """Measure an engine, whose sequences are forgotten."""
    parallel = engine.settings.parallel
    _fill(engine, 0, 0, _SHARED_TOKENS)
    for sequence in range(1, parallel):
        engine.share(0, sequence, _SHARED_TOKENS)
    one = _steps(engine, 1, _SHARED_TOKENS)
    for sequence in range(parallel):
        engine.forget(sequence, _SHARED_TOKENS)
        _fill(engine, sequence, _SHARED_TOKENS, _OWN_TOKENS)
    many = _steps(engine, parallel, _SHARED_TOKENS + _OWN_TOKENS)
    for sequence in range(parallel):
        engine.forget(sequence, 0)
    return Pace(one_ms=one, many_ms=many, parallel=parallel)


def _fill(engine: Engine, sequence: int, start: int, count: int) -> None:
    size = engine.settings.batch_tokens
    for begin in range(start, start + count, size):
        positions = range(begin, min(begin + size, start + count))
        tokens = [_FIRST_ID + position for position in positions]
        engine.decode(tokens, positions, [sequence] * len(tokens), [False] * len(tokens))


def _steps(engine: Engine, runs: int, position: int) -> float:
    taken = []
    for step in range(_STEPS):
        started = time.perf_counter()
        engine.decode([_FIRST_ID + step] * runs, [position + step] * runs, range(runs), [True] * runs)
        taken.append(time.perf_counter() - started)
    # The first step builds what the others use.
    return round(1000 * median(taken[1:]), 2)
