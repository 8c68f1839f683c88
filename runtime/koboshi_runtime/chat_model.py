"""`ChatKoboshi`: a local model as a LangChain chat model, for LangGraph graphs of one's own.

The graph leads: it carries out the calls and decides what comes next. Koboshi writes the turns, holds each call to its
tool's schema, and stores every conversation as runs (`conversation.turn` says how), so that they can be labelled and
trained on. A reply says in `response_metadata["koboshi"]` which run it belongs to and which ids it is made of; it
travels with the message, so that a conversation goes on in another process.

Covered: system, human, AI and tool messages of text; `bind_tools`; `invoke`, `ainvoke`, and what LangChain builds on
them. Not covered: images and other content blocks; being forced to call a tool; tokens as they are written.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from .telemetry import force_off

force_off()

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun  # noqa: E402
from langchain_core.language_models import BaseChatModel, LanguageModelInput  # noqa: E402
from langchain_core.messages import (  # noqa: E402
    AIMessage,
    BaseMessage,
    HumanMessage,
    InvalidToolCall,
    SystemMessage,
    ToolMessage,
)
from langchain_core.outputs import ChatGeneration, ChatResult  # noqa: E402
from langchain_core.runnables import Runnable  # noqa: E402
from langchain_core.tools import BaseTool  # noqa: E402
from langchain_core.utils.function_calling import convert_to_openai_tool  # noqa: E402
from pydantic import PrivateAttr  # noqa: E402

from koboshi_tools import ToolCall, UsageError  # noqa: E402

from .config import load_config  # noqa: E402
from .conversation.messages import Asked, CallOutput, Manner, Message, Said, Told, Written  # noqa: E402
from .conversation.turn import Answer, Records, answer  # noqa: E402
from .home import open_home  # noqa: E402
from .ids import new_id  # noqa: E402
from .loop_thread import LoopThread  # noqa: E402
from .model import Model  # noqa: E402
from .models.registry import Registry  # noqa: E402
from .session import load_model  # noqa: E402
from .store import Store  # noqa: E402
from .tool_specs import read_tool_spec  # noqa: E402

_KEY = "koboshi"


class ChatKoboshi(BaseChatModel):
    """A registered model; use it as a context manager, or close it: its worker holds the model in memory.

    `project` is the name under which conversations are stored.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    max_tokens: int = 512
    project: str = "chat"
    _model: Model = PrivateAttr()
    _records: Records = PrivateAttr()
    _loop: LoopThread = PrivateAttr()

    def __init__(self, model: str | Model = "current", *, home: Path | str | None = None, **fields: Any) -> None:
        """Load the model that `model` names in the home; a `Model` is used as it is.

        Raises KoboshiError: no such model, or one that does not load.
        """
        super().__init__(**fields)
        place = open_home(path=Path(home).absolute() if home else None)
        self._loop, self._records = LoopThread(), Records(Store.open(place.traces))
        try:
            if isinstance(model, str):
                settings = load_config(None).settings
                self._model = self._loop.wait(load_model(place, Registry(place).resolve(model), settings))
            else:
                self._model = model
        except BaseException:
            self._loop.close()
            self._records.store.close()
            raise

    @property
    def _llm_type(self) -> str:
        return _KEY

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Offer `tools` in every call. Raises UsageError for a `tool_choice` other than `auto`."""
        if tool_choice not in (None, "auto"):
            raise UsageError(f"tool_choice {tool_choice!r} cannot be kept", hint="leave it out: the model chooses")
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools], **kwargs)

    def close(self) -> None:
        """End the model's worker and close the store; safe to call twice."""
        if not self._loop.closed:
            self._loop.wait(self._model.close())
            self._loop.close()
            self._records.store.close()

    def __enter__(self) -> "ChatKoboshi":
        return self

    def __exit__(self, *ended: object) -> None:
        self.close()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _result(self._loop.wait(self._answer(messages, stop, kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _result(await self._loop.ask(self._answer(messages, stop, kwargs)))

    async def _answer(self, messages: list[BaseMessage], stop: list[str] | None, given: dict[str, Any]) -> Answer:
        manner = Manner(
            system=_system(messages),
            tools=tuple(read_tool_spec(tool) for tool in given.get("tools", ())),
            temperature=given.get("temperature", self.temperature),
            top_p=self.top_p,
            seed=given.get("seed", self.seed),
            max_tokens=given.get("max_tokens", self.max_tokens),
            stop_texts=tuple(stop or ()),
            project=self.project,
        )
        return await answer(self._model, _conversation(messages), manner, self._records)


def _system(messages: Sequence[BaseMessage]) -> str:
    if any(isinstance(message, SystemMessage) for message in messages[1:]):
        raise UsageError("a system message stands behind the first message", hint="put what it says into the first one")
    return _text(messages[0]) if messages and isinstance(messages[0], SystemMessage) else ""


def _conversation(messages: Sequence[BaseMessage]) -> list[Message]:
    """Return the messages in our words; the results of one reply's calls are one message."""
    found: list[Message] = []
    for message in messages:
        match message:
            case SystemMessage():
                continue
            case HumanMessage():
                found.append(Asked(text=_text(message)))
            case AIMessage():
                found.append(_said(message))
            case ToolMessage():
                before = found[-1].results if found and isinstance(found[-1], Told) else ()
                results = (*before, _call_output(messages, message))
                found = [*(found[:-1] if before else found), Told(results=results)]
            case _:
                raise UsageError(f"a {type(message).__name__} cannot be told to a model here")
    return found


def _said(message: AIMessage) -> Said:
    calls = tuple(ToolCall(name=call["name"], arguments=call["args"]) for call in message.tool_calls)
    kept = message.response_metadata.get(_KEY)
    return Said(text=_text(message), calls=calls, written=Written.model_validate(kept) if kept else None)


def _call_output(messages: Sequence[BaseMessage], message: ToolMessage) -> CallOutput:
    names = {call["id"]: call["name"] for m in messages if isinstance(m, AIMessage) for call in m.tool_calls}
    name = message.name or names.get(message.tool_call_id) or "tool"
    return CallOutput(tool=name, output=_text(message), failed=message.status == "error")


def _text(message: BaseMessage) -> str:
    if isinstance(message.content, str):
        return message.content
    blocks = [{"type": "text", "text": block} if isinstance(block, str) else block for block in message.content]
    other = [str(block.get("type")) for block in blocks if block.get("type") != "text"]
    if other:
        raise UsageError(f"a message holds a block of type {other[0]!r}", hint="this model reads text only")
    return "".join(block["text"] for block in blocks)


def _result(made: Answer) -> ChatResult:
    said, reply, written = made.said, made.reply, made.said.written
    assert written is not None
    invalid = [InvalidToolCall(name=None, args=reply.text, id=new_id(), error=written.error, type="invalid_tool_call")]
    message = AIMessage(
        content="" if written.error else said.text,
        tool_calls=[{"name": call.name, "args": dict(call.arguments), "id": new_id()} for call in said.calls],
        invalid_tool_calls=invalid if written.error else [],
        response_metadata={
            _KEY: written.model_dump(mode="json"),
            "finish_reason": made.finish_reason,
        },
        usage_metadata={
            "input_tokens": made.prompt_tokens,
            "output_tokens": len(reply.ids),
            "total_tokens": made.prompt_tokens + len(reply.ids),
        },
    )
    return ChatResult(generations=[ChatGeneration(message=message)])
