"""How a tuned model is spoken to, and the user segments that its rows are trained under.

A tuned model keeps its base's template and tool format and knows one set of conditions; every tuned model of a lineage
uses the same set, so that runs of one generation are rows of the next.
"""

import asyncio
from collections.abc import Iterable, Sequence

from koboshi_runtime import prompt
from koboshi_runtime.model import Model, PromptProfile
from koboshi_runtime.records import Trajectory

from .rows import UserSegment

CONDITION_SET = "sentences"


def tuned_profile(base: PromptProfile, conditions: str | None = None) -> PromptProfile:
    """Return the profile of a model trained from one with the profile `base`: its set of conditions, or the default.

    `conditions` names the set for a base that has none.
    """
    return base if base.conditions else base.model_copy(update={"conditions": conditions or CONDITION_SET})


async def user_segments(
    trajectories: Iterable[Trajectory], model: Model, profile: PromptProfile, conditions: Sequence[str]
) -> UserSegment:
    """Return a function from a prompt and a condition to ids, made in advance for the prompts of `trajectories`.

    Where a template tells the tools in the user turn, a prompt that was run with different tools is rendered with
    those of its last run; the dataset then leaves the others out. The function raises KeyError for another prompt.
    """
    last = {trajectory.header.prompt: trajectory.header for trajectory in trajectories}
    keys = [(text, condition) for text in last for condition in (None, *conditions)]

    async def ids_of(text: str, condition: str | None) -> tuple[int, ...]:
        header = last[text]
        return await model.tokenize(prompt.user_turn(profile, header.system, header.tool_specs, text, condition))

    found = dict(zip(keys, await asyncio.gather(*(ids_of(*key) for key in keys)), strict=True))
    return lambda text, condition: found[text, condition]
