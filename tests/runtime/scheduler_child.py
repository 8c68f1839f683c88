"""The process in which `test_scheduler` shares one context: each case is carried out and told as one JSON object.

It is a process of its own because llama.cpp decodes in it (docs/decisions/0004): what the cases need to see of an
engine, no worker shows.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from koboshi_runtime.llama import Engine, EngineSettings, start_backend  # noqa: TID251 - nothing else runs here
from koboshi_runtime.model import GenerateRequest
from koboshi_runtime.worker.jobs import GenerateJob, ScoreJob
from koboshi_runtime.worker.scheduler import Active, Scheduler

CONTEXT_TOKENS = 128
NO_SUCH_ID = 10**6
MOST_STEPS = 100
SHARED = "In a village by the sea there lived an old man who had three sons and a boat with a red sail. " * 2


def writing(engine: Engine, text: str, most: int = 3) -> GenerateJob:
    request = GenerateRequest(prompt_ids=tuple(engine.vocabulary.tokenize(text)), max_tokens=most)
    return GenerateJob(request, engine.vocabulary, None, context_tokens=CONTEXT_TOKENS)


def guided(engine: Engine, text: str, against: str, strength: float = 0.5, most: int = 6) -> GenerateJob:
    prompt, other = (tuple(engine.vocabulary.tokenize(one)) for one in (text, against))
    request = GenerateRequest(prompt_ids=prompt, max_tokens=most, guidance=strength, against_ids=other)
    return GenerateJob(request, engine.vocabulary, None, context_tokens=CONTEXT_TOKENS)


def run(scheduler: Scheduler) -> dict[int, Active]:
    ended: dict[int, Active] = {}
    for _ in range(MOST_STEPS):
        if not scheduler.busy:
            return ended
        ended |= {active.key: active for active in scheduler.step()}
    raise AssertionError(f"still busy after {MOST_STEPS} steps")


def written(active: Active) -> list[int]:
    ids: list[int] = active.job.result()["ids"]
    return ids


def nothing_to_do(engine: Engine, scheduler: Scheduler) -> dict[str, Any]:
    ids = engine.vocabulary.tokenize("Once upon a time")
    scheduler.add(1, ScoreJob(ids, len(ids)))
    scheduler.add(2, writing(engine, "Once upon a time"))
    ended = run(scheduler)
    return {"empty": ended[1].job.result(), "beside": written(ended[2])}


def failed_decode(engine: Engine, scheduler: Scheduler) -> dict[str, Any]:
    scheduler.add(1, writing(engine, "Once upon a time"))
    before = written(run(scheduler)[1])
    scheduler.add(2, ScoreJob([1, NO_SUCH_ID, 2], 1))
    scheduler.add(3, writing(engine, "Once upon a time"))
    failed = run(scheduler)[2]
    scheduler.add(4, writing(engine, "Once upon a time"))
    after = run(scheduler)[4]
    return {"error": str(failed.error), "before": before, "after": written(after), "after_error": after.error}


def long_prompt(engine: Engine, scheduler: Scheduler) -> dict[str, Any]:
    scheduler.add(1, writing(engine, "word " * 100, most=2))
    scheduler.add(2, writing(engine, "Once upon a time", most=5))
    ended = run(scheduler)
    return {"long": written(ended[1]), "beside": written(ended[2])}


def shared_beginning(engine: Engine, scheduler: Scheduler) -> dict[str, Any]:
    scheduler.add(1, writing(engine, SHARED + "He"))
    scheduler.add(2, writing(engine, "Something else entirely, so that both sequences are in use."))
    run(scheduler)
    scheduler.add(3, writing(engine, SHARED + "They"))
    return {"reused": run(scheduler)[3].reused_tokens, "shared": len(engine.vocabulary.tokenize(SHARED))}


def common_beginning(engine: Engine, scheduler: Scheduler) -> dict[str, Any]:
    scheduler.add(1, writing(engine, SHARED + "He"))
    scheduler.add(2, writing(engine, SHARED + "They"))
    ended = run(scheduler)
    shared = len(engine.vocabulary.tokenize(SHARED))
    return {"first": ended[1].reused_tokens, "second": ended[2].reused_tokens, "shared": shared}


def outlived_beginning(engine: Engine, scheduler: Scheduler) -> dict[str, Any]:
    shared = "In a village by the sea there lived an old man who had three sons. "
    scheduler.add(1, writing(engine, shared + "He"))
    scheduler.add(2, writing(engine, shared + "They"))
    expected = written(run(scheduler)[2])
    scheduler.add(3, writing(engine, "Something else."))
    scheduler.add(4, writing(engine, shared + "They"))
    again = run(scheduler)[4]
    return {
        "expected": expected,
        "again": written(again),
        "reused": again.reused_tokens,
        "shared": len(engine.vocabulary.tokenize(shared)),
    }


def waiting_run(engine: Engine, scheduler: Scheduler) -> dict[str, Any]:
    prompt = "In a village by the sea there lived an old man. He"
    scheduler.add(1, writing(engine, prompt), "waiting")
    scheduler.add(2, writing(engine, "Something else."), "other")
    first = written(run(scheduler)[1])
    scheduler.release("other")
    for key, text in ((3, "A third run, that is newer."), (4, "A fourth one.")):
        scheduler.add(key, writing(engine, text), f"run-{key}")
        run(scheduler)
        scheduler.release(f"run-{key}")
    ids = [*engine.vocabulary.tokenize(prompt), *first]
    longer = GenerateRequest(prompt_ids=(*ids, *engine.vocabulary.tokenize(" and so on")), max_tokens=2)
    scheduler.add(5, GenerateJob(longer, engine.vocabulary, None, context_tokens=CONTEXT_TOKENS), "waiting")
    return {"reused": run(scheduler)[5].reused_tokens, "held": len(ids)}


def many_jobs(engine: Engine, scheduler: Scheduler) -> dict[str, Any]:
    for key in range(7):
        scheduler.add(key, writing(engine, f"Number {key} is"))
    return {"ended": sorted(run(scheduler))}


def guided_reply(engine: Engine, scheduler: Scheduler) -> dict[str, Any]:
    text, against = SHARED + "He was glad and", SHARED + "He was sad and"
    scheduler.add(1, writing(engine, text, most=6))
    plain = written(run(scheduler)[1])
    found = {}
    for name, other, strength in (("itself", text, 0.5), ("hardly", against, 1e-6), ("far", against, 3.0)):
        scheduler.add(2, guided(engine, text, other, strength), "run")
        found[name] = run(scheduler)[2]
        scheduler.release("run")
    common = len(engine.vocabulary.tokenize(SHARED + "He was"))
    far = found["far"]
    expected = _guided_by_hand(engine, text, against, written(far), 3.0)
    return {
        "plain": plain,
        "expected": expected,
        **{name: written(active) for name, active in found.items()},
        "decoded": far.decoded_tokens,
        "least": len(engine.vocabulary.tokenize(against)) - common,
        "slots_left": sum(slot.run_id is not None for slot in scheduler._slots),
    }


def _guided_by_hand(engine: Engine, text: str, against: str, ids: list[int], strength: float) -> list[int]:
    """Return the ids that a guided reply has to hold, from whole forward passes over both prompts and `ids`."""
    import numpy as np

    rows = []
    for prompt in (text, against):
        engine.forget(0, 0)
        whole = [*engine.vocabulary.tokenize(prompt), *ids[:-1]]
        wanted = [place >= len(whole) - len(ids) for place in range(len(whole))]
        for start in range(0, len(whole), 64):
            part = slice(start, start + 64)
            made = engine.decode(whole[part], list(range(len(whole)))[part], [0] * len(whole[part]), wanted[part])
            rows.append(made.copy())
    right, wrong = np.concatenate(rows).reshape(2, len(ids), -1)
    right, wrong = (part - np.log(np.exp(part).sum(-1, keepdims=True)) for part in (right, wrong))
    likely = right >= right.max(-1, keepdims=True) + np.log(0.1)
    return [int(at) for at in np.where(likely, (1 + strength) * right - strength * wrong, -np.inf).argmax(-1)]


def guided_beside_others(engine: Engine, scheduler: Scheduler) -> dict[str, Any]:
    for key in range(3):
        scheduler.add(key, guided(engine, f"Number {key} is", f"The number {key} was"), f"run-{key}")
        scheduler.add(key + 10, writing(engine, f"Letter {key} is"))
    ended = run(scheduler)
    scheduler.add(20, guided(engine, "Number 20 is", "The number 20 was", most=60))
    scheduler.step()
    scheduler.cancel(20)
    return {"ended": sorted(ended), "lengths": [len(written(ended[key])) for key in range(3)], "busy": scheduler.busy}


def guided_failure(engine: Engine, scheduler: Scheduler) -> dict[str, Any]:
    job = guided(engine, "Once upon a time", "Twice upon a time")
    assert job.shadow is not None
    job.shadow.pending[-1] = NO_SUCH_ID
    scheduler.add(1, job)
    failed = run(scheduler)[1]
    scheduler.add(2, writing(engine, "Once upon a time"))
    return {"error": str(failed.error), "after": len(written(run(scheduler)[2])), "busy": scheduler.busy}


CASES: tuple[Callable[[Engine, Scheduler], dict[str, Any]], ...] = (
    nothing_to_do,
    failed_decode,
    long_prompt,
    shared_beginning,
    common_beginning,
    outlived_beginning,
    waiting_run,
    many_jobs,
    guided_reply,
    guided_beside_others,
    guided_failure,
)


def main(path: Path) -> None:
    """Carry out every case on a clean context."""
    start_backend()
    settings = EngineSettings(context_tokens=CONTEXT_TOKENS, parallel=2, threads=1, batch_threads=1, batch_tokens=64)
    engine = Engine(path, settings)
    told = {}
    for case in CASES:
        for sequence in range(settings.parallel):
            engine.forget(sequence, 0)
        told[case.__name__] = case(engine, Scheduler(engine))
    print(json.dumps(told))
    engine.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
