import math
import struct

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from koboshi_runtime.redact import redactor
from koboshi_runtime.store.codecs import (
    pack_bits,
    pack_ids,
    pack_json,
    pack_logprobs,
    pack_text,
    segment_hash,
    unpack_bits,
    unpack_ids,
    unpack_json,
    unpack_logprobs,
    unpack_text,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()))
IDS = st.lists(st.integers(-1, 2**31 - 1)).map(tuple)


@given(ANY_TEXT)
def test_any_text_comes_back_equal_where_it_holds_no_secret(text: str) -> None:
    assume(not redactor().finds(text))
    assert unpack_text(pack_text(text)) == text


def test_valid_text_is_stored_as_plain_text() -> None:
    assert pack_text("naïve\0日本") == "naïve\0日本"


@given(IDS)
def test_ids_come_back_equal(ids: tuple[int, ...]) -> None:
    assert unpack_ids(pack_ids(ids)) == ids


@given(st.lists(st.booleans()).map(tuple))
def test_bits_come_back_equal(bits: tuple[bool, ...]) -> None:
    assert unpack_bits(pack_bits(bits), len(bits)) == bits


@given(st.lists(st.floats(width=16, max_value=0.0)).map(tuple))
def test_float16_logprobs_come_back_equal(values: tuple[float, ...]) -> None:
    assert unpack_logprobs(pack_logprobs(values)) == values


def test_nan_logprobs_are_kept() -> None:
    assert [math.isnan(value) for value in unpack_logprobs(pack_logprobs((math.nan, -1.0)))] == [True, False]


def test_logprobs_below_float16_become_minus_infinity() -> None:
    assert unpack_logprobs(pack_logprobs((-1e6, -math.inf))) == (-math.inf, -math.inf)


def test_logprobs_are_rounded_to_float16() -> None:
    assert unpack_logprobs(pack_logprobs((-0.1,))) == struct.unpack("<e", struct.pack("<e", -0.1))


@given(
    st.recursive(st.none() | st.integers() | ANY_TEXT, lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner))
)
def test_json_comes_back_equal_where_it_holds_no_secret(value: object) -> None:
    assume(not redactor().finds(value))
    assert unpack_json(pack_json(value)) == value


@pytest.mark.parametrize(("ids", "text"), [((1, 2), "ab"), ((1,), "a"), ((1, 2), "a")])
def test_segments_that_differ_have_different_names(ids: tuple[int, ...], text: str) -> None:
    assert segment_hash(ids, text) != segment_hash((1, 3), "a")
