"""What a sequence of the context is busy with: writing a reply, scoring ids, or dumping logits.

A job says which ids are to be decoded next and which of them give logits it needs, and takes the rows when they come.
It knows nothing of slots, batches or other jobs, but for the shadow of a guided reply. `pending` are ids not yet in the
cache, `wanted` says for each of them whether its logits are needed; both have equal length. The first `prefix_tokens`
ids are worth keeping for others.
"""

import codecs
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..llama import Vocabulary
from ..model import FinishReason, GenerateRequest
from .constraint import Guard
from .sampling import Choice, Guide, Rows, choose, likeliest


class Job(Protocol):
    """The part of a job that the scheduler sees."""

    pending: list[int]
    wanted: list[bool]
    prefix_tokens: int
    shadow: "Shadow | None"

    @property
    def done(self) -> bool:
        """Whether nothing is left to decode."""
        ...

    def take(self, rows: Rows) -> None:
        """Use the rows of the wanted ids that were just decoded, in their order."""
        ...

    def result(self) -> dict[str, Any]:
        """Return what goes back to the client."""
        ...


class GenerateJob:
    """Writes one reply."""

    def __init__(
        self,
        request: GenerateRequest,
        vocabulary: Vocabulary,
        guard: Guard | None,
        *,
        context_tokens: int,
    ) -> None:
        self.request = request
        self.pending = list(request.prompt_ids)
        self.wanted = _last_only(len(self.pending))
        self.prefix_tokens = request.prefix_tokens
        self.shadow = Shadow(self, request.against_ids) if request.guidance else None
        self._undrawn: Rows | None = None
        self._vocabulary = vocabulary
        self._guard = guard
        longest = max(len(request.prompt_ids), len(request.against_ids))
        self._room = min(request.max_tokens, context_tokens - longest)
        self.done = self._room <= 0
        self._generator = np.random.default_rng(request.seed)
        self._ids: list[int] = []
        self._sampled: list[bool] = []
        self._raw: list[float] = []
        self._behaviour: list[float] = []
        self._text = b""
        self._told = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._finish = FinishReason.LENGTH

    def take(self, rows: Rows) -> None:
        """Record the forced tokens that these rows judge, then draw the next one."""
        unjudged = self._ids[len(self._raw) :]
        for row, token in enumerate(unjudged[: len(rows.log_sum)]):
            self._raw.append(rows.raw_logprob(row, token))
            self._behaviour.append(0.0)
            if self._ends(token):
                return
        if len(rows.log_sum) <= len(unjudged):
            return
        if self.shadow is None:
            self._draw(rows, len(unjudged), None)
        else:
            self._undrawn = rows.part(len(unjudged), len(unjudged) + 1).copied()
            self.meet()

    def meet(self) -> None:
        """Draw once both prompts have their logits for the same place."""
        if self.shadow is None or self._undrawn is None or self.shadow.row is None:
            return
        rows, guide = self._undrawn, Guide(self.shadow.row, self.request.guidance)
        self._undrawn = self.shadow.row = None
        self._draw(rows, 0, guide)
        if not self.done:
            self.shadow.follow(self.pending)

    def _draw(self, rows: Rows, row: int, guide: Guide | None) -> None:
        choice = self._choose(rows, row, guide)
        self._append(choice.token, sampled=True)
        self._raw.append(choice.raw_logprob)
        self._behaviour.append(choice.behaviour_logprob)
        if self._ends(choice.token):
            return
        forced = self._guard.take(choice.token) if self._guard else []
        forced = forced[: self._room - len(self._ids)]
        for token in forced:
            self._append(token, sampled=False)
        self.pending = [choice.token, *forced]
        self.wanted = [True] * len(self.pending)

    def _choose(self, rows: Rows, row: int, guide: Guide | None) -> Choice:
        if guide is None and self.request.temperature <= 0:
            # To ask whether one token is allowed costs a small part of asking it of all, and nearly always it is.
            first = likeliest(rows, row)
            if self._guard is None or self._guard.allows(first.token):
                return first
        return choose(
            rows,
            row,
            mask=self._guard.mask() if self._guard else None,
            temperature=self.request.temperature,
            top_p=self.request.top_p,
            generator=self._generator,
            guide=guide,
        )

    def _append(self, token: int, *, sampled: bool) -> None:
        self._ids.append(token)
        self._sampled.append(sampled)
        if not self._vocabulary.is_end(token):
            self._text += self._vocabulary.piece(token)

    def _ends(self, token: int) -> bool:
        judged = len(self._raw)
        if self._vocabulary.is_end(token) or token in self.request.stop_ids:
            self._finish = FinishReason.STOP
        elif self._stop_text_found():
            self._finish = FinishReason.STOP_TEXT
        elif judged < self._room:
            return False
        self._ids, self._sampled = self._ids[:judged], self._sampled[:judged]
        self.done = True
        return True

    def _stop_text_found(self) -> bool:
        return any(stop.encode() in self._text for stop in self.request.stop_texts)

    def more(self) -> str:
        """Return the text that was written since this was last asked, whole characters only."""
        fresh, self._told = self._text[self._told :], len(self._text)
        return self._decoder.decode(fresh)

    def result(self) -> dict[str, Any]:
        """Return the fields of a `Reply` that the job knows."""
        text = b"".join(self._vocabulary.piece(token) for token in self._ids if not self._vocabulary.is_end(token))
        return {
            "ids": self._ids,
            "sampled": self._sampled,
            "raw_logprobs": self._raw,
            "behaviour_logprobs": self._behaviour,
            "text": text.decode("utf-8", "replace"),
            "finish": self._finish.value,
        }


class Shadow:
    """The same reply behind the other prompt: it writes nothing, and gives the logits that the writer is guided from.

    It is decoded beside its writer, token by token, and each waits for the other.
    """

    shadow: "Shadow | None" = None

    def __init__(self, writer: GenerateJob, prompt_ids: Sequence[int]) -> None:
        self._writer = writer
        self.pending = list(prompt_ids)
        self.wanted = _last_only(len(self.pending))
        self.prefix_tokens = writer.prefix_tokens
        self.row: NDArray[np.float32] | None = None

    @property
    def done(self) -> bool:
        """Whether the reply is written."""
        return self._writer.done

    def take(self, rows: Rows) -> None:
        """Keep the logits for the writer's next draw."""
        self.row = rows.logits[-1].copy()
        self._writer.meet()

    def follow(self, ids: Sequence[int]) -> None:
        """Go on with what the writer wrote."""
        self.pending = list(ids)
        self.wanted = _last_only(len(ids))

    def result(self) -> dict[str, Any]:
        """Return nothing: what was written is the writer's."""
        return {}


class ScoreJob:
    """Finds log p(ids[i] | ids[:i]) for i from `start` on."""

    prefix_tokens = 0
    shadow: "Shadow | None" = None

    def __init__(self, ids: list[int], start: int) -> None:
        self.pending = ids[:-1]
        self.wanted = [index >= start - 1 for index in range(len(ids) - 1)]
        self._targets = ids[start:]
        self.done = not self._targets
        self._scores: list[float] = []

    def take(self, rows: Rows) -> None:
        """Score the targets that these rows predict."""
        for row in range(len(rows.log_sum)):
            self._scores.append(rows.raw_logprob(row, self._targets[len(self._scores)]))
        self.done = len(self._scores) == len(self._targets)

    def result(self) -> dict[str, Any]:
        """Return the scores, one for each id from `start` on."""
        return {"scores": self._scores}


class LogitsJob:
    """Writes the logits after each id to a `.npy` file, float32, `(len(ids), vocabulary)`."""

    prefix_tokens = 0
    shadow: "Shadow | None" = None

    def __init__(self, ids: list[int], path: Path, vocabulary_size: int) -> None:
        self.pending = list(ids)
        self.wanted = [True] * len(ids)
        self.done = False
        self._path = path
        shape = (len(ids), vocabulary_size)
        self._array: NDArray[np.float32] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        self._filled = 0

    def take(self, rows: Rows) -> None:
        """Copy the rows to the file."""
        count = len(rows.log_sum)
        self._array[self._filled : self._filled + count] = rows.logits
        self._filled += count
        self.done = self._filled == len(self._array)

    def result(self) -> dict[str, Any]:
        """Return where the logits are."""
        return {"path": str(self._path)}


def _last_only(count: int) -> list[bool]:
    """Return the `wanted` of ids whose last one alone needs logits."""
    return [False] * (count - 1) + [True]
