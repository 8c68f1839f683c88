"""Sessions of Goose: its export (`goose session export --format json`) and its `sessions.db`, read and never written.

Messages are lists of blocks: text, thinking, toolRequest, toolResponse. Goose keeps no definitions of its tools with a
session, so a run with calls can be looked at and compared, and is not learnt (`not_offered`).
"""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ValidationError

from koboshi_tools import ToolResult, ToolVerdict, Transport, UsageError

from .building import Builder, NamedCall, call_of, text_of
from .conversation import Conversation, LeftOut


class _Value(BaseModel):
    status: str = "success"
    value: Any = None
    error: str | None = None


class _Block(BaseModel):
    type: str
    id: str | None = None
    text: str | None = None
    thinking: str | None = None
    toolCall: _Value | None = None
    toolResult: _Value | None = None


class _Message(BaseModel):
    role: Literal["user", "assistant"]
    content: list[_Block]
    created: int | None = None


class _Model(BaseModel):
    model_name: str = ""


class _Session(BaseModel):
    id: str | None = None
    conversation: list[_Message]
    model_config_: _Model | None = None


_IGNORED = frozenset({"redactedThinking", "systemNotification", "actionRequired", "toolConfirmationRequest"})


def read_goose(value: Mapping[str, Any]) -> Conversation:
    """Return the conversation of an exported session. Raises ValueError for a bad one, LeftOut."""
    # `model_config` is a name that pydantic keeps for itself.
    named = {**value, "model_config_": value.get("model_config")}
    session = _Session.model_validate(named)
    builder = Builder()
    for message in session.conversation:
        _read(message, builder)
    times = [message.created for message in session.conversation if message.created]
    return Conversation(
        remarks=builder.done(),
        model=session.model_config_.model_name if session.model_config_ else "",
        run_id=session.id,
        created_at=datetime.fromtimestamp(times[0], UTC).isoformat(timespec="milliseconds") if times else None,
    )


def read_goose_sessions(path: Path) -> Iterator[Conversation | LeftOut]:
    """Yield the sessions of a `sessions.db`, oldest first. Raises UsageError for a database that is none."""
    with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        try:
            for session in db.execute("SELECT id, model_config_json FROM sessions ORDER BY created_at, id").fetchall():
                yield _caught(db, session)
        except (sqlite3.Error, ValueError) as error:
            raise UsageError(f"{path} cannot be read as sessions of Goose: {error}") from error


def _caught(db: sqlite3.Connection, session: sqlite3.Row) -> Conversation | LeftOut:
    sql = "SELECT role, content_json, created_timestamp FROM messages WHERE session_id = ? ORDER BY id"
    messages = [
        {"role": row["role"], "content": json.loads(row["content_json"]), "created": _seconds(row["created_timestamp"])}
        for row in db.execute(sql, (session["id"],))
    ]
    model = json.loads(session["model_config_json"] or "{}")
    try:
        return read_goose({"id": session["id"], "conversation": messages, "model_config": model})
    except ValidationError as error:
        raise ValueError(error.errors()[0]["msg"]) from error
    except LeftOut as reason:
        return reason


def _seconds(timestamp: int) -> int:
    """Return a time in seconds: older versions of Goose wrote milliseconds."""
    return timestamp // 1000 if timestamp > 1 << 36 else timestamp


def _read(message: _Message, builder: Builder) -> None:
    known = {"text", "thinking", "toolRequest", "toolResponse", *_IGNORED}
    if strange := [block.type for block in message.content if block.type not in known]:
        raise LeftOut(f"content of type {strange[0][:40]!r}, where only text can be learnt")
    for block in message.content:
        if block.type == "toolResponse":
            builder.result(block.id, _result(block.toolResult or _Value()))
    text = "".join(block.text or "" for block in message.content if block.type == "text")
    if message.role == "assistant":
        thought = "".join(block.thinking or "" for block in message.content if block.type == "thinking")
        builder.response(text, thought, [_call(block) for block in message.content if block.type == "toolRequest"])
    elif text:
        builder.question(text)


def _call(block: _Block) -> NamedCall:
    value = block.toolCall.value if block.toolCall else None
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise LeftOut("a call that could not be read when it was made")
    return NamedCall(block.id, call_of(value["name"], value.get("arguments")))


def _result(found: _Value) -> ToolResult:
    if found.status != "success":
        return ToolResult(transport=Transport.ERROR, output=found.error or "")
    value = found.value
    parts, failed = (value.get("content"), value.get("isError")) if isinstance(value, dict) else (value, False)
    verdict = ToolVerdict.ERROR if failed else ToolVerdict.OK
    return ToolResult(transport=Transport.OK, output=text_of(parts), verdict=verdict)
