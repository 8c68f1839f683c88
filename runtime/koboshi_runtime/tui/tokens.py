"""A reply token by token, with how sure the model was of each.

The log-probabilities are those that were stored: raw, at temperature 1 and before any constraint. What a token's text
is, only the model's vocabulary knows; where that cannot be had, the probabilities are shown without it.
"""

import codecs
import math
from collections.abc import Mapping, Sequence

from rich.text import Text

from ..model import Reply
from ..text import plain
from .theme import Palette

Pieces = Mapping[int, bytes]
"""By id, the bytes that a token stands for."""

_LIMITS = (0.9, 0.5, 0.1)
"""Probabilities between the four styles of doubt."""

_BARS = "▁▂▃▄▅▆▇█"
_UNSUREST = 8
_MOST_TOKENS = 4_000


def token_texts(ids: Sequence[int], pieces: Pieces) -> list[str]:
    """Return the text of each token; a character that several tokens make up stands at the last of them."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    return [decoder.decode(pieces.get(token, b"\xef\xbf\xbd")) for token in ids]


def doubt(probability: float) -> int:
    """Return how much doubt there is in a token, 0 (90 % and more) to 3 (less than 10 %)."""
    return sum(probability < limit for limit in _LIMITS)


def reply_text(reply: Reply, pieces: Pieces | None, palette: Palette) -> Text:
    """Return the reply with each token in the style of its doubt, the legend, and the tokens of most doubt."""
    known = any(not math.isnan(value) for value in reply.raw_logprobs)
    if pieces is None or not reply.ids or not known:
        shown = Text(plain(reply.text, keep_lines=True))
        return shown.append_text(_profile(reply, palette)) if known else shown
    texts = [plain(text, keep_lines=True) for text in token_texts(reply.ids[:_MOST_TOKENS], pieces)]
    shown = Text()
    for text, logprob, sampled in zip(texts, reply.raw_logprobs, reply.sampled, strict=False):
        shown.append(text, palette.doubt[doubt(math.exp(logprob))] if sampled else palette.forced)
    if len(reply.ids) > _MOST_TOKENS:
        shown.append(f"\n… {len(reply.ids) - _MOST_TOKENS:,} more tokens", palette.quiet)
    return shown.append_text(_legend(palette)).append_text(_unsurest(reply, texts, palette))


def _legend(palette: Palette) -> Text:
    legend = Text("\n\n")
    for style, said in zip(palette.doubt, ("90% and more", "50-90%", "10-50%", "under 10%"), strict=True):
        legend.append(said, style).append("  ")
    return legend.append("forced by the grammar", palette.forced)


def _unsurest(reply: Reply, texts: Sequence[str], palette: Palette) -> Text:
    drawn = [place for place, sampled in enumerate(reply.sampled[: len(texts)]) if sampled]
    worst = sorted(drawn, key=lambda place: reply.raw_logprobs[place])[:_UNSUREST]
    table = Text.assemble(("\n\nleast sure\n", palette.strong))
    for place in worst:
        probability = math.exp(reply.raw_logprobs[place])
        table.append(f"{probability:6.1%} ", palette.doubt[doubt(probability)])
        table.append(f"{_bar(probability)} ", palette.quiet)
        table.append(f"token {place}: {plain(repr(texts[place]), width=40)}\n")
    return table


def _profile(reply: Reply, palette: Palette) -> Text:
    values = [math.exp(value) for value in reply.raw_logprobs[:_MOST_TOKENS]]
    shown = Text.assemble(("\n\nprobability of each token, in order\n", palette.strong))
    for value, sampled in zip(values, reply.sampled, strict=False):
        shown.append(_BARS[min(int(value * len(_BARS)), 7)], palette.doubt[doubt(value)] if sampled else palette.forced)
    return shown


def _bar(probability: float, width: int = 10) -> str:
    filled = round(probability * width)
    return "█" * filled + "░" * (width - filled)
