"""How much of a run's prompts was not decoded again: kept from its own turns, of another run, or read from disk.

Read from the stored turns. The prompt of a turn is everything before its reply; the replies that stay in the prompt are
counted whole, also where a model thinks aloud and only what follows its thinking stays.
"""

from collections.abc import Sequence

from koboshi_tools import Frozen

from .records import SegmentKind, TurnRecord


class PromptReuse(Frozen):
    """Tokens of all prompts of a run together, and of its beginning (system prompt and tools) in the first of them.

    `prefix_reused_tokens` is `prefix_tokens` where another run, or the files of beginnings, had it ready.
    """

    prompt_tokens: int
    reused_tokens: int
    prefix_tokens: int
    prefix_reused_tokens: int

    @property
    def hit_rate(self) -> float | None:
        """The share of the prompts' tokens that was reused; None of a run without a turn."""
        return self.reused_tokens / self.prompt_tokens if self.prompt_tokens else None


def prompt_reuse(turns: Sequence[TurnRecord]) -> PromptReuse:
    """Return what was reused in the turns of a run, in their order."""
    context = prompts = reused = 0
    for turn in turns:
        context += sum(len(segment.ids) for segment in turn.segments)
        prompts += context
        reused += min(turn.reply.reused_tokens, context)
        context += len(turn.reply.ids) if turn.in_context else 0
    first = turns[0] if turns else None
    prefix = sum(len(each.ids) for each in first.segments if each.kind is SegmentKind.PREFIX) if first else 0
    return PromptReuse(
        prompt_tokens=prompts,
        reused_tokens=reused,
        prefix_tokens=prefix,
        prefix_reused_tokens=min(prefix, first.reply.reused_tokens) if first else 0,
    )


def reuse_json(found: PromptReuse) -> dict[str, float | int | None]:
    """Return it as commands print it, with the rate."""
    return {**found.model_dump(), "hit_rate": found.hit_rate}


def reuse_line(found: PromptReuse) -> str:
    """Return it in one line."""
    if found.hit_rate is None:
        return "prompts: none"
    line = f"prompts: {found.reused_tokens} of {found.prompt_tokens} tokens reused ({found.hit_rate:.0%})"
    return f"{line}, of the beginning {found.prefix_reused_tokens} of {found.prefix_tokens}"
