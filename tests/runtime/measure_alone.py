"""Measure what the others in a batch do to a token: why a greedy run alone and among others may part.

    python tests/runtime/measure_alone.py MODEL.gguf ...

For each file and way of loading, the logits of one sequence's next token are taken alone in an empty cache, alone with
fifteen other sequences in the cache, in batches with 1, 3, 7 and 15 of them, and with its cells behind or among theirs.
A line of JSON says by how much the largest log-probability moved (0 means equal to the last bit of every logit).
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from koboshi_runtime.llama import Engine, EngineSettings, start_backend  # noqa: TID251 - a process without torch

SEQUENCES, PROMPT_TOKENS = 16, 96
WAYS: dict[str, dict[str, Any]] = {
    "as served": {},
    "llama.cpp's kernels": {"own_kernels": False},
    "not repacked": {"extra_buffers": False},
    "plain attention": {"flash_attention": False},
    "plain attention, not repacked": {"flash_attention": False, "extra_buffers": False},
    "bf16 cells": {"cell_type": "bf16"},
}


def _prompt(sequence: int, size: int) -> list[int]:
    draws = np.random.default_rng(sequence).integers(300, size - 300, PROMPT_TOKENS)
    return [int(token) for token in draws]


def _decode(engine: Engine, parts: dict[int, list[int]], start: int) -> NDArray[np.float64]:
    """Decode the tokens of each sequence from position `start` on, and return the last logits of the first one."""
    positions: list[int] = []
    tokens, sequences, wanted = [], [], []
    for sequence, ids in parts.items():
        tokens += ids
        positions += range(start, start + len(ids))
        sequences += [sequence] * len(ids)
        wanted += [False] * (len(ids) - 1) + [True]
    last: NDArray[np.float64] = engine.decode(tokens, positions, sequences, wanted)[0].astype(np.float64)
    return last


def _decode_mixed(engine: Engine, one: list[int], other: list[int]) -> None:
    """Decode two prompts in one step, token by token in turn, so that their cells lie in turn."""
    tokens = [token for pair in zip(one, other, strict=True) for token in pair]
    positions = [position for position in range(len(one)) for _ in range(2)]
    engine.decode(tokens, positions, [0, 1] * len(one), [False] * len(tokens))


def _moved(logits: NDArray[np.float64], alone: NDArray[np.float64]) -> float:
    if np.array_equal(logits, alone):
        return 0.0
    shift = [values - np.logaddexp.reduce(values) for values in (logits, alone)]
    best = int(alone.argmax())
    return float(abs(shift[0][best] - shift[1][best])) or float(np.abs(shift[0] - shift[1]).max())


def measure(path: Path, way: str) -> dict[str, Any]:
    """Return by how much the token moved, by what stood beside it."""
    start_backend()
    settings = EngineSettings(context_tokens=256, parallel=SEQUENCES, threads=1, batch_threads=1, **WAYS[way])
    engine = Engine(path, settings)
    prompts = [_prompt(sequence, engine.vocabulary.size) for sequence in range(SEQUENCES)]
    next_token = [prompt[0] for prompt in prompts]
    _decode(engine, {0: prompts[0]}, 0)
    alone = _decode(engine, {0: next_token[:1]}, PROMPT_TOKENS)
    found: dict[str, Any] = {"model": path.stem, "way": way}
    engine.forget(0, PROMPT_TOKENS)
    found["alone again"] = _moved(_decode(engine, {0: next_token[:1]}, PROMPT_TOKENS), alone)
    for sequence in range(1, SEQUENCES):
        _decode(engine, {sequence: prompts[sequence]}, 0)
    for others in (0, 1, 3, 7, 15):
        for sequence in range(SEQUENCES):
            engine.forget(sequence, PROMPT_TOKENS)
        beside = {sequence: [next_token[sequence]] for sequence in range(others + 1)}
        found[f"batch of {others + 1}"] = _moved(_decode(engine, beside, PROMPT_TOKENS), alone)
    engine.forget(0, 0)
    _decode(engine, {0: prompts[0][:48]}, 0)
    _decode(engine, {0: prompts[0][48:]}, 48)
    found["prompt in two parts"] = _moved(_decode(engine, {0: next_token[:1]}, PROMPT_TOKENS), alone)
    for sequence in range(SEQUENCES):
        engine.forget(sequence, 0)
    for sequence in range(1, SEQUENCES):
        _decode(engine, {sequence: prompts[sequence]}, 0)
    _decode(engine, {0: prompts[0]}, 0)
    found["behind fifteen others"] = _moved(_decode(engine, {0: next_token[:1]}, PROMPT_TOKENS), alone)
    for sequence in range(SEQUENCES):
        engine.forget(sequence, 0)
    _decode_mixed(engine, prompts[0], prompts[1])
    found["mixed with another"] = _moved(_decode(engine, {0: next_token[:1]}, PROMPT_TOKENS), alone)
    engine.close()
    return found


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[2] in WAYS:
        print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2])), flush=True)
    else:
        for model in sys.argv[1:]:
            for each in WAYS:
                subprocess.run([sys.executable, __file__, model, each], check=True)
