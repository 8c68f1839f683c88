"""What koboshi knows of a GGUF file before it runs it, read from its metadata by llama.cpp."""

from koboshi_tools import Frozen

from ..llama import Vocabulary

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


class GgufFacts(Frozen):
    """The header of a model file; `special` are the marks that are one special token of its vocabulary."""

    architecture: str
    name: str
    context_tokens: int
    vocab_size: int
    chat_template: str | None
    file_type: int | None
    tokenizer_pre: str | None
    special: tuple[str, ...]
    block_count: int
    embedding_length: int


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
    )
