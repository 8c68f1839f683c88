"""Agents of other people's frameworks on `koboshi serve`."""

import asyncio
from pathlib import Path

import pytest
from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from tests.runtime.serving import Served, served

from koboshi_runtime.records import TurnKind
from koboshi_runtime.scripted import ScriptedModel

CALL = '<tool_call>\n{"name": "stock", "arguments": {"item": "lamp"}}\n</tool_call>'


def agent(server: Served) -> "Agent[None, str]":
    provider = OpenAIProvider(base_url=f"{server.url}/v1", api_key=server.token())
    made = Agent(OpenAIChatModel("current", provider=provider), system_prompt="Be short.")

    @made.tool_plain
    def stock(item: str) -> int:
        """Say how many of an item are in stock."""
        return {"lamp": 4}[item]

    return made


@pytest.mark.parametrize("stream", [False, True])
def test_pydantic_ai_calls_its_tools_and_the_agent_is_one_run(tmp_path: Path, stream: bool) -> None:
    async def carry(server: Served) -> str:
        if not stream:
            return (await agent(server).run("How many lamps?")).output
        async with agent(server).run_stream("How many lamps?") as told:
            return "".join([piece async for piece in told.stream_text(delta=True)])

    with served(tmp_path, ScriptedModel([CALL, "There are 4."])) as server:
        assert asyncio.run(carry(server)) == "There are 4."
        (row,) = server.store.runs()
        stored = server.store.trajectory(row.run_id)
    assert [turn.kind for turn in stored.turns] == [TurnKind.CALL, TurnKind.ANSWER]
    assert [call.result.output for call in stored.calls if call.result] == ["4"]
