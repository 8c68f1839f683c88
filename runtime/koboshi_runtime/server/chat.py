"""`POST /v1/chat/completions` and `GET /v1/models`.

A reply is one turn of a conversation that the client leads (`conversation.turn`): it carries out the calls. Each
response names its run in `X-Koboshi-Run` and its model's hash in `X-Koboshi-Model`. A request has one model from its
first token to its last. A client that goes away ends its reply, which is then not stored.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from koboshi_tools import KoboshiError

from ..conversation.messages import Manner, Message
from ..conversation.turn import Answer, Turn, next_turn
from ..model import Model, ModelInfo
from ..spoken import spoken
from .body import read_body
from .chat_reply import Completion, new_call_ids
from .chat_request import ChatRequest, read_manner, read_messages
from .errors import ApiError, as_api_error, error_body
from .joining import RUN_HEADER
from .service import Service, service_of
from .sse import event, event_stream

MODEL_HEADER = "X-Koboshi-Model"
_DONE = b"data: [DONE]\n\n"
_GONE_STATUS = 499
_Value = TypeVar("_Value")


async def list_models(request: Request) -> Response:
    """Tell the live model, by its name and as `current`."""
    async with service_of(request).models.lease() as model:
        return JSONResponse({"object": "list", "data": [_model(name) for name in _names(model.info)]})


async def show_model(request: Request) -> Response:
    """Tell of one model whether it is the live one."""
    async with service_of(request).models.lease() as model:
        _refuse_other(request.path_params["name"], model.info)
        return JSONResponse(_model(request.path_params["name"]))


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "koboshi"}


def _names(info: ModelInfo) -> tuple[str, ...]:
    return ("current", info.name)


def _refuse_other(asked: str, info: ModelInfo) -> None:
    if asked not in (*_names(info), info.model_hash):
        message = f"the model {asked!r} is not live here: {' or '.join(_names(info))} is"
        raise ApiError(404, message, code="model_not_found", param="model")


async def complete(request: Request) -> Response:
    """Write the next reply of a conversation."""
    service, asked = service_of(request), await read_body(request, ChatRequest)
    asked.refuse_unkeepable()
    manner, heard = read_manner(asked, service.defaults), read_messages(asked.messages)
    async with AsyncExitStack() as stack:
        model = await stack.enter_async_context(service.models.lease())
        _refuse_other(asked.model, model.info)
        messages = await service.joining.recall(model, heard, manner, request.headers.get(RUN_HEADER))
        turn = await stack.enter_async_context(next_turn(model, messages, manner, service.records))
        headers = {RUN_HEADER: turn.run_id, MODEL_HEADER: model.info.model_hash}
        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            told = _told(service, turn, messages, manner, stack.pop_all(), usage=usage)
            return event_stream(told, headers)
        answer = await _unless_gone(request, turn.write())
        call_ids = _remember(service, messages, manner, answer)
        return JSONResponse(Completion(model.info).whole(answer, call_ids), headers=headers)


def _remember(service: Service, messages: list[Message], manner: Manner, answer: Answer) -> tuple[str, ...]:
    call_ids = new_call_ids(answer)
    service.metrics.count_reply(answer)
    service.joining.remember(messages, manner, answer.said, call_ids)
    return call_ids


async def _unless_gone(request: Request, work: Coroutine[Any, Any, _Value]) -> _Value:
    """Return what `work` gives, and give it up when the client goes away."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ApiError(_GONE_STATUS, "the client went away", code="gone")
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()
        with contextlib.suppress(asyncio.CancelledError, KoboshiError):
            await task


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _told(
    service: Service, turn: Turn, messages: list[Message], manner: Manner, held: AsyncExitStack, *, usage: bool
) -> AsyncIterator[bytes]:
    """Yield the chunks of a reply while it is written, then what is known of it in the end."""
    completion = Completion(turn.model.info)
    async with held:
        try:
            yield event(completion.chunk({"role": "assistant", "content": ""}))
            heard, answer = "", None
            async for piece in _followed(turn, manner):
                answer, heard = piece.answer, heard + piece.text
                if piece.text:
                    yield event(completion.chunk({"content": piece.text}))
            assert answer is not None, "a reply that is followed comes to its end"
            if heard != answer.said.text:
                raise ApiError(503, "the reply changed while it was told", code="model_error")
            call_ids = _remember(service, messages, manner, answer)
            if call_ids:
                yield event(completion.calls_chunk(answer, call_ids))
            yield event(completion.chunk({}, answer.finish_reason))
            if usage:
                yield event(completion.usage_chunk(answer))
            yield _DONE
        except KoboshiError as error:
            # The status is sent already: what is left is to say it in the stream.
            yield event(error_body(as_api_error(error)))


class _Heard(NamedTuple):
    """A stretch of a reply, and with the last one the reply."""

    text: str
    answer: Answer | None = None


async def _followed(turn: Turn, manner: Manner) -> AsyncIterator[_Heard]:
    pieces: asyncio.Queue[str | None] = asyncio.Queue()
    writing = asyncio.ensure_future(turn.write(pieces.put_nowait))
    writing.add_done_callback(lambda _: pieces.put_nowait(None))
    text = heard = ""
    try:
        while (piece := await pieces.get()) is not None:
            text += piece
            sure = _heard(turn.model, text, manner)
            if len(sure) > len(heard):
                yield _Heard(sure[len(heard) :])
                heard = sure
        answer = await writing
        yield _Heard(answer.said.text.removeprefix(heard), answer)
    finally:
        writing.cancel()
        with contextlib.suppress(asyncio.CancelledError, KoboshiError):
            await writing


def _heard(model: Model, text: str, manner: Manner) -> str:
    tools, stops = bool(manner.tools), manner.stop_texts
    return spoken(model.info.profile, text, with_tools=tools, stops=stops, whole=False)
