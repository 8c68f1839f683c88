"""What a model is to the rest of koboshi: ids in, ids with their log-probabilities out.

`Model` is the seam. `WorkerModel` (llama.cpp in a process of its own) and `ScriptedModel` (a list of replies, for
tests) both keep the suite in `tests/contracts`. A reply's ids include the stop token that the model sampled, so that
the stop is learnt; ids and their log-probabilities always have equal length.
"""

from collections.abc import Callable
from enum import StrEnum
from typing import Protocol, TypeAlias, runtime_checkable

from pydantic import Field, model_validator

from koboshi_tools import Frozen, ToolSpec


class FinishReason(StrEnum):
    """Why a reply ended."""

    STOP = "stop"
    LENGTH = "length"
    STOP_TEXT = "stop_text"


class PromptProfile(Frozen):
    """How a model is spoken to: template and tool format by name, and whether it knows the NAT conditions."""

    template: str
    tool_format: str
    conditions: str | None = None


class ModelInfo(Frozen):
    """A loaded model: `model_hash` is that of the file, `context_tokens` the longest prompt and reply of one run."""

    model_hash: str
    name: str
    architecture: str
    context_tokens: int
    parallel: int
    profile: PromptProfile


class Piece(Frozen):
    """A stretch of prompt before it is tokenised: our own markup, or text that must never become a special token."""

    text: str
    markup: bool = False


class Constraint(Frozen):
    """The calls a reply may hold: free text until the opening tag of `tool_format`, then exactly one of `tools`.

    A reply that `must_call` is a call from its first token.
    """

    tool_format: str
    tools: tuple[ToolSpec, ...]
    max_calls: int = 4
    must_call: bool = False


class GenerateRequest(Frozen):
    """One turn to be written after `prompt_ids`. `temperature` 0 takes the likeliest token; `top_p` cuts the tail.

    The first `prefix_tokens` ids begin other runs as well: a model may keep what it made of them. With `guidance` the
    reply is drawn away from what would follow `against_ids`, the same prompt under the other condition.
    """

    prompt_ids: tuple[int, ...]
    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop_ids: tuple[int, ...] = ()
    stop_texts: tuple[str, ...] = ()
    constraint: Constraint | None = None
    run_id: str | None = None
    prefix_tokens: int = 0
    guidance: float = Field(default=0.0, ge=0)
    against_ids: tuple[int, ...] = ()

    @model_validator(mode="after")
    def _guided_away_from_something(self) -> "GenerateRequest":
        if bool(self.guidance) != bool(self.against_ids):
            raise ValueError("guidance and against_ids belong together: give both or neither")
        return self


class Reply(Frozen):
    """What the model wrote.

    `ids`, `sampled`, `raw_logprobs` and `behaviour_logprobs` have equal length. `sampled` is False where the grammar
    left one choice. Raw is at T = 1 without mask (natural logarithm); behaviour is of the distribution really drawn
    from.
    """

    ids: tuple[int, ...]
    sampled: tuple[bool, ...]
    raw_logprobs: tuple[float, ...]
    behaviour_logprobs: tuple[float, ...]
    text: str
    finish: FinishReason
    reused_tokens: int = 0
    decoded_tokens: int = 0
    seconds: float = 0.0

    @model_validator(mode="after")
    def _equal_lengths(self) -> "Reply":
        lengths = {len(self.ids), len(self.sampled), len(self.raw_logprobs), len(self.behaviour_logprobs)}
        if len(lengths) != 1:
            raise ValueError(f"a reply's ids, sources and log-probabilities differ in length: {sorted(lengths)}")
        return self


class Model(Protocol):
    """The seam between the agent and whatever writes its turns."""

    info: ModelInfo

    async def generate(self, request: GenerateRequest) -> Reply:
        """Write one turn. Raises ModelError if the turn is lost; the runtime goes on."""
        ...

    async def tokenize(self, pieces: tuple[Piece, ...]) -> tuple[int, ...]:
        """Return the ids of `pieces`; special tokens come from markup only."""
        ...

    async def score(self, ids: tuple[int, ...], start: int) -> tuple[float, ...]:
        """Return log p(ids[i] | ids[:i]) at T = 1, natural logarithm, for i in start..len(ids)-1."""
        ...

    async def close(self) -> None:
        """Give back everything the model holds."""
        ...


@runtime_checkable
class KeepsRuns(Protocol):
    """A model that keeps what a run has decoded for its next turn."""

    def release(self, run_id: str) -> None:
        """Say that a run wrote its last turn, so that its place can be another's."""
        ...


Tell: TypeAlias = Callable[[str], None]
"""Is given each stretch of a reply's text as it is written, whole characters only."""


@runtime_checkable
class Streams(Protocol):
    """A model whose replies can be followed while they are written."""

    async def stream(self, request: GenerateRequest, tell: Tell) -> Reply:
        """Write one turn as `generate` does; what `tell` is given, joined, begins the reply's text."""
        ...
