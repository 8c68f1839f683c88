"""The fixed corpus of a parity check: half prose that ships with koboshi, half held-out trajectories, as ids.

Prose holds what tool use does not (words, numbers, tables, code); the trajectories hold what the model was trained for.
Both halves have the same number of tokens where there are trajectories enough.
"""

from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files

from .parity import Corpus

# Long enough that attention reaches back, short enough that float32 logits of a large vocabulary fit.
SEQUENCE_TOKENS = 256
# A share of 99.5 % needs some hundreds of positions to mean anything.
HALF_TOKENS = 1024


def make_corpus(
    tokenize: Callable[[str], Sequence[int]],
    trajectories: Sequence[Sequence[int]],
    *,
    begin_ids: Sequence[int] = (),
    half_tokens: int = HALF_TOKENS,
) -> Corpus:
    """Return sequences of at most 256 ids: prose begun with `begin_ids`, then `trajectories`, logged ids, as they are.

    `tokenize` is llama.cpp's, without special tokens. Trajectories are taken in the order given, cut to their first
    256 ids, until they have `half_tokens` together.
    """
    room = SEQUENCE_TOKENS - len(begin_ids)
    prose = tuple(tokenize(load_prose()))[:half_tokens]
    pieces = (prose[start : start + room] for start in range(0, len(prose), room))
    return (*((*begin_ids, *piece) for piece in pieces), *_up_to(half_tokens, trajectories))


def load_prose() -> str:
    """Return the text that ships with koboshi."""
    return files(__package__).joinpath("data", "prose.txt").read_text(encoding="utf-8")


def _up_to(tokens: int, trajectories: Sequence[Sequence[int]]) -> Iterator[tuple[int, ...]]:
    left = tokens
    for ids in trajectories:
        piece = tuple(ids[: min(SEQUENCE_TOKENS, left)])
        if not piece:
            continue
        yield piece
        left -= len(piece)
        if left <= 0:
            return
