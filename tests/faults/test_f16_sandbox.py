"""F16, and F22 as far as tools reach: every attack is blocked, in each kind of sandbox, whoever the user is.

The kinds and users that were tried are named at the end of the run. Were none tried, that fails.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
import pytest
from tests.faults.sandbox_attacks import ATTACKS, HARMLESS

import koboshi_tools
from koboshi_tools.sandbox import Mode, probe

PROGRAM = Path(__file__).with_name("sandbox_attacks.py")
NOBODY = 65534
PATHS = [str(Path(module.__file__ or "").parents[1]) for module in (koboshi_tools, pydantic)]
tried: list[str] = []


def command_as(user: str) -> list[str]:
    """Return how a program of Python is run by this user; where it cannot be, the test is skipped, and says so."""
    is_root = os.geteuid() == 0
    if user == "root" or not is_root:
        if (user == "root") != is_root:
            pytest.skip(f"NOT TRIED AS {user.upper()}: the tests run as user {os.geteuid()}")
        return [sys.executable]
    become = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for python in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        # It starts itself again, as a keeper does: what setpriv starts still has some of root's rights as it begins.
        again = "import subprocess, sys, koboshi_tools; subprocess.run([sys.executable, '-c', ''], check=True)"
        looks = [*become, python, "-c", again]
        try:
            if subprocess.run(looks, env=environment(), capture_output=True, check=False).returncode == 0:
                return [*become, python]
        except OSError:
            continue
    pytest.skip(f"NOT TRIED AS AN ORDINARY USER: no {version} with pydantic that user {NOBODY} can run, or no setpriv")


def environment() -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(PATHS), "HOME": "/nonexistent"}


def achieved(user: str, mode: str) -> dict[str, Any]:
    command = [*command_as(user), str(PROGRAM), mode]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, cwd="/", check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert all((line["uid"] == 0) == (user == "root") for line in found)
    return {line["attack"]: line["achieved"] for line in found}


@pytest.mark.slow
@pytest.mark.parametrize("user", ["root", "ordinary user"])
@pytest.mark.parametrize("mode", list(Mode), ids=str)
def test_every_attack_is_blocked(user: str, mode: Mode, record_property: Callable[[str, object], None]) -> None:
    if mode in probe().missing:
        pytest.skip(f"NO {mode.value} SANDBOX HERE: {probe().missing[mode]}")
    assert achieved(user, mode.value) == dict.fromkeys(ATTACKS)
    tried.append(f"{mode.value} as {user}")
    record_property("sandbox attacked", tried[-1])


@pytest.mark.slow
def test_the_attacks_work_where_nothing_stops_them() -> None:
    without = achieved("root" if os.geteuid() == 0 else "ordinary user", "none")
    assert set(without) == set(HARMLESS)
    assert [name for name, what in without.items() if what is None] == []


@pytest.mark.slow
def test_at_least_one_kind_of_sandbox_was_attacked() -> None:
    assert tried, f"no sandbox was tried: {probe().missing}"
