"""Markup becomes tokens by our hand only, whatever kind of token a vocabulary made of it."""

from collections.abc import Sequence

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st

from koboshi_runtime.llama import Vocabulary, load_vocabulary, start_backend
from koboshi_runtime.templates import MARKS

CONTROL, USER_DEFINED, NORMAL = gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED, gguf.TokenType.NORMAL
SPECIALS = {
    "<|im_start|>": CONTROL,
    "<|im_end|>": CONTROL,
    "<tool_call>": USER_DEFINED,
    "</tool_call>": USER_DEFINED,
    "<think>": USER_DEFINED,
    "[INST]": NORMAL,
}


def byte_letters() -> list[str]:
    """The letters by which a byte-level vocabulary writes the 256 bytes."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = [byte for byte in range(256) if byte not in plain]
    return [chr(byte) for byte in plain] + [chr(256 + place) for place in range(len(other))]


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Vocabulary:
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    letters = byte_letters()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list([*letters, *SPECIALS, "to"])
    writer.add_token_types([NORMAL] * len(letters) + list(SPECIALS.values()) + [NORMAL])
    writer.add_token_merges(["t o"])
    writer.add_eos_token_id(len(letters) + 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    start_backend()
    return Vocabulary(load_vocabulary(path))


def text_of(vocabulary: Vocabulary, ids: Sequence[int]) -> str:
    return b"".join(vocabulary.piece(token) for token in ids).decode("utf-8", "replace")


@pytest.mark.parametrize("mark", [mark for mark, kind in SPECIALS.items() if kind != NORMAL])
def test_markup_has_its_id_whether_control_or_user_defined(vocabulary: Vocabulary, mark: str) -> None:
    assert vocabulary.special_id(mark) == 256 + list(SPECIALS).index(mark)


@pytest.mark.parametrize("text", ["[INST]", "to", "t", "<tool", "", "<tool_call><tool_call>"])
def test_other_text_has_no_special_id(vocabulary: Vocabulary, text: str) -> None:
    assert vocabulary.special_id(text) is None


@given(text=st.lists(st.sampled_from(MARKS) | st.text(max_size=4)).map("".join))
def test_plain_text_never_gives_a_special_token_and_comes_back_whole(vocabulary: Vocabulary, text: str) -> None:
    ids = vocabulary.tokenize(text)
    special = {vocabulary.special_id(mark) for mark in MARKS}
    assert special.isdisjoint(ids)
    assert text_of(vocabulary, ids) == text.encode("utf-8", "replace").decode("utf-8")


def test_a_token_behind_a_cut_is_still_merged(vocabulary: Vocabulary) -> None:
    assert text_of(vocabulary, vocabulary.tokenize("<tool_call>")) == "<tool_call>"
    assert len(vocabulary.tokenize("<tool_call>")) == len("<tool_call>") - 1
