"""Choosing one of several runs, and scoring a run under both conditions with the ids that were logged."""

import asyncio

import pytest

from koboshi_runtime import prompt
from koboshi_runtime.contrast import Candidate, candidate, choose
from koboshi_runtime.model import FinishReason, Piece, PromptProfile, Reply
from koboshi_runtime.records import Purpose, RunHeader, Segment, SegmentKind, Split, Trajectory, TurnKind, TurnRecord
from koboshi_runtime.scripted import ScriptedModel

PROFILE = PromptProfile(template="chatml", tool_format="hermes", conditions="sentences")


def _one(answer: str | None, success: float = -1.0, failure: float = -1.0, *, finished: bool = True) -> Candidate:
    return Candidate(answer, finished, success, failure, 10)


def test_majority_counts_what_answers_come_to_not_their_words() -> None:
    among = [_one("It is 5."), _one("It is 7"), _one("$7.00 it is"), _one("so 7.0")]
    assert choose(among, "majority") == 1


def test_contrast_prefers_what_failure_makes_unlikely_over_what_is_merely_likely() -> None:
    among = [_one("5", -0.2, -0.2), _one("7", -0.4, -2.0)]
    assert choose(among, "logprob") == 0
    assert choose(among, "contrast") == 1
    assert choose(among, "contrast", weight=0.0) == 0


def test_contrast_vote_lets_several_weak_answers_outvote_a_strong_one() -> None:
    among = [_one("5", -0.1, -0.6), _one("7", -0.3, -0.6), _one("7", -0.4, -0.6)]
    assert choose(among, "contrast") == 0
    assert choose(among, "contrast-vote") == 1


def test_unfinished_run_is_chosen_only_if_all_are() -> None:
    assert choose([_one(None, 0.0, finished=False), _one("7", -9.0)], "logprob") == 1
    assert choose([_one(None, -2.0, finished=False), _one(None, -1.0, finished=False)], "logprob") == 1


class _Scorer(ScriptedModel):
    """Scores each id by its own value, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__([])
        self.asked: list[tuple[tuple[int, ...], int]] = []

    async def score(self, ids: tuple[int, ...], start: int) -> tuple[float, ...]:
        self.asked.append((ids, start))
        return tuple(-float(token) for token in ids[start:])


def _turn(index: int, ids: tuple[int, ...], *segments: Segment, kind: TurnKind = TurnKind.CALL) -> TurnRecord:
    zeros = (0.0,) * len(ids)
    reply = Reply(
        ids=ids,
        sampled=(True,) * len(ids),
        raw_logprobs=zeros,
        behaviour_logprobs=zeros,
        text="",
        finish=FinishReason.STOP,
    )
    return TurnRecord(index=index, segments=segments, reply=reply, kind=kind, in_context=kind is not TurnKind.INVALID)


def test_only_the_models_own_ids_are_scored_behind_the_condition_that_is_asked() -> None:
    head = _header()
    turns = (
        _turn(0, (3, 5), _segment(SegmentKind.PREFIX, 9), _segment(SegmentKind.USER, 8, 8)),
        _turn(1, (70,), kind=TurnKind.INVALID),
        _turn(2, (1,), _segment(SegmentKind.TOOL, 50), kind=TurnKind.ANSWER),
    )
    run = Trajectory(run_id="r", created_at="", header=head, turns=turns, calls=(), outcomes=(), end=None)
    model = _Scorer()
    found = asyncio.run(candidate(model, run))
    assert found.under_success == found.under_failure == pytest.approx(-(3 + 5 + 1) / 3)
    assert found.tokens == 3
    for (ids, start), condition in zip(model.asked, ("success", "failure"), strict=True):
        user = asyncio.run(_user(model, head.prompt, condition))
        assert ids == (9, *user, 3, 5, 50, 1)
        assert ids[start:] == (3, 5, 50, 1)


def _header() -> RunHeader:
    return RunHeader(
        prompt="two and two",
        purpose=Purpose.EVAL,
        split=Split.TEST,
        model_hash="sha256:m",
        profile=PROFILE,
        condition="success",
        policy_hash="sha256:p",
        project="sums",
        seed=0,
        temperature=0.8,
    )


async def _user(model: ScriptedModel, text: str, condition: str) -> tuple[int, ...]:
    pieces: tuple[Piece, ...] = prompt.user_turn(PROFILE, "", (), text, condition)
    return await model.tokenize(pieces)


def _segment(kind: SegmentKind, *ids: int) -> Segment:
    return Segment(kind=kind, ids=ids, text="")
