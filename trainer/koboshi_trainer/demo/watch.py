"""Show a run while it happens: each reply as soon as it is written, and what the model is told next.

The watcher stands between the runner and a model and changes nothing. What a tool returned is shown as the model is
shown it: the ids that are new in its next prompt. Every line is made safe to print.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from koboshi_runtime.model import GenerateRequest, ModelInfo, Piece, Reply
from koboshi_runtime.text import plain
from koboshi_runtime.workermodel import WorkerModel

_WIDTH = 160
# What a template puts around a turn; it would only bury what is said.
_MARKUP = re.compile(r"(<\|im_start\|>(user|assistant))|<\|im_end\|>|</?tool_response>")


@dataclass(slots=True)
class WatchedModel:
    """`model`, handing each line of what happens in its one run to `show`."""

    model: WorkerModel
    show: Callable[[str], None]
    info: ModelInfo = field(init=False)
    begin_id: int | None = field(init=False)
    _seen: tuple[int, ...] = field(init=False, default=())

    def __post_init__(self) -> None:
        self.info, self.begin_id = self.model.info, self.model.begin_id

    async def generate(self, request: GenerateRequest) -> Reply:
        """Write one turn. Raises ModelError if it is lost."""
        if self._seen:
            self._say("told", await self.model.detokenize(new_ids(self._seen, request.prompt_ids)))
        reply = await self.model.generate(request)
        self._seen = (*request.prompt_ids, *reply.ids)
        self._say("model", reply.text)
        return reply

    async def tokenize(self, pieces: tuple[Piece, ...]) -> tuple[int, ...]:
        """Return the ids of `pieces`."""
        return await self.model.tokenize(pieces)

    async def score(self, ids: tuple[int, ...], start: int) -> tuple[float, ...]:
        """Return log-probabilities, natural logarithm."""
        return await self.model.score(ids, start)

    def release(self, run_id: str) -> None:
        """Say that a run wrote its last turn."""
        self.model.release(run_id)

    async def close(self) -> None:
        """The model belongs to whoever started it."""

    def _say(self, who: str, text: str) -> None:
        for line in spoken_lines(who, text):
            self.show(line)


def new_ids(seen: Sequence[int], prompt_ids: tuple[int, ...]) -> tuple[int, ...]:
    """Return the ids of a prompt from where it leaves what was `seen`: an invalid reply does not come back in it."""
    pairs = zip(seen, prompt_ids, strict=False)
    return prompt_ids[next((i for i, (old, new) in enumerate(pairs) if old != new), min(len(seen), len(prompt_ids))) :]


def spoken_lines(who: str, text: str) -> list[str]:
    """Return the lines of what `who` said, without the template's markup."""
    spoken = _MARKUP.sub("", text).splitlines()
    return [f"  {who:5} | {plain(line, width=_WIDTH)}" for line in spoken if line.strip()]
