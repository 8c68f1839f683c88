"""The yardstick: llama.cpp decoding the very tokens that koboshi decoded, and nothing else.

No sampling, no grammar, no client: each step gives every run its next ids, as many runs at once as koboshi had, the
common beginning decoded once. What koboshi loses against this is its own. An invalid reply, which koboshi takes out of
the prompt again, stays in here.
"""

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..llama import Engine, EngineSettings
from .plan import BenchPlan, RunTokens, SideResult, TurnTokens

# Longer prompts are decoded in parts, so that each fits a batch beside other runs.
_PROMPT_PART = 256


class _Chunk(NamedTuple):
    """Ids that are decoded together, and whether the logits of all of them, or of the last only, are wanted."""

    ids: tuple[int, ...]
    all_wanted: bool


def decode_raw(plan: BenchPlan, runs: Sequence[RunTokens]) -> SideResult:
    """Decode recorded runs and return how long it took."""
    settings = EngineSettings(
        context_tokens=plan.context_tokens,
        parallel=plan.jobs + 1,
        threads=plan.threads,
        batch_threads=plan.threads,
        flash_attention=plan.flash_attention,
        cell_type=plan.cell_type,
    )
    engine = Engine(plan.model, settings)
    shared = common_beginning(runs)
    started = time.perf_counter()
    _decode_beginning(engine, shared, plan.jobs)
    _decode_all(engine, [_chunks(run, len(shared)) for run in runs], len(shared), plan.jobs)
    wall = time.perf_counter() - started
    engine.close()
    tokens = sum(sum(turn.sampled) for run in runs for turn in run.turns)
    return SideResult(side="raw", wall_s=wall, runs=len(runs), successes=0, tokens=tokens, reply_s=wall)


def common_beginning(runs: Sequence[RunTokens]) -> tuple[int, ...]:
    """Return the ids with which all first prompts begin, short of the last id of the shortest."""
    found = os.path.commonprefix([run.turns[0].new_ids for run in runs])
    return tuple(found[: min(len(run.turns[0].new_ids) for run in runs) - 1])


def _chunks(run: RunTokens, shared: int) -> deque[_Chunk]:
    chunks: deque[_Chunk] = deque()
    carried: tuple[int, ...] = ()
    for number, turn in enumerate(run.turns):
        new = turn.new_ids[shared:] if number == 0 else carried + turn.new_ids
        chunks.extend(_Chunk(new[at : at + _PROMPT_PART], all_wanted=False) for at in range(0, len(new), _PROMPT_PART))
        *written, last = _written(turn)
        chunks.extend(written)
        # The last token of a reply is decoded with what follows it, if anything does.
        carried = last.ids
    return chunks


def _written(turn: TurnTokens) -> Iterator[_Chunk]:
    """Yield each sampled id with the forced ids behind it."""
    start = 0
    for place in range(1, len(turn.reply_ids)):
        if turn.sampled[place]:
            yield _Chunk(turn.reply_ids[start:place], all_wanted=True)
            start = place
    yield _Chunk(turn.reply_ids[start:], all_wanted=True)


def _decode_beginning(engine: Engine, ids: Sequence[int], sequence: int) -> None:
    size = engine.settings.batch_tokens
    for start in range(0, len(ids), size):
        part = ids[start : start + size]
        engine.decode(part, range(start, start + len(part)), [sequence] * len(part), [False] * len(part))


def _decode_all(engine: Engine, queue: Sequence[deque[_Chunk]], shared: int, jobs: int) -> None:
    waiting = deque(queue)
    active: dict[int, tuple[deque[_Chunk], int]] = {}
    while waiting or active:
        for sequence in range(jobs):
            if sequence not in active and waiting:
                engine.share(jobs, sequence, shared)
                active[sequence] = (waiting.popleft(), shared)
        _step(engine, active)


def _step(engine: Engine, active: dict[int, tuple[deque[_Chunk], int]]) -> None:
    tokens: list[int] = []
    positions: list[int] = []
    sequences: list[int] = []
    wanted: list[bool] = []
    for sequence, (chunks, position) in list(active.items()):
        chunk = chunks[0]
        if len(tokens) + len(chunk.ids) > engine.settings.batch_tokens:
            continue
        chunks.popleft()
        tokens += chunk.ids
        positions += range(position, position + len(chunk.ids))
        sequences += [sequence] * len(chunk.ids)
        wanted += [chunk.all_wanted] * (len(chunk.ids) - 1) + [True]
        active[sequence] = (chunks, position + len(chunk.ids))
        if not chunks:
            del active[sequence]
    engine.decode(tokens, positions, sequences, wanted)


def read_runs(path: Path) -> list[RunTokens]:
    """Return recorded runs, one JSON object a line."""
    return [RunTokens.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_runs(path: Path, runs: Sequence[RunTokens]) -> None:
    """Write recorded runs, one JSON object a line."""
    path.write_text("".join(run.model_dump_json() + "\n" for run in runs), encoding="utf-8")
