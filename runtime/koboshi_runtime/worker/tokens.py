"""Turn the pieces of a prompt into ids."""

from collections.abc import Sequence

from ..llama import Vocabulary
from ..model import Piece


def ids_of(vocabulary: Vocabulary, pieces: Sequence[Piece]) -> list[int]:
    """Return the ids of `pieces`: special tokens from markup only, and text between two of them tokenised as one."""
    ids: list[int] = []
    text = ""
    for piece in pieces:
        token = vocabulary.special_id(piece.text) if piece.markup else None
        if token is None:
            text += piece.text
            continue
        ids += [*vocabulary.tokenize(text), token] if text else [token]
        text = ""
    return ids + vocabulary.tokenize(text) if text else ids
