"""Runs, outcomes and approvals over HTTP: the project's agent at work for other programs."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.runtime.serving import Served, served

from koboshi_runtime.conversation.records import Records
from koboshi_runtime.home import open_home
from koboshi_runtime.model import GenerateRequest, Reply, Tell
from koboshi_runtime.records import EndReason, OutcomeLabel, OutcomeSource
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.server.tokens import Scope
from koboshi_runtime.store import Store
from koboshi_runtime.trust import pin_new

CALCULATE = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "2 + 2"}}\n</tool_call>'
PROJECT = {
    "koboshi.toml": '[agent]\nname = "desk"\ntools = ["calculator"]\n',
    "policies/own.toml": '[[rule]]\ntools = ["calculator"]\nverdict = "allow"\nreason = "it reads only"\n',
}
ASKS = {
    **PROJECT,
    "policies/own.toml": '[[rule]]\ntools = ["calculator"]\nverdict = "ask"\nreason = "sums are private"\n',
}

Open = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Open]:
    with ExitStack() as stack:

        def open_server(*replies: str, files: dict[str, str] = PROJECT) -> Served:
            root = tmp_path / "project"
            for name, text in files.items():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(text, encoding="utf-8")
            pin_new(open_home(path=tmp_path / "home"), root)
            return stack.enter_context(served(tmp_path, ScriptedModel(replies), root))

        yield open_server


def events(server: Served, method: str, path: str, **fields: Any) -> list[dict[str, Any]]:
    with server.http() as client, client.stream(method, path, **fields) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream"), answer.read()
        return [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]


def ended(server: Served, run_id: str) -> dict[str, Any]:
    return events(server, "GET", f"/v1/runs/{run_id}/events")[-1]


def test_a_run_is_begun_followed_and_read_back_the_same(serve: Open) -> None:
    server = serve(CALCULATE, "It is 4.")
    told = events(server, "POST", "/v1/runs", json={"prompt": "How much is 2 + 2?", "stream": True})
    assert [each["type"] for each in told] == ["turn", "call", "result", "turn", "end"]
    assert (told[1]["tool"], told[1]["decision"]["verdict"], told[2]["output"]) == ("calculator", "allow", "4")
    end = told[-1]
    assert (end["answer"], end["status"], end["outcome"], end["steps"]) == ("It is 4.", "finished", "unknown", 2)
    again = events(server, "GET", f"/v1/runs/{end['run_id']}/events")
    assert [each["type"] for each in again] == [each["type"] for each in told]
    assert again[-1] == end
    with server.http() as client:
        assert {"type": "end", **client.get(f"/v1/runs/{end['run_id']}").json()} == end
    assert server.store.trajectory(end["run_id"]).header.project == "desk"


def test_a_run_goes_on_when_nobody_follows(serve: Open) -> None:
    server = serve("Done.")
    with server.http() as client:
        begun = client.post("/v1/runs", json={"prompt": "Do it."})
    assert (begun.status_code, begun.json()["status"]) == (202, "running")
    assert begun.headers["x-koboshi-run"] == begun.json()["run_id"]
    assert ended(server, begun.json()["run_id"])["answer"] == "Done."


def test_a_call_that_is_asked_about_is_refused_where_nobody_attends(serve: Open) -> None:
    server = serve(CALCULATE, "I may not.", files=ASKS)
    told = events(server, "POST", "/v1/runs", json={"prompt": "How much is 2 + 2?", "stream": True})
    assert told[2]["transport"] == "denied"
    with server.http(Scope.APPROVE) as client:
        (asked,) = client.get("/v1/approvals").json()["data"]
    assert (asked["call"]["name"], asked["state"]) == ("calculator", "unattended")


def test_an_attended_run_waits_for_the_answer_of_who_may_approve(serve: Open) -> None:
    server = serve(CALCULATE, "It is 4.", files=ASKS)
    with server.http() as client, server.http(Scope.APPROVE) as person:
        run_id = client.post("/v1/runs", json={"prompt": "How much is 2 + 2?", "attended": True}).json()["run_id"]
        while not (waiting := person.get("/v1/approvals").json()["data"]):
            time.sleep(0.02)
        path = f"/v1/approvals/{waiting[0]['approval_id']}"
        assert client.post(path, json={"answer": "approved"}).status_code == 403
        assert person.post(path, json={"answer": "expired"}).status_code == 400
        assert person.post(path, json={"answer": "approved", "who": "ann"}).status_code == 200
        assert person.post(path, json={"answer": "refused"}).json()["error"]["code"] == "answered_already"
    assert ended(server, run_id)["answer"] == "It is 4."
    (call,) = server.store.trajectory(run_id).calls
    assert call.intent.decision.asked == "approved"


def test_an_outcome_that_is_posted_later_counts_and_reaches_the_dataset(serve: Open, tmp_path: Path) -> None:
    from koboshi_trainer.dataset import build_dataset

    server = serve("Done.")
    raw = server.openai().chat.completions.with_raw_response.create(
        model="current", messages=[{"role": "user", "content": "Sort the shelf"}]
    )
    run_id = raw.headers["x-koboshi-run"]
    with server.http(Scope.LABEL) as client:
        given = {"run_id": run_id, "label": "success", "who": "shop", "rationale": "the shelf was sorted", "score": 0.9}
        answer = client.post("/v1/outcomes", json=given)
        assert (answer.status_code, answer.json()) == (201, {"run_id": run_id, "outcome": "success"})
        assert client.post("/v1/outcomes", json={**given, "label": "great"}).status_code == 400
        assert client.post("/v1/outcomes", json={**given, "run_id": "nobody"}).status_code == 400
    stored = server.store.trajectory(run_id)
    (outcome,) = stored.outcomes
    assert (outcome.source, outcome.who, outcome.score) == (OutcomeSource.EVENT, "shop", 0.9)
    segment = [s.ids for s in stored.turns[0].segments][1]
    found = build_dataset([stored], lambda *_: segment, tmp_path / "datasets")
    rows = (*found.train, *found.held_out)
    assert [(row.run_id, row.label) for row in rows] == [(run_id, OutcomeLabel.SUCCESS)]


def test_a_conversation_that_ends_with_a_call_is_closed_by_its_outcome(serve: Open) -> None:
    server = serve(CALCULATE, "Four.")
    tool: Any = {"type": "function", "function": {"name": "calculator"}}
    question: Any = {"role": "user", "content": "How much is 2 + 2?"}
    create = server.openai().chat.completions.with_raw_response.create
    raw = create(model="current", messages=[question], tools=[tool])
    run_id, message = raw.headers["x-koboshi-run"], raw.parse().choices[0].message
    assert server.store.trajectory(run_id).end is None
    with server.http(Scope.LABEL) as client:
        client.post("/v1/outcomes", json={"run_id": run_id, "label": "success"})
    stored = server.store.trajectory(run_id)
    assert (stored.end and stored.end.reason) == EndReason.NOT_EXECUTED
    assert [call.result.transport for call in stored.calls if call.result] == ["not_executed"]
    call_id = (message.tool_calls or [])[0].id
    later: Any = [
        question,
        message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call_id, "content": "4"},
    ]
    again = create(model="current", messages=later, tools=[tool])
    assert again.headers["x-koboshi-run"] != run_id
    assert server.store.trajectory(again.headers["x-koboshi-run"]).header.parent_run_id == run_id


LEAVER = """
import asyncio, sys
from pathlib import Path
from koboshi_runtime.conversation.messages import Asked, Manner
from koboshi_runtime.conversation.turn import Records, answer
from koboshi_runtime.scripted import ScriptedModel
from koboshi_runtime.store import Store
from koboshi_tools import ToolSpec

manner = Manner(tools=(ToolSpec(name="calculator", parameters={"type": "object", "properties": {}}),))
records = Records(Store.open(Path(sys.argv[1])))
print(asyncio.run(answer(ScriptedModel([sys.argv[2]]), [Asked(text="2 + 2?")], manner, records)).said.written.run_id)
"""


def test_a_run_that_a_dead_process_left_open_is_closed_when_nobody_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "traces.db"
    command = [sys.executable, "-c", LEAVER, str(path), CALCULATE]
    run_id = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    records = Records(Store.open(path))
    records.adopt()
    asyncio.run(records.close_idle(3600))
    assert records.store.trajectory(run_id).end is None
    asyncio.run(records.close_idle(0))
    stored = records.store.trajectory(run_id)
    assert (stored.end and stored.end.reason) == EndReason.NOT_EXECUTED
    assert records.open == {}


def test_metrics_count_requests_tokens_and_errors(serve: Open) -> None:
    server = serve("Done.")
    client = server.openai()
    client.chat.completions.create(model="current", messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(Exception, match="not live here"):
        client.chat.completions.create(model="other", messages=[{"role": "user", "content": "Hi"}])
    with server.http() as plain:
        page = plain.get("/metrics").text
    assert 'koboshi_requests_total{path="/v1/chat/completions",status="200"} 1.0' in page
    assert 'koboshi_requests_total{path="/v1/chat/completions",status="404"} 1.0' in page
    assert 'koboshi_tokens_total{kind="written"} 6.0' in page


class Endless:
    """A model that goes on writing until it is told to stop; `stopped` is set then."""

    def __init__(self) -> None:
        scripted = ScriptedModel(())
        self.info, self.tokenize, self.score, self.close = (
            scripted.info,
            scripted.tokenize,
            scripted.score,
            scripted.close,
        )
        self.stopped = threading.Event()

    async def generate(self, request: GenerateRequest) -> Reply:
        return await self.stream(request, lambda _: None)

    async def stream(self, request: GenerateRequest, tell: Tell) -> Reply:
        try:
            while True:
                tell("word ")
                await asyncio.sleep(0.001)
        finally:
            self.stopped.set()


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_ends_its_reply(tmp_path: Path, stream: bool) -> None:
    model = Endless()
    body = {"model": "current", "messages": [{"role": "user", "content": "Hi"}], "stream": stream}
    with served(tmp_path, model) as server:
        if stream:
            with server.http() as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
                next(answer.iter_lines())
        else:
            with server.http() as client, pytest.raises(httpx.ReadTimeout):
                client.post("/v1/chat/completions", json=body, timeout=0.3)
        assert model.stopped.wait(30)
        assert server.store.runs() == []
