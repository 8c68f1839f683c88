import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.trainer.trajectory_makers import PREFIX, STOP, TOOL, reply, segment, trajectory, turn, user_segment

from koboshi_runtime.model import FinishReason
from koboshi_runtime.records import Segment, SegmentKind, Trajectory, TurnKind, TurnRecord
from koboshi_trainer.rows import Example, RowError, TokenRow, prefix_and_spans, token_row

CUT = FinishReason.LENGTH


def example(made: Trajectory) -> Example:
    prefix, spans = prefix_and_spans(made)
    header = made.header
    return Example(
        run_id=made.run_id,
        task_hash="sha256:task",
        project=header.project,
        purpose=header.purpose,
        label=made.outcome,
        created_at=made.created_at,
        model_hash=header.model_hash,
        prefix_ids=prefix,
        users={name: user_segment(header.prompt, name or None) for name in ("", "success", "failure")},
        spans=spans,
    )


def learnt(row: TokenRow) -> tuple[int, ...]:
    return tuple(token for token, learn in zip(row.ids, row.learn, strict=True) if learn)


def opening() -> tuple[Segment, Segment]:
    return segment(SegmentKind.PREFIX, *PREFIX), segment(SegmentKind.USER, *user_segment("two times three", "success"))


def test_learnt_ids_are_what_the_model_wrote_with_its_stops() -> None:
    row = token_row(example(trajectory()), "success")
    assert learnt(row) == (50, 51, 52, STOP, 60, 61, STOP)


def test_row_holds_the_segments_as_they_were_logged() -> None:
    row = token_row(example(trajectory()), "success")
    assert row.prefix_ids == PREFIX
    assert row.ids == (*user_segment("two times three", "success"), 50, 51, 52, STOP, *TOOL, 60, 61, STOP)


def test_only_the_user_segment_changes_with_the_condition() -> None:
    made = example(trajectory())
    right, wrong = token_row(made, "success"), token_row(made, "failure")
    behind_right = right.ids[len(made.users["success"]) :]
    assert wrong.ids == (*user_segment("two times three", "failure"), *behind_right)
    assert learnt(right) == learnt(wrong)


def test_invalid_reply_that_left_the_prompt_is_not_in_the_row_but_its_repair_is() -> None:
    turns = (
        turn(0, reply(70, 71, STOP), *opening(), kind=TurnKind.INVALID, kept=False),
        turn(1, reply(60, STOP), segment(SegmentKind.REPAIR, 80, 81), kind=TurnKind.ANSWER),
    )
    row = token_row(example(trajectory(turns=turns)), None)
    assert row.ids == (*user_segment("two times three", None), 80, 81, 60, STOP)
    assert learnt(row) == (60, STOP)


def test_cut_reply_stays_as_context_and_is_not_learnt() -> None:
    turns = (
        turn(0, reply(70, 71, finish=CUT), *opening()),
        turn(1, reply(60, STOP), segment(SegmentKind.TOOL, *TOOL), kind=TurnKind.ANSWER),
    )
    row = token_row(example(trajectory(turns=turns)), None)
    assert row.ids[-6:] == (70, 71, *TOOL, 60, STOP)
    assert learnt(row) == (60, STOP)


def test_nothing_stands_behind_the_last_learnt_id() -> None:
    turns = (
        turn(0, reply(50, STOP), *opening()),
        turn(1, reply(70, finish=CUT), segment(SegmentKind.TOOL, *TOOL), kind=TurnKind.ANSWER),
    )
    assert token_row(example(trajectory(turns=turns)), None).ids[-2:] == (50, STOP)


def test_last_reply_is_learnt_even_if_it_was_kept_for_no_next_prompt() -> None:
    turns = (turn(0, reply(60, STOP), *opening(), kind=TurnKind.ANSWER, kept=False),)
    assert learnt(token_row(example(trajectory(turns=turns)), None)) == (60, STOP)


def test_run_without_a_well_formed_reply_is_refused() -> None:
    with pytest.raises(RowError, match="no well-formed reply"):
        prefix_and_spans(trajectory(turns=(turn(0, reply(70, finish=CUT), *opening()),)))


def test_run_with_two_user_turns_is_refused() -> None:
    turns = (
        turn(0, reply(60, STOP), *opening(), kind=TurnKind.ANSWER),
        turn(1, reply(61, STOP), segment(SegmentKind.USER, 20, 21), kind=TurnKind.ANSWER),
    )
    with pytest.raises(RowError, match="2 user segments"):
        prefix_and_spans(trajectory(turns=turns))


def test_condition_that_the_dataset_lacks_is_refused_by_name() -> None:
    with pytest.raises(RowError, match="'near_miss'"):
        token_row(example(trajectory()), "near_miss")


@pytest.mark.parametrize(
    ("learn", "weight"),
    [((False, True), 1.0), ((False, False, False), 1.0), ((True, False, False), 1.0), ((False, True, True), 0.0)],
)
def test_row_with_a_wrong_mask_or_weight_cannot_be_made(learn: tuple[bool, ...], weight: float) -> None:
    with pytest.raises(ValueError, match="row 'r'"):
        TokenRow(prefix_ids=(), ids=(1, 2, 3), learn=learn, weight=weight, run_id="r")


replies = st.tuples(
    st.lists(st.integers(500, 599), min_size=1, max_size=5),
    st.sampled_from([TurnKind.CALL, TurnKind.INVALID]),
    st.sampled_from([FinishReason.STOP, CUT]),
)


@given(st.lists(replies, min_size=1, max_size=6))
def test_whatever_the_turns_learnt_ids_are_the_well_formed_replies(
    written: list[tuple[list[int], TurnKind, FinishReason]],
) -> None:
    turns: list[TurnRecord] = []
    for index, (ids, kind, finish) in enumerate(written):
        segments = opening() if index == 0 else (segment(SegmentKind.TOOL, *TOOL),)
        kept = kind is not TurnKind.INVALID
        turns.append(turn(index, reply(*ids, finish=finish), *segments, kind=kind, kept=kept))
    expected = [token for ids, kind, finish in written if kind is TurnKind.CALL and finish is not CUT for token in ids]
    made = trajectory(turns=tuple(turns))
    if not expected:
        with pytest.raises(RowError):
            prefix_and_spans(made)
    else:
        assert list(learnt(token_row(example(made), "failure"))) == expected
