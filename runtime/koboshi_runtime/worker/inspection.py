"""Gather the facts of a model that llama.cpp has opened."""

from ..llama import Vocabulary
from .facts import GgufFacts

# The markup by which families are told apart, and that templates need as single tokens.
_MARKS = (
    "<|im_start|>",
    "<|im_end|>",
    "<tool_call>",
    "</tool_call>",
    "<|start_header_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "[INST]",
    "[TOOL_CALLS]",
    "<start_of_turn>",
    "<end_of_turn>",
    "<think>",
)


def facts_of(values: dict[str, str], vocabulary: Vocabulary) -> GgufFacts:
    """Return the facts of a loaded model; `values` is its key-value region as text."""
    architecture = values.get("general.architecture", "unknown")
    file_type = values.get("general.file_type")
    return GgufFacts(
        architecture=architecture,
        name=values.get("general.name", ""),
        context_tokens=int(values.get(f"{architecture}.context_length", 0)),
        vocab_size=vocabulary.size,
        chat_template=values.get("tokenizer.chat_template"),
        file_type=int(file_type) if file_type is not None else None,
        tokenizer_pre=values.get("tokenizer.ggml.pre"),
        special=tuple(mark for mark in _MARKS if vocabulary.special_id(mark) is not None),
        block_count=int(values.get(f"{architecture}.block_count", 0)),
        embedding_length=int(values.get(f"{architecture}.embedding_length", 0)),
        kv_width=_kv_width(values, architecture),
    )


def _kv_width(values: dict[str, str], architecture: str) -> int:
    """Return heads times their width; 0 where the header has a list of them, one for each layer."""

    def read(key: str) -> int:
        text = values.get(f"{architecture}.{key}", "0")
        return int(text) if text.isdigit() else 0

    heads = read("attention.head_count")
    width = read("attention.key_length") or (read("embedding_length") // heads if heads else 0)
    return (read("attention.head_count_kv") or heads) * width
