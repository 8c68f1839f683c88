"""When a night waits: what counts as use, how long it waits, and that a night is no use of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.runtime.store_samples import header

from koboshi_runtime.config_values import NightlySettings
from koboshi_runtime.records import Purpose
from koboshi_runtime.store import RunRecorder, Store
from koboshi_trainer.night.idle import IdleRule, PutOffError

Rule = Callable[..., IdleRule]


class _Clock:
    """Time that passes only in sleep; each second `others` and `stepped_back` processes take their ticks of two."""

    def __init__(self, proc: Path) -> None:
        self.now, self.others, self.stepped_back = 0.0, 0.0, 0.0
        self._proc, self._ticks = proc, [0.0, 0.0, 0.0, 0.0]
        self.sleep(0)

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        idle = 2 - self.others - self.stepped_back
        for place, share in enumerate((self.others, self.stepped_back, 0.0, idle)):
            self._ticks[place] += 100 * share * seconds
        line = " ".join(str(round(tick)) for tick in self._ticks)
        (self._proc / "stat").write_text(f"cpu  {line} 0 0 0 0 0 0\ncpu0 1\n", encoding="ascii")


@pytest.fixture
def clock(tmp_path: Path) -> _Clock:
    return _Clock(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "traces.db")


@pytest.fixture
def rule(tmp_path: Path, clock: _Clock, store: Store) -> Rule:
    def make(terminals: tuple[str, ...] = (), **settings: float) -> IdleRule:
        told = NightlySettings(**settings)  # type: ignore[arg-type]
        return IdleRule(told, store, sleep=clock.sleep, clock=clock, proc=tmp_path, terminals=terminals)

    return make


def test_an_idle_machine_is_not_waited_for(rule: Rule, clock: _Clock) -> None:
    rule().pause()
    assert clock.now < 10


def test_others_that_compute_are_waited_for_and_what_stepped_back_is_not(rule: Rule, clock: _Clock) -> None:
    clock.stepped_back = 2.0
    assert rule().in_use() is None
    clock.stepped_back, clock.others = 0.0, 1.0
    assert rule().in_use() == "others use 50% of the processors"


def test_a_night_goes_on_when_the_machine_is_free_again(rule: Rule, clock: _Clock) -> None:
    told: list[str] = []
    paused = rule()
    paused.tell = told.append
    clock.others = 2.0
    sleep = clock.sleep

    def leave_after_a_minute(seconds: float) -> None:
        sleep(seconds)
        if clock.now > 60:
            clock.others = 0.0

    paused.sleep = leave_after_a_minute
    paused.pause("fit")
    assert told == ["pausing at fit: others use 100% of the processors", "nobody uses the machine: going on"]
    assert 60 < clock.now < 120


def test_a_night_that_waited_too_long_is_put_off(rule: Rule, clock: _Clock) -> None:
    clock.others = 2.0
    with pytest.raises(PutOffError, match=r"put off at fit: others use 100% of the processors, and it waited 0.1 h"):
        rule(wait_h=0.1).pause("fit")
    assert 360 <= clock.now < 420


def test_a_terminal_that_was_typed_into_is_waited_for(rule: Rule, tmp_path: Path) -> None:
    (tmp_path / "pts7").touch()
    assert rule((f"{tmp_path}/pts*",)).in_use() == "a terminal was typed into 0 min ago"
    assert rule((f"{tmp_path}/pts*",), idle_minutes=0).in_use() is None


def test_koboshis_own_work_is_use_and_its_nightly_runs_are_not(rule: Rule, store: Store) -> None:
    RunRecorder(store, "r1").start(header("a", purpose=Purpose.ROLLOUT))
    store.start_run("r2", header("b", purpose=Purpose.ROLLOUT)).result()
    assert rule().in_use() is None
    store.start_run("r3", header("c")).result()
    assert rule().in_use() == "koboshi is at work"


def test_it_looks_again_only_after_a_while(rule: Rule, clock: _Clock) -> None:
    often = rule(wait_h=0.1)
    often.pause()
    clock.others = 2.0
    often.pause()
    clock.sleep(20)
    with pytest.raises(PutOffError):
        often.pause()
