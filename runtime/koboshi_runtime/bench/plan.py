"""What every side of a measurement is given, and what it gives back."""

from pathlib import Path

from koboshi_tools import Frozen

from ..model import PromptProfile


class BenchPlan(Frozen):
    """One measurement: a model file, a pack's project with some of its tasks, and how many runs go on at once.

    `flash_attention` and `cell_type` are koboshi's own, for the yardstick; rivals choose theirs.
    """

    model: Path
    profile: PromptProfile
    project: Path
    tasks: Path
    jobs: int
    context_tokens: int
    threads: int
    flash_attention: bool
    cell_type: str


class TurnTokens(Frozen):
    """The ids of one recorded turn: what was new in the prompt, what was written, and which of that was sampled."""

    new_ids: tuple[int, ...]
    reply_ids: tuple[int, ...]
    sampled: tuple[bool, ...]


class RunTokens(Frozen):
    """The turns of one recorded run, in order."""

    turns: tuple[TurnTokens, ...]


class SideResult(Frozen):
    """What one side did; `tokens` are those it sampled, `wall_s` has no loading in it.

    `reply_s` is what all replies took from request to answer, added up: of runs one after another that is the wall
    without tools, graph and store. It is 0 where it was not measured.

    Of koboshi's own sides also `written`, the sampled and the forced tokens of all replies, `again`, the tokens that a
    later turn decoded though an earlier one had, and `memory_growth`, the worker's highest memory over what it held
    loaded and empty, its KV cache included.
    """

    side: str
    wall_s: float
    runs: int
    successes: int
    tokens: int
    reply_s: float = 0.0
    written: int = 0
    again: int | None = None
    memory_growth: float | None = None

    @property
    def tokens_per_s(self) -> float:
        """Sampled tokens a second."""
        return self.tokens / self.wall_s

    @property
    def tokens_per_reply_s(self) -> float:
        """Sampled tokens for each second that a reply was waited for."""
        return self.tokens / self.reply_s

    @property
    def runs_per_s(self) -> float:
        """Finished runs a second."""
        return self.runs / self.wall_s

    @property
    def ms_a_token(self) -> float:
        """Milliseconds for each written token."""
        return 1000 * self.wall_s / self.written
