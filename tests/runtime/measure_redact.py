"""Measure what keeping secrets out costs a step of ordinary text, and a text that must be looked at closely.

Run by hand: python -m tests.runtime.measure_redact. CPU time of one thread, the least of several repeats.
"""

import json
import random
import time
from collections.abc import Callable

from tests.runtime.store_samples import intent, realistic_turn

from koboshi_runtime.redact import Redactor
from koboshi_runtime.secret_shapes import secret_values

STEPS = 2_000
REPEATS = 5


def milliseconds(work: Callable[[int], object]) -> float:
    """Return the CPU milliseconds of one `work`, the least of several repeats."""
    least = float("inf")
    for _ in range(REPEATS):
        began = time.thread_time()
        for number in range(STEPS):
            work(number)
        least = min(least, time.thread_time() - began)
    return least / STEPS * 1000


def main() -> None:
    """Print the figures."""
    rng = random.Random(0)
    turns = [realistic_turn(rng, 1 + number) for number in range(STEPS)]
    values = secret_values({f"KEY_{n}": f"value-of-a-secret-{n}" for n in range(10)})
    redactor = Redactor(values=values)
    arguments = intent("k").call.arguments

    def step(number: int) -> None:
        turn = turns[number]
        redactor.text(turn.reply.text)
        redactor.json(arguments)
        redactor.finds(arguments)
        redactor.text(turn.segments[0].text)
        redactor.text(turn.segments[0].text)

    size = len(turns[0].reply.text) + 2 * len(turns[0].segments[0].text)
    print(f"a step of {size} characters, 10 known values: {milliseconds(step):.4f} ms")
    prose = "An ordinary sentence about apples and orders, as a tool may tell it. " * 15
    print(f"1 kB of prose: {milliseconds(lambda _: redactor.text(prose)):.4f} ms")
    keyed = [json.dumps({f"aVeryLongIdentifier{number}": prose[:900]}) for number in range(STEPS)]
    print(f"1 kB that holds a long word: {milliseconds(lambda number: redactor.text(keyed[number])):.4f} ms")


if __name__ == "__main__":
    main()
