"""Choosing a token: the frequencies are the distribution's, and both log-probabilities say what they claim."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from koboshi_runtime.worker.sampling import Choice, Guide, Rows, choose, likeliest

LOGITS = np.array([[1.0, 0.5, -0.5, 2.0, -30.0, 0.0]], dtype=np.float32)
MASK = np.array([True, True, False, False, True, True])
DRAWS = 20_000


def softmax(values: NDArray[np.floating]) -> NDArray[np.floating]:
    weights = np.exp(values - values.max())
    shares: NDArray[np.floating] = weights / weights.sum()
    return shares


def draw(
    seed: int,
    *,
    mask: NDArray[np.bool_] | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    logits: NDArray[np.float32] = LOGITS,
) -> Choice:
    generator = np.random.default_rng(seed)
    return choose(Rows.of(logits), 0, mask=mask, temperature=temperature, top_p=top_p, generator=generator)


def test_the_likeliest_token_of_each_row_is_what_a_greedy_choice_takes() -> None:
    logits = np.random.default_rng(1).normal(0, 4, (5, 3000)).astype(np.float32)
    logits[2, [7, 9]] = 50.0
    rows, generator = Rows.of(logits), np.random.default_rng(0)
    for row in range(5):
        choice = choose(rows, row, mask=None, temperature=0.0, top_p=1.0, generator=generator)
        assert likeliest(rows, row) == likeliest(rows.part(row, row + 1).copied(), 0) == choice
        assert choice.raw_logprob == pytest.approx(np.log(softmax(logits[row]))[choice.token], abs=1e-4)
    assert likeliest(rows, 2).token == 7


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("mask", [None, MASK], ids=["free", "masked"])
def test_frequencies_are_those_of_the_tempered_distribution(temperature: float, mask: NDArray[np.bool_] | None) -> None:
    allowed = LOGITS[0] if mask is None else np.where(mask, LOGITS[0], -np.inf)
    expected = softmax(allowed / temperature)
    generator, rows = np.random.default_rng(0), Rows.of(LOGITS)
    counts = np.zeros(len(expected))
    for _ in range(DRAWS):
        choice = choose(rows, 0, mask=mask, temperature=temperature, top_p=1.0, generator=generator)
        counts[choice.token] += 1
    # Five standard errors of the largest possible share.
    np.testing.assert_allclose(counts / DRAWS, expected, atol=5 * 0.5 / DRAWS**0.5)


@given(seed=st.integers(0, 2**32), temperature=st.floats(0.2, 3))
def test_raw_is_at_temperature_one_without_mask_and_behaviour_is_what_was_drawn_from(
    seed: int, temperature: float
) -> None:
    choice = draw(seed, mask=MASK, temperature=temperature)
    assert choice.raw_logprob == pytest.approx(np.log(softmax(LOGITS[0]))[choice.token], abs=1e-4)
    tempered = softmax(np.where(MASK, LOGITS[0], -np.inf) / temperature)
    assert choice.behaviour_logprob == pytest.approx(np.log(tempered[choice.token]), abs=1e-4)


@given(seed=st.integers(0, 2**32))
def test_top_p_keeps_the_fewest_tokens_that_reach_it(seed: int) -> None:
    # 2.0 and 1.0 hold 0.56 and 0.21 of the mass.
    choice = draw(seed, top_p=0.7)
    assert choice.token in (0, 3)
    kept = softmax(LOGITS[0])[[0, 3]]
    assert choice.behaviour_logprob == pytest.approx(np.log(softmax(LOGITS[0])[choice.token] / kept.sum()), abs=1e-4)


def test_temperature_zero_takes_the_likeliest_allowed_token() -> None:
    assert draw(0, temperature=0).token == 3
    choice = draw(0, temperature=0, mask=MASK)
    assert (choice.token, choice.behaviour_logprob) == (0, 0.0)
    assert choice.raw_logprob == pytest.approx(np.log(softmax(LOGITS[0]))[0], abs=1e-4)


@given(seed=st.integers(0, 2**32), data=st.data())
def test_a_masked_token_is_never_drawn(seed: int, data: st.DataObject) -> None:
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=6, max_size=6).filter(any)))
    assert mask[draw(seed, mask=mask, temperature=1.5, top_p=0.9).token]


def test_a_mask_that_leaves_fewer_tokens_than_top_p_considers_is_kept() -> None:
    logits = np.zeros((1, 2000), dtype=np.float32)
    mask = np.zeros(2000, dtype=np.bool_)
    mask[[7, 1900]] = True
    assert {draw(seed, mask=mask, top_p=0.99, logits=logits).token for seed in range(40)} == {7, 1900}


def test_a_token_behind_the_first_block_is_drawn_with_its_own_probability() -> None:
    logits = np.full((1, 700), -40.0, dtype=np.float32)
    logits[0, [3, 400, 699]] = 0.0, 1.0, 2.0
    expected = softmax(logits[0])
    choices = [draw(seed, logits=logits) for seed in range(2000)]
    assert {choice.token for choice in choices} == {3, 400, 699}
    assert all(
        choice.behaviour_logprob == pytest.approx(np.log(expected[choice.token]), abs=1e-4) for choice in choices
    )
    share = sum(choice.token == 699 for choice in choices) / len(choices)
    assert share == pytest.approx(expected[699], abs=5 * 0.5 / 2000**0.5)


AGAINST = np.array([3.0, 0.5, -0.5, 5.0, -30.0, -2.0], dtype=np.float32)


def guided(
    strength: float, *, temperature: float = 0.0, mask: NDArray[np.bool_] | None = None, seed: int = 0
) -> Choice:
    return choose(
        Rows.of(LOGITS),
        0,
        mask=mask,
        temperature=temperature,
        top_p=1.0,
        generator=np.random.default_rng(seed),
        guide=Guide(AGAINST, strength),
    )


def test_guidance_goes_away_from_what_the_other_condition_makes_likely() -> None:
    # Of the plausible tokens 0, 1, 3 and 5 it is the last that the other condition makes least likely.
    assert [guided(strength).token for strength in (0.0, 0.1, 1.0)] == [3, 3, 5]


def test_guidance_stays_among_plausible_tokens_and_within_the_mask() -> None:
    assert guided(100.0).token == 5
    masked = np.array([True, True, False, False, True, False])
    # The likeliest allowed token is 0; token 4 is never plausible beside it.
    assert guided(100.0, mask=masked).token == 1


def test_behaviour_of_a_guided_draw_is_that_of_the_guided_distribution() -> None:
    likely = np.isin(np.arange(6), [0, 1, 3, 5])
    expected = softmax(np.where(likely, 1.5 * LOGITS[0] - 0.5 * AGAINST, -np.inf) / 0.7)
    counts = np.zeros(6)
    for seed in range(2_000):
        choice = guided(0.5, temperature=0.7, seed=seed)
        assert choice.behaviour_logprob == pytest.approx(np.log(expected[choice.token]), abs=1e-4)
        assert choice.raw_logprob == pytest.approx(np.log(softmax(LOGITS[0]))[choice.token], abs=1e-4)
        counts[choice.token] += 1
    np.testing.assert_allclose(counts / 2_000, expected, atol=5 * 0.5 / 2_000**0.5)
