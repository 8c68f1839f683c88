"""Versions of a tool: which runs meet which, and how measured success moves them."""

import itertools
import random
from collections.abc import Iterator

import pytest

from koboshi_policies.sequential import ALPHA, LEAST, Tally, compare
from koboshi_policies.versions import (
    SHADOW_CALLS,
    SHARE,
    TRANSITIONS,
    Measured,
    Stage,
    Swap,
    SwapError,
    ToolVersion,
    moved,
    next_move,
    serving,
)

OLD, NEW = ToolVersion(version="1", digest="sha256:1"), ToolVersion(version="2", digest="sha256:2")


def swap(stage: Stage, share: float = SHARE) -> Swap:
    return Swap(tool="lookup", base=OLD.digest, old=OLD, new=NEW, stage=stage, share=share)


def tally(successes: int, total: int) -> Tally:
    return Tally(successes=successes, total=total)


@pytest.mark.parametrize(("stage", "wanted"), list(itertools.product(Stage, Stage)))
def test_a_version_moves_only_as_the_table_says(stage: Stage, wanted: Stage) -> None:
    if wanted in TRANSITIONS[stage]:
        assert moved(swap(stage), wanted).stage is wanted
    else:
        with pytest.raises(SwapError, match=f"is {stage} and cannot become {wanted}"):
            moved(swap(stage), wanted)


def test_a_run_has_one_version_for_good_and_only_real_work_meets_a_canary() -> None:
    runs = [f"run{n}" for n in range(2000)]
    canary = swap(Stage.CANARY, share=0.25)
    given = [serving(canary, run, work=True) for run in runs]
    assert given == [serving(canary, run, work=True) for run in runs]
    assert 0.22 < given.count(NEW) / len(runs) < 0.28
    assert {serving(canary, run, work=False).version for run in runs} == {"1"}
    more = [serving(swap(Stage.CANARY, share=0.5), run, work=True) for run in runs]
    assert all(wide is NEW for narrow, wide in zip(given, more, strict=True) if narrow is NEW)


@pytest.mark.parametrize(
    ("stage", "wanted"), [(Stage.SHADOW, OLD), (Stage.ACTIVE, NEW), (Stage.RETIRED, OLD)], ids=lambda x: str(x)
)
def test_at_the_other_stages_all_runs_meet_the_same_version(stage: Stage, wanted: ToolVersion) -> None:
    assert {serving(swap(stage), str(n), work=work).version for n in range(50) for work in (True, False)} == {
        wanted.version
    }


@pytest.mark.parametrize(
    ("stage", "measured", "wanted"),
    [
        (Stage.SHADOW, Measured(old_calls=tally(19, 19), new_calls=tally(19, 19)), None),
        (Stage.SHADOW, Measured(old_calls=tally(20, 20), new_calls=tally(19, 20)), Stage.CANARY),
        (Stage.SHADOW, Measured(old_calls=tally(20, 20), new_calls=tally(2, 20)), Stage.RETIRED),
        (Stage.CANARY, Measured(), None),
        (Stage.CANARY, Measured(old_runs=tally(400, 800), new_runs=tally(100, 200)), None),
        (Stage.CANARY, Measured(old_runs=tally(400, 800), new_runs=tally(160, 200)), Stage.ACTIVE),
        (Stage.CANARY, Measured(old_runs=tally(400, 800), new_runs=tally(40, 200)), Stage.RETIRED),
        # A call that merely returned is no success: clean calls alone promote nothing.
        (Stage.CANARY, Measured(old_calls=tally(400, 800), new_calls=tally(200, 200)), None),
        (Stage.CANARY, Measured(old_calls=tally(800, 800), new_calls=tally(150, 200)), Stage.RETIRED),
        (Stage.ACTIVE, Measured(old_runs=tally(400, 800), new_runs=tally(40, 200)), Stage.RETIRED),
        (Stage.ACTIVE, Measured(old_runs=tally(400, 800), new_runs=tally(160, 200)), None),
        (Stage.RETIRED, Measured(old_runs=tally(400, 800), new_runs=tally(40, 200)), None),
    ],
)
def test_measured_success_moves_a_version(stage: Stage, measured: Measured, wanted: Stage | None) -> None:
    move = next_move(swap(stage), measured)
    assert (move and move.stage) is wanted
    assert SHADOW_CALLS == 20


def test_the_reason_of_a_move_holds_the_numbers() -> None:
    move = next_move(swap(Stage.CANARY), Measured(old_runs=tally(400, 800), new_runs=tally(40, 200)))
    assert move is not None
    assert move.reason == "worse: 40 of 200 runs with the new version succeeded, 400 of 800 before"


def test_nothing_is_said_of_a_handful_of_outcomes() -> None:
    assert compare(tally(0, LEAST - 1), tally(1000, 1000)) == "open"
    assert compare(tally(0, 1000), tally(LEAST - 1, LEAST - 1)) == "open"
    assert compare(tally(0, LEAST), tally(1000, 1000)) == "better"


def outcomes(rate: float, seed: int) -> Iterator[bool]:
    """Yield outcomes as a store holds them: drawn again and again from 400 that succeeded at this rate."""
    stored = [n < rate * 400 for n in range(400)]
    draw = random.Random(seed)
    while True:
        yield draw.choice(stored)


def canary(old_rate: float, new_rate: float, seed: int, calls: int) -> Stage:
    """Return where a canary stands after so many judged runs that called it, looked at after every run."""
    old, new = outcomes(old_rate, seed), outcomes(new_rate, seed + 500_000)
    counts = {OLD.version: [0, 0], NEW.version: [0, 0]}
    for number in itertools.count():
        given = serving(swap(Stage.CANARY), f"{seed}/{number}", work=True)
        counts[given.version][0] += next(new if given is NEW else old)
        counts[given.version][1] += 1
        measured = Measured(old_runs=tally(*counts["1"]), new_runs=tally(*counts["2"]))
        move = next_move(swap(Stage.CANARY), measured) if given is NEW else None
        if move is not None:
            return move.stage
        if counts["2"][1] == calls:
            return Stage.CANARY
    raise AssertionError("the count never ends")


def share(old: float, new: float, wanted: Stage, *, runs: int, calls: int = 200) -> float:
    return sum(canary(old, new, seed, calls) is wanted for seed in range(runs)) / runs


def test_a_canary_that_is_worse_goes_a_better_one_stays_and_an_equal_one_is_left_alone() -> None:
    assert share(0.7, 0.5, Stage.RETIRED, runs=20) >= 0.90
    assert share(0.7, 0.7, Stage.CANARY, runs=20) >= 0.90
    assert share(0.5, 0.7, Stage.ACTIVE, runs=20) >= 0.80


@pytest.mark.slow
def test_that_holds_over_a_hundred_canaries() -> None:
    found = {
        "worse by 20": share(0.7, 0.5, Stage.RETIRED, runs=100),
        "equal": share(0.7, 0.7, Stage.CANARY, runs=100),
        "better by 20": share(0.5, 0.7, Stage.ACTIVE, runs=100),
    }
    print(found)
    assert found["worse by 20"] >= 0.90
    assert found["equal"] >= 0.95
    assert found["better by 20"] >= 0.80


@pytest.mark.slow
@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_that_holds_at_any_rate_and_over_long_canaries(rate: float) -> None:
    assert share(rate, rate, Stage.CANARY, runs=400, calls=400) >= 0.95
    if rate >= 0.3:
        assert share(rate, rate - 0.2, Stage.RETIRED, runs=200) >= 0.90
    if rate <= 0.7:
        assert share(rate, rate + 0.2, Stage.ACTIVE, runs=200) >= 0.80


@pytest.mark.slow
def test_equal_rates_are_told_apart_no_more_often_than_promised() -> None:
    told = 0
    for seed in range(2000):
        draw, counts = random.Random(seed), [0, 0]
        for total in range(1, 301):
            counts = [count + (draw.random() < 0.6) for count in counts]
            if compare(tally(counts[0], total), tally(counts[1], total)) != "open":
                told += 1
                break
    assert told / 2000 <= ALPHA
