"""Sharing one context: a job that fails costs nobody else anything, and prefixes are decoded once."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.model]

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cases(smollm2_gguf: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.runtime.scheduler_child", str(smollm2_gguf)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_a_job_with_nothing_to_do_ends_and_holds_nobody_up(cases: dict[str, Any]) -> None:
    told = cases["nothing_to_do"]
    assert told["empty"] == {"scores": []}
    assert len(told["beside"]) == 3


def test_a_failed_decode_ends_its_jobs_and_the_next_ones_are_unharmed(cases: dict[str, Any]) -> None:
    told = cases["failed_decode"]
    assert "llama_decode" in told["error"]
    assert told["after_error"] is None
    assert told["after"] == told["before"]


def test_a_long_prompt_is_decoded_in_parts_beside_a_writer(cases: dict[str, Any]) -> None:
    told = cases["long_prompt"]
    assert (len(told["long"]), len(told["beside"])) == (2, 5)


def test_a_shared_beginning_is_copied_and_not_decoded_again(cases: dict[str, Any]) -> None:
    told = cases["shared_beginning"]
    assert told["reused"] >= told["shared"] - 1


def test_jobs_that_start_together_decode_their_common_beginning_once(cases: dict[str, Any]) -> None:
    told = cases["common_beginning"]
    assert told["first"] == 0
    assert told["second"] >= told["shared"] - 1


def test_a_shared_beginning_outlives_the_run_that_decoded_it(cases: dict[str, Any]) -> None:
    told = cases["outlived_beginning"]
    assert told["again"] == told["expected"]
    assert told["reused"] >= told["shared"] - 1


def test_a_run_that_waits_for_its_tools_keeps_its_slot_until_it_is_released(cases: dict[str, Any]) -> None:
    told = cases["waiting_run"]
    # The last sampled token was never decoded.
    assert told["reused"] == told["held"] - 1


def test_more_jobs_than_sequences_all_end(cases: dict[str, Any]) -> None:
    assert cases["many_jobs"]["ended"] == list(range(7))


def test_a_guided_reply_is_drawn_from_both_prompts(cases: dict[str, Any]) -> None:
    told = cases["guided_reply"]
    assert told["itself"] == told["hardly"] == told["plain"]
    assert told["far"] == told["expected"] != told["plain"]


def test_a_shadow_copies_what_its_writer_decoded_and_gives_its_slot_back(cases: dict[str, Any]) -> None:
    told = cases["guided_reply"]
    # The prompt was in the cache. What is left is its last token, the shadow's own ending, and the reply, twice.
    assert told["decoded"] <= 1 + told["least"] + 2 * len(told["far"])
    assert told["slots_left"] == 0


def test_guided_replies_and_others_share_two_slots_and_all_end(cases: dict[str, Any]) -> None:
    told = cases["guided_beside_others"]
    assert told["ended"] == [0, 1, 2, 10, 11, 12]
    assert told["lengths"] == [6, 6, 6]
    assert not told["busy"]


def test_a_shadow_that_fails_ends_its_writer(cases: dict[str, Any]) -> None:
    told = cases["guided_failure"]
    assert "llama_decode" in told["error"]
    assert told["after"] == 3
    assert not told["busy"]
