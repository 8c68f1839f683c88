"""F23: a night whose model calls a counting tool of every effect class in each run makes no live call but reads."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tests.trainer.conftest import write_tiny_model
from tests.trainer.pipeline_place import GATE_TASKS, PipelinePlace, make_place, sevens

from koboshi_policies import Policy, PolicyLayer
from koboshi_runtime import prompt
from koboshi_runtime.config_values import NightlySettings
from koboshi_runtime.model import Model, PromptProfile
from koboshi_runtime.models.registry import ModelEntry
from koboshi_runtime.records import EndReason, Purpose
from koboshi_runtime.runner import RunSettings
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import RunFilter
from koboshi_runtime.templates_init import write_tasks
from koboshi_tools import Tool, ToolCall, ToolContext, Transport, tool
from koboshi_trainer.fit_values import FitSettings
from koboshi_trainer.morning.report import Kind, Morning
from koboshi_trainer.night.night import NightPlan, run_night
from koboshi_trainer.stages import FitPlan
from koboshi_trainer.workshop import Workshop

pytestmark = pytest.mark.slow

CALLS: Counter[str] = Counter()
TRIED, SAMPLES = 8, 2


def _count(effect: str, context: ToolContext) -> str:
    """Count a call, and leave a mark in the workspace that it was given."""
    CALLS[effect] += 1
    if effect != "read":
        (context.workspace / effect).touch()
    return "counted"


@tool
def look(context: ToolContext) -> str:
    """Read something."""
    return _count("read", context)


@tool(effect="write", sandbox=False)
def put(context: ToolContext) -> str:
    """Write something."""
    return _count("write", context)


@tool(effect="net", sandbox=False)
def send(context: ToolContext) -> str:
    """Send something."""
    return _count("net", context)


@tool(effect="exec", sandbox=False)
def start(context: ToolContext) -> str:
    """Start something."""
    return _count("exec", context)


TOOLS: dict[str, Tool] = {each.spec.name: each for each in (look, put, send, start)}


def _eager(model: Model) -> ScriptedModel:
    """Return a model that calls every tool in its first turn, whatever it is asked, in the ids of `model`."""
    calls = [ToolCall(name=name, arguments={}) for name in TOOLS]
    reply = prompt.reply_pieces(model.info.profile, "", calls)
    info = model.info.model_copy(update={"context_tokens": 1 << 20})
    return ScriptedModel([reply] * 1000, info=info, tokenize=model.tokenize)


@pytest.fixture
def eager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[PipelinePlace, Workshop]]:
    """A workshop whose project has the four tools, all allowed, and whose models call them all."""
    CALLS.clear()
    torch.set_num_threads(1)
    place = make_place(tmp_path, write_tiny_model(tmp_path / "base.gguf", "llama"))
    write_tasks(place.project / "tasks" / "train.jsonl", sevens("try", TRIED))
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nverdict = "allow"\ntools = ["*"]\nreason = "test"\n', encoding="utf-8")
    workshop = place.workshop()
    project = replace(workshop.project, tools=("*",))
    load = Workshop.model

    @asynccontextmanager
    async def model(self: Workshop, entry: ModelEntry, profile: PromptProfile | None = None) -> AsyncIterator[Model]:
        async with load(self, entry, profile) as found:
            # A dataset is built with a profile given; runs are made in the model's own.
            yield found if profile else _eager(found)

    monkeypatch.setattr(Workshop, "model", model)
    yield place, replace(workshop, project=project, tools=TOOLS, policy=Policy.load([PolicyLayer("project", rules)]))
    workshop.close()


@pytest.fixture
def night(eager: tuple[PipelinePlace, Workshop]) -> Morning:
    settings = FitSettings(r=8, alpha=16, learning_rate=0.01, epochs=6, batch_rows=4, dtype="float32")
    nightly = NightlySettings(least_runs=20, least_new=20, rollout_tasks=TRIED, samples=SAMPLES)
    return run_night(eager[1], NightPlan(FitPlan(settings=settings), nightly))


def test_no_call_outside_read_touches_the_live_world(eager: tuple[PipelinePlace, Workshop], night: Morning) -> None:
    place, workshop = eager
    runs = TRIED * SAMPLES + 2 * GATE_TASKS
    assert night.kind is Kind.REFUSED
    assert CALLS == {"read": runs, "write": runs}
    workspace = place.project / "workspace"
    assert [path.name for path in workspace.iterdir()] == []
    assert len(workshop.store.runs(RunFilter(purpose=Purpose.GATE))) == 2 * GATE_TASKS


def test_what_was_not_called_is_counted_and_is_no_failure(
    eager: tuple[PipelinePlace, Workshop], night: Morning
) -> None:
    store = eager[1].store
    rows = [row for purpose in (Purpose.ROLLOUT, Purpose.GATE) for row in store.runs(RunFilter(purpose=purpose))]
    made = [row for row in rows if row.calls]
    assert {row.end_reason for row in made} == {EndReason.NOT_REPLAYABLE}
    refused = [call for call in store.trajectory(made[0].run_id).calls if call.intent.effect in {"net", "exec"}]
    assert [call.result and call.result.transport for call in refused] == [Transport.NOT_EXECUTED] * 2
    assert night.tried == {"unknown": TRIED * SAMPLES}
    assert night.verdict is not None
    assert night.verdict.not_replayable == GATE_TASKS


def test_the_same_calls_do_touch_it_as_real_work(eager: tuple[PipelinePlace, Workshop]) -> None:
    place, workshop = eager

    async def work() -> None:
        async with workshop.model(workshop.registry.current()) as model:
            await workshop.runner(model, RunSettings(purpose=Purpose.WORK)).run(sevens("work", 1)[0])

    asyncio.run(work())
    assert CALLS == dict.fromkeys(("read", "write", "net", "exec"), 1)
    assert {path.name for path in (place.project / "workspace").iterdir()} == {"write", "net", "exec"}
