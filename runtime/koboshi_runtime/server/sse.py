"""Server-sent events: a stream of JSON values over one response."""

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from starlette.responses import StreamingResponse


def event(value: Any, name: str | None = None) -> bytes:
    """Return one event; `value` is JSON, in ASCII, so that no line break of it ends the event."""
    data = f"data: {json.dumps(value)}\n\n"
    return (f"event: {name}\n{data}" if name else data).encode()


def event_stream(events: AsyncIterator[bytes], headers: Mapping[str, str]) -> StreamingResponse:
    """Return the response that sends events as they come; the iterator is closed when the client goes."""
    told = {**headers, "cache-control": "no-store", "x-accel-buffering": "no"}
    return StreamingResponse(events, media_type="text/event-stream", headers=told)
