import pytest
from tests.runtime.store_samples import reply, turn

from koboshi_runtime.model import Reply
from koboshi_runtime.records import Segment, SegmentKind, TurnRecord
from koboshi_runtime.reuse import prompt_reuse, reuse_json, reuse_line


def _reused(tokens: int) -> Reply:
    return reply().model_copy(update={"reused_tokens": tokens})


def _after(index: int, tokens: int, *, kept: bool = True) -> TurnRecord:
    told = Segment(kind=SegmentKind.TOOL, ids=(7, 8), text="42")
    return turn(index, written=_reused(tokens)).model_copy(update={"segments": (told,), "in_context": kept})


def test_each_prompt_counts_whole_and_an_invalid_reply_is_in_none() -> None:
    # Prompts of 5, 5 + 3 + 2 and 10 + 0 + 2 tokens: the second reply was invalid.
    found = prompt_reuse([turn(0, written=_reused(3)), _after(1, 7, kept=False), _after(2, 10)])
    assert (found.prompt_tokens, found.reused_tokens) == (5 + 10 + 12, 20)
    assert (found.prefix_tokens, found.prefix_reused_tokens) == (3, 3)
    assert reuse_line(found) == "prompts: 20 of 27 tokens reused (74%), of the beginning 3 of 3"
    assert reuse_json(found)["hit_rate"] == pytest.approx(20 / 27)


def test_a_run_without_a_turn_has_no_rate() -> None:
    assert prompt_reuse([]).hit_rate is None
    assert reuse_line(prompt_reuse([])) == "prompts: none"
