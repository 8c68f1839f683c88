"""`koboshi serve` with real weights, as a user runs it: clients, other commands on its worker, its end."""

import asyncio
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.serving_process import ServingProcess, make_place, serving

from koboshi_runtime.store import RunFilter, Store

pytestmark = [pytest.mark.slow, pytest.mark.model]

WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


@pytest.fixture(scope="module")
def server(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServingProcess]:
    with serving(*make_place(tmp_path_factory.mktemp("serve"), smollm2_gguf)) as running:
        yield running


def ask(server: ServingProcess, text: str, **fields: Any) -> Any:
    messages: Any = [{"role": "user", "content": text}]
    return server.openai().chat.completions.create(model="current", messages=messages, **fields)


def test_a_stream_says_word_by_word_what_the_whole_reply_says(server: ServingProcess) -> None:
    whole = ask(server, "Name three colours.").choices[0].message.content
    chunks = list(ask(server, "Name three colours.", stream=True))
    said = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices[0].delta.content]
    assert "".join(said) == whole
    assert len(said) > 3


def test_what_a_client_offers_is_called_with_arguments_of_its_schema(server: ServingProcess) -> None:
    for city in ("Rome", "Oslo", "Lima"):
        reply = ask(server, f"What is the weather in {city}?", tools=[WEATHER], max_tokens=48)
        for call in reply.choices[0].message.tool_calls or ():
            assert (call.function.name, list(json.loads(call.function.arguments))) == ("weather", ["city"])


def test_a_forced_call_is_a_call_whatever_was_asked(server: ServingProcess) -> None:
    city = {"type": "string", "enum": ["Rome", "Oslo"]}
    parameters = {"type": "object", "properties": {"city": city}, "required": ["city"], "additionalProperties": False}
    tool = {"type": "function", "function": {"name": "weather", "parameters": parameters}}
    reply = ask(server, "Hello.", tools=[tool], tool_choice="required", parallel_tool_calls=False, max_tokens=64)
    (call,) = reply.choices[0].message.tool_calls or []
    assert (call.function.name, json.loads(call.function.arguments)["city"] in city["enum"]) == ("weather", True)


def test_sixty_four_requests_at_once_are_all_answered_and_stored(server: ServingProcess) -> None:
    before = len(Store.read_only(server.home.traces).runs(RunFilter(limit=None)))

    async def all_at_once() -> list[Any]:
        create: Any = server.openai_async().chat.completions.create
        asked = [[{"role": "user", "content": f"Say {number}."}] for number in range(64)]
        return await asyncio.gather(*(create(model="current", messages=one, max_tokens=4) for one in asked))

    replies = asyncio.run(all_at_once())
    assert len({reply.id for reply in replies}) == 64
    assert len(Store.read_only(server.home.traces).runs(RunFilter(limit=None))) == before + 64


def test_run_uses_the_servers_worker_and_says_the_same(server: ServingProcess) -> None:
    shown = json.loads(server.koboshi("ps", "--json").stdout)
    assert shown["server"]["pid"] == server.process.pid
    (worker,) = shown["workers"]
    assert worker["parent"] == server.process.pid
    alone = server.koboshi("run", "Name a fruit.", "--json")
    assert alone.returncode == 0, alone.stderr
    again = json.loads(server.koboshi("ps", "--json").stdout)["workers"]
    assert [each["pid"] for each in again] == [worker["pid"]]
    assert json.loads(alone.stdout)["answer"] is not None


def test_sockets_and_tokens_are_their_owners_alone(server: ServingProcess) -> None:
    paths = [server.home.run / "api.sock", server.home.run / "model.sock", *server.home.tokens.iterdir()]
    assert len(paths) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}


def test_the_unix_socket_answers_like_the_port_and_wants_a_token_too(server: ServingProcess, tmp_path: Path) -> None:
    # Such a name is at most 107 bytes long, which pytest's folders may exceed.
    link = Path(f"/tmp/koboshi-{server.process.pid}.sock")
    link.symlink_to(server.home.run / "api.sock")
    try:
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(link)), base_url="http://localhost") as client:
            assert client.get("/v1/models").status_code == 401
            told = client.get("/v1/models", headers={"authorization": f"Bearer {server.token()}"})
            assert [model["id"] for model in told.json()["data"]] == ["current", "smollm2"]
    finally:
        link.unlink()


def test_a_second_server_is_refused_and_stop_ends_the_first(smollm2_gguf: Path, tmp_path: Path) -> None:
    home, folder = make_place(tmp_path, smollm2_gguf)
    with serving(home, folder) as first:
        refused = first.koboshi("serve", "--port", "0")
        assert (refused.returncode, "runs on" in refused.stderr, "koboshi stop" in refused.stderr) == (1, True, True)
        begun = httpx.post(
            f"{first.url}/runs", json={"prompt": "Count to ten."}, headers={"authorization": f"Bearer {first.token()}"}
        )
        assert begun.status_code == 202
        stopped = first.koboshi("stop")
        assert (stopped.returncode, stopped.stdout.startswith(f"ended the server {first.process.pid}")) == (0, True)
        assert first.process.wait(10) == 0
        shown = json.loads(first.koboshi("ps", "--json").stdout)
        assert (shown["server"], shown["workers"], shown["runs"]) == (None, [], [])
        assert first.koboshi("stop").returncode == 1
    assert Store.read_only(home.traces).check().ok
