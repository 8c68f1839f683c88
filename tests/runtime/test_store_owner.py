"""A process is known by boot, pid and start time; anything else names none."""

import subprocess
import sys

import pytest

from koboshi_runtime.store.owner import is_alive, this_process


def test_a_process_is_known_by_more_than_its_pid() -> None:
    boot, pid, started = this_process().split(":")
    assert is_alive(this_process())
    assert not is_alive(f"{boot}:{pid}:{int(started) + 1}")
    assert not is_alive(f"another:{pid}:{started}")


def test_one_that_ended_is_known_to_have_ended() -> None:
    name = "from koboshi_runtime.store.owner import this_process; print(this_process())"
    ended = subprocess.run([sys.executable, "-c", name], capture_output=True, text=True, check=True)
    assert not is_alive(ended.stdout.strip())


@pytest.mark.parametrize(
    "owner", ["", "me", "a:b", "BOOT:12", "BOOT:twelve:1", "BOOT:1:2:3", "BOOT:\N{SUPERSCRIPT TWO}:1"]
)
def test_what_names_no_process_is_none(owner: str) -> None:
    boot = this_process().partition(":")[0]
    assert not is_alive(owner.replace("BOOT", boot))
