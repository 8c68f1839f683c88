"""Sharing one context: a job that fails costs nobody else anything, and prefixes are decoded once."""

import pytest

from koboshi_runtime.llama import Engine, EngineSettings, start_backend
from koboshi_runtime.model import GenerateRequest
from koboshi_runtime.worker.jobs import GenerateJob, ScoreJob
from koboshi_runtime.worker.scheduler import Scheduler

pytestmark = [pytest.mark.slow, pytest.mark.model]

CONTEXT_TOKENS = 128
NO_SUCH_ID = 10**6


@pytest.fixture(scope="module")
def engine(smollm2_gguf):
    start_backend()
    settings = EngineSettings(context_tokens=CONTEXT_TOKENS, parallel=2, threads=1, batch_threads=1, batch_tokens=64)
    made = Engine(smollm2_gguf, settings)
    yield made
    made.close()


@pytest.fixture
def scheduler(engine):
    for sequence in range(2):
        engine.forget(sequence, 0)
    return Scheduler(engine)


def writing(engine, text, most=3):
    request = GenerateRequest(prompt_ids=tuple(engine.vocabulary.tokenize(text)), max_tokens=most)
    return GenerateJob(request, engine.vocabulary, None, context_tokens=CONTEXT_TOKENS)


def run(scheduler, most_steps=100):
    ended = {}
    for _ in range(most_steps):
        if not scheduler.busy:
            return ended
        ended |= {active.key: active for active in scheduler.step()}
    raise AssertionError(f"still busy after {most_steps} steps")


def test_a_job_with_nothing_to_do_ends_and_holds_nobody_up(scheduler, engine):
    ids = engine.vocabulary.tokenize("Once upon a time")
    scheduler.add(1, ScoreJob(ids, len(ids)))
    scheduler.add(2, writing(engine, "Once upon a time"))
    ended = run(scheduler)
    assert ended[1].job.result() == {"scores": []}
    assert len(ended[2].job.result()["ids"]) == 3


def test_a_failed_decode_ends_its_jobs_and_the_next_ones_are_unharmed(scheduler, engine):
    scheduler.add(1, writing(engine, "Once upon a time"))
    expected = run(scheduler)[1].job.result()["ids"]
    scheduler.add(2, ScoreJob([1, NO_SUCH_ID, 2], 1))
    scheduler.add(3, writing(engine, "Once upon a time"))
    ended = run(scheduler)
    assert "llama_decode" in str(ended[2].error)
    scheduler.add(4, writing(engine, "Once upon a time"))
    again = run(scheduler)[4]
    assert again.error is None
    assert again.job.result()["ids"] == expected


def test_a_long_prompt_is_decoded_in_parts_beside_a_writer(scheduler, engine):
    scheduler.add(1, writing(engine, "word " * 100, most=2))
    scheduler.add(2, writing(engine, "Once upon a time", most=5))
    ended = run(scheduler)
    assert [len(ended[key].job.result()["ids"]) for key in (1, 2)] == [2, 5]


def test_a_shared_beginning_is_copied_and_not_decoded_again(scheduler, engine):
    shared = "In a village by the sea there lived an old man who had three sons and a boat with a red sail. " * 2
    scheduler.add(1, writing(engine, shared + "He"))
    scheduler.add(2, writing(engine, "Something else entirely, so that both sequences are in use."))
    run(scheduler)
    scheduler.add(3, writing(engine, shared + "They"))
    again = run(scheduler)[3]
    assert again.reused_tokens >= len(engine.vocabulary.tokenize(shared)) - 1


def test_jobs_that_start_together_decode_their_common_beginning_once(scheduler, engine):
    shared = "In a village by the sea there lived an old man who had three sons and a boat with a red sail. " * 2
    scheduler.add(1, writing(engine, shared + "He"))
    scheduler.add(2, writing(engine, shared + "They"))
    ended = run(scheduler)
    assert ended[1].reused_tokens == 0
    assert ended[2].reused_tokens >= len(engine.vocabulary.tokenize(shared)) - 1


def test_a_shared_beginning_outlives_the_run_that_decoded_it(scheduler, engine):
    shared = "In a village by the sea there lived an old man who had three sons. "
    scheduler.add(1, writing(engine, shared + "He"))
    scheduler.add(2, writing(engine, shared + "They"))
    expected = run(scheduler)[2].job.result()["ids"]
    scheduler.add(3, writing(engine, "Something else."))
    scheduler.add(4, writing(engine, shared + "They"))
    ended = run(scheduler)
    assert ended[4].job.result()["ids"] == expected
    assert ended[4].reused_tokens >= len(engine.vocabulary.tokenize(shared)) - 1


def test_a_run_that_waits_for_its_tools_keeps_its_slot_until_it_is_released(scheduler, engine):
    prompt = "In a village by the sea there lived an old man. He"
    scheduler.add(1, writing(engine, prompt), "waiting")
    scheduler.add(2, writing(engine, "Something else."), "other")
    first = run(scheduler)[1].job.result()["ids"]
    scheduler.release("other")
    for key, text in ((3, "A third run, that is newer."), (4, "A fourth one.")):
        scheduler.add(key, writing(engine, text), f"run-{key}")
        run(scheduler)
        scheduler.release(f"run-{key}")
    ids = [*engine.vocabulary.tokenize(prompt), *first]
    longer = GenerateRequest(prompt_ids=(*ids, *engine.vocabulary.tokenize(" and so on")), max_tokens=2)
    scheduler.add(5, GenerateJob(longer, engine.vocabulary, None, context_tokens=CONTEXT_TOKENS), "waiting")
    # The last sampled token was never decoded.
    assert run(scheduler)[5].reused_tokens == len(ids) - 1


def test_more_jobs_than_sequences_all_end(scheduler, engine):
    for key in range(7):
        scheduler.add(key, writing(engine, f"Number {key} is"))
    assert set(run(scheduler)) == set(range(7))
