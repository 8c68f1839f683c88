"""What koboshi knows of a GGUF file before it runs it. A value only: whoever reads it need not load llama.cpp."""

from koboshi_tools import Frozen


class GgufFacts(Frozen):
    """The header of a model file; `special` are the marks that are one special token of its vocabulary.

    `kv_width` is how many numbers a layer keeps of a token for its keys, and as many for its values; 0 if unknown.
    """

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
    kv_width: int = 0
