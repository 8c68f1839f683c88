"""Play solved tasks through the real graph, in the ids of the model that will learn them.

Tools, policy, store and checkers are those of any run; only the voice is scripted. Each run is a rollout of the train
split, marked as a demonstration. One that is stored already for the same model and profile is not played again, so a
cut-off round goes on where it stopped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from koboshi_runtime import prompt
from koboshi_runtime.model import GenerateRequest, Model, ModelInfo, Piece, Reply
from koboshi_runtime.packs import Demonstration
from koboshi_runtime.records import OutcomeLabel, Purpose, Split
from koboshi_runtime.runner import Runner, RunSettings
from koboshi_runtime.scripted import ScriptedModel
from koboshi_tools import KoboshiError

from .rollouts import RunKey, key_of, stored_runs

Progress = Callable[[int, int], None]


class DemonstrationError(KoboshiError):
    """A demonstration did not pass its own task's checker."""


@dataclass(slots=True)
class _Voice:
    """Says what a script says, in the ids of `learner`."""

    info: ModelInfo
    script: ScriptedModel
    learner: Model
    begin_id: int | None

    async def generate(self, request: GenerateRequest) -> Reply:
        return await self.script.generate(request)

    async def tokenize(self, pieces: tuple[Piece, ...]) -> tuple[int, ...]:
        return await self.learner.tokenize(pieces)

    async def score(self, ids: tuple[int, ...], start: int) -> tuple[float, ...]:
        return await self.learner.score(ids, start)

    async def close(self) -> None:
        """The learner belongs to whoever started it."""


async def play(
    runner: Runner, demonstrations: Sequence[Demonstration], *, on_progress: Progress | None = None
) -> list[str]:
    """Return the run ids of `demonstrations`, played on the runner's model as learner, in their order.

    Give the runner's model the profile that the tuned model will have: its conditions are in the prompt. `on_progress`
    is told how many are done, of how many. Raises DemonstrationError for the first that its checker does not pass.
    """
    settings = RunSettings(
        purpose=Purpose.ROLLOUT, split=Split.TRAIN, check_settings=runner.settings.check_settings, jobs=1
    )
    player = replace(runner, settings=settings)
    stored = stored_runs(player, demonstrations=True)
    player.store.assign_splits([(demonstration.task.prompt, Split.TRAIN) for demonstration in demonstrations])
    run_ids = []
    for number, demonstration in enumerate(demonstrations, 1):
        key: RunKey = key_of(player, demonstration.task, 0)
        run_ids.append(stored.get(key) or await _play_one(player, demonstration))
        if on_progress is not None:
            on_progress(number, len(demonstrations))
    return run_ids


async def _play_one(player: Runner, demonstration: Demonstration) -> str:
    learner, profile = player.model, player.model.info.profile
    replies = [
        prompt.reply_pieces(profile, turn.text, [turn.call] if turn.call else []) for turn in demonstration.turns
    ]
    script = ScriptedModel(replies, info=learner.info, tokenize=learner.tokenize)
    voice = _Voice(learner.info, script, learner, getattr(learner, "begin_id", None))
    result = await player.run(demonstration.task, model=voice, demonstration=True)
    if result.outcome is not OutcomeLabel.SUCCESS:
        ended = f"{result.outcome.value} ({result.reason.value})"
        raise DemonstrationError(
            f"the demonstration of task {demonstration.task.id!r} ended as {ended}",
            hint=f"See what happened with `koboshi traces show {result.run_id}`.",
        )
    return result.run_id
