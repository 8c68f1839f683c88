"""A `Model` that plays replies: the stand-in for tests, and the voice of demonstrations.

Its tokenizer is bytes (ids 0-255) and special tokens from 256 on, the same in every process, unless a real model's is
given: a demonstration is played through the same graph as any run, in the ids of the model that will learn it.
Log-probabilities are NaN, as nobody sampled.
"""

import asyncio
import math
import re
import zlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from koboshi_tools import KoboshiError

from .model import FinishReason, GenerateRequest, ModelInfo, Piece, PromptProfile, Reply, Tell
from .templates import MARKS

Tokenize = Callable[[tuple[Piece, ...]], Coroutine[Any, Any, tuple[int, ...]]]
Script = str | tuple[Piece, ...]

_PROFILE = PromptProfile(template="chatml", tool_format="hermes")
_WORD = re.compile(r"\S+\s*|\s+")
# Between two words others get a turn, as they do while a model computes.
_PAUSE_S = 0.001
_FIRST_SPECIAL = 256
_SPECIALS = 1 << 24


class ScriptExhaustedError(KoboshiError):
    """A run asked for more turns than its script has."""


class ScriptedModel:
    """Plays `replies` in order, or what a function makes of each request.

    Each is text, ended as its profile ends a turn, or pieces played as they are.
    """

    def __init__(
        self,
        replies: Sequence[Script] | Callable[[GenerateRequest], Script],
        *,
        info: ModelInfo | None = None,
        tokenize: Tokenize | None = None,
    ) -> None:
        self.info = info or ModelInfo(
            model_hash="sha256:scripted",
            name="scripted",
            architecture="scripted",
            context_tokens=1 << 20,
            parallel=64,
            profile=_PROFILE,
        )
        self.requests: list[GenerateRequest] = []
        self._replies = replies if callable(replies) else list(replies)
        self._tokenize = tokenize

    async def generate(self, request: GenerateRequest) -> Reply:
        """Return the next reply. Raises ScriptExhaustedError when there is none."""
        self.requests.append(request)
        reply = self._next(request)
        pieces = reply if isinstance(reply, tuple) else (Piece(text=reply), Piece(text="<|im_end|>", markup=True))
        ids = await self.tokenize(pieces)
        nothing = (math.nan,) * len(ids)
        return Reply(
            ids=ids,
            sampled=(True,) * len(ids),
            raw_logprobs=nothing,
            behaviour_logprobs=nothing,
            # The last piece is the end of the turn, which is no part of the text.
            text="".join(piece.text for piece in pieces[:-1]),
            finish=FinishReason.STOP,
            decoded_tokens=len(request.prompt_ids),
        )

    def _next(self, request: GenerateRequest) -> Script:
        if callable(self._replies):
            return self._replies(request)
        if len(self.requests) > len(self._replies):
            raise ScriptExhaustedError(f"the script has {len(self._replies)} replies, and one more was asked for")
        return self._replies[len(self.requests) - 1]

    async def stream(self, request: GenerateRequest, tell: Tell) -> Reply:
        """Return the next reply, told word by word."""
        reply = await self.generate(request)
        for word in _WORD.findall(reply.text):
            tell(word)
            await asyncio.sleep(_PAUSE_S)
        return reply

    async def tokenize(self, pieces: tuple[Piece, ...]) -> tuple[int, ...]:
        """Return bytes as ids, and an id of its own for each piece of markup."""
        if self._tokenize is not None:
            return await self._tokenize(pieces)
        ids: list[int] = []
        for piece in pieces:
            if piece.markup:
                ids.append(_special_id(piece.text))
            else:
                ids += piece.text.encode("utf-8", "surrogatepass")
        return tuple(ids)

    async def score(self, ids: tuple[int, ...], start: int) -> tuple[float, ...]:
        """Return a flat score, -1 for each id from `start` on."""
        return (-1.0,) * (len(ids) - start)

    async def close(self) -> None:
        """Nothing is held."""


def _special_id(mark: str) -> int:
    """Return the id of a mark: small for those of our templates, so that a tiny model has them too."""
    if mark in MARKS:
        return _FIRST_SPECIAL + MARKS.index(mark)
    return _FIRST_SPECIAL + len(MARKS) + zlib.crc32(mark.encode()) % _SPECIALS
