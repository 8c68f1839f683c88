"""What is known of a GGUF file: header, pace here, agreement with another. Values only: nothing loads llama.cpp."""

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


class Agreement(Frozen):
    """Over `tokens` places: how often both think the same id the likeliest, and the mean KL divergence, in nats."""

    tokens: int
    top1: float
    divergence: float


class Pace(Frozen):
    """Medians in milliseconds: a step of one run, and a step of `parallel` runs."""

    one_ms: float
    many_ms: float
    parallel: int
