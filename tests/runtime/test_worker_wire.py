"""The frames between a worker and its client."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koboshi_runtime.worker import wire

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)
messages = st.dictionaries(st.text(), values, max_size=5)


@given(sent=st.lists(messages, max_size=4), sizes=st.lists(st.integers(1, 40), min_size=1))
def test_messages_come_out_as_they_went_in_however_the_bytes_arrive(
    sent: list[dict[str, Any]], sizes: list[int]
) -> None:
    data = b"".join(wire.encode(message) for message in sent)
    inbox, received, at, number = wire.Inbox(), [], 0, 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        received += inbox.feed(data[at : at + size])
        at, number = at + size, number + 1
    assert received == sent


def test_half_a_character_travels_unharmed() -> None:
    message = {"text": "\ud800"}
    assert wire.Inbox().feed(wire.encode(message)) == [message]


def test_an_absurd_length_is_refused_before_its_body_comes() -> None:
    with pytest.raises(ValueError, match="4294967295 bytes"):
        wire.Inbox().feed(b"\xff\xff\xff\xff")
