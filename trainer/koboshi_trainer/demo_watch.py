"""Show a run while it happens: each reply as soon as it is written, and what the model is told next.

The watcher stands between the runner and a model and changes nothing. What a tool returned is shown as the model is
shown it: the ids that are new in its next prompt. Every line is made safe to print.
"""

import re
from collections.abc import Callable
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
    _known: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.info, self.begin_id = self.model.info, self.model.begin_id

    async def generate(self, request: GenerateRequest) -> Reply:
        """Write one turn. Raises ModelError if it is lost."""
        if self._known:
            self._say("tool", await self.model.detokenize(request.prompt_ids[self._known :]))
        reply = await self.model.generate(request)
        self._known = len(request.prompt_ids) + len(reply.ids)
        self._say("model", reply.text)
        return reply

    async def tokenize(self, pieces: tuple[Piece, ...]) -> tuple[int, ...]:
        """Return the ids of `pieces`."""
        return await self.model.tokenize(pieces)

    async def score(self, ids: tuple[int, ...], start: int) -> tuple[float, ...]:
        """Return log-probabilities, natural logarithm."""
        return await self.model.score(ids, start)

    async def close(self) -> None:
        """The model belongs to whoever started it."""

    def _say(self, who: str, text: str) -> None:
        for line in spoken_lines(who, text):
            self.show(line)


def spoken_lines(who: str, text: str) -> list[str]:
    """Return the lines of what `who` said, without the template's markup."""
    spoken = _MARKUP.sub("", text).splitlines()
    return [f"  {who:5} | {plain(line, width=_WIDTH)}" for line in spoken if line.strip()]
