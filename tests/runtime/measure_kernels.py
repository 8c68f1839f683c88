"""Measure a step with koboshi's own kernels beside one with llama.cpp's.

    python tests/runtime/measure_kernels.py MODEL.gguf [ROUNDS]

Each round loads the file once with each, in a process of its own, with flash attention on two threads, and takes the
median time of each kind of step. Printed are medians over rounds in milliseconds, and of the ratio within a round.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from koboshi_runtime.llama import Engine, EngineSettings, start_backend  # noqa: TID251 - a process without torch

SHARED, OWN, STEPS, DEEP, PART = 320, 64, 12, 4096, 256
ROUNDS = 3


def _decode(engine: Engine, parts: list[tuple[int, int, int]]) -> float:
    """Decode (sequence, first position, tokens) together, and return the milliseconds it took."""
    places = [(run, place) for run, first, count in parts for place in range(first, first + count)]
    last = {run: first + count - 1 for run, first, count in parts}
    tokens = [100 + place % 1000 for _, place in places]
    wanted = [place == last[run] for run, place in places]
    began = time.perf_counter()
    engine.decode(tokens, [place for _, place in places], [run for run, _ in places], wanted)
    return 1000 * (time.perf_counter() - began)


def _again(engine: Engine, parts: list[tuple[int, int, int]]) -> float:
    taken = []
    for _ in range(STEPS):
        for run, first, _count in parts:
            engine.forget(run, first)
        taken.append(_decode(engine, parts))
    # The first step builds what the others use.
    return median(taken[1:])


def measure(model: Path, own: bool) -> dict[str, float]:
    """Return milliseconds by kind of step."""
    engine = Engine(model, EngineSettings(context_tokens=2048, parallel=16, own_kernels=own))
    found = {"prompt of 400": _again(engine, [(0, 0, 400)])}
    for run in range(16):
        engine.share(0, run, SHARED)
        _decode(engine, [(run, SHARED, OWN)])
    at = SHARED + OWN
    found["1 run"] = _again(engine, [(0, at, 1)])
    found["16 runs"] = _again(engine, [(run, at, 1) for run in range(16)])
    found["12 runs beside 80 of a prompt"] = _again(engine, [*((run, at, 1) for run in range(12)), (15, SHARED, 80)])
    for run in range(16):
        engine.forget(run, 0)
    for first in range(0, DEEP, PART):
        _decode(engine, [(0, first, PART)])
    found[f"{PART} behind {DEEP}"] = _again(engine, [(0, DEEP, PART)])
    return found


def _child(model: str, kind: str) -> dict[str, float]:
    done = subprocess.run([sys.executable, __file__, model, kind], capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told


def main(model: str, rounds: int) -> None:
    """Print a line for each kind of step."""
    pairs = [(_child(model, "llama.cpp"), _child(model, "own")) for _ in range(rounds)]
    print(f"{'step':32}{'llama.cpp':>12}{'own':>12}{'ratio':>8}")
    for kind in pairs[0][0]:
        theirs, ours = ([side[kind] for side in sides] for sides in zip(*pairs, strict=True))
        ratio = median(one / other for one, other in zip(theirs, ours, strict=True))
        print(f"{kind:32}{median(theirs):9.1f} ms{median(ours):9.1f} ms{ratio:8.2f}")


if __name__ == "__main__":
    if sys.argv[2:] and not sys.argv[2].isdigit():
        start_backend()
        print(json.dumps(measure(Path(sys.argv[1]), sys.argv[2] == "own")))
    else:
        main(sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else ROUNDS)
