"""The logs of Simon Willison's `llm`: its `logs.db`, read as it is and never written.

Two generations of tables are read: the message store (`turns`, `messages`, `parts`) and, for older logs, `responses`.
Every reply that nothing was said after becomes one conversation with all that came before it; a conversation that was
forked is one for each fork. Nobody judged these: they are labelled here, or not learnt. Left out is what holds an
attachment. `llm` keeps no word on whether a tool succeeded but the exception that it raised.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from koboshi_tools import ToolResult, ToolSpec, ToolVerdict, Transport, UsageError

from ..tool_specs import read_tool_spec
from .building import Builder, NamedCall, call_of
from .conversation import Conversation, LeftOut
from .judging import utc

MAGIC = b"SQLite format 3\x00"

_CHAIN = """
WITH RECURSIVE chain (hash, parent_hash, role, depth) AS (
  SELECT hash, parent_hash, role, 0 FROM messages WHERE hash = ?
  UNION ALL SELECT m.hash, m.parent_hash, m.role, depth + 1 FROM messages m JOIN chain c ON m.hash = c.parent_hash
)
SELECT c.hash, c.role, p.type, p.tool_name, p.text, p.payload, p.id AS part_id
FROM chain c JOIN parts p ON p.message_hash = c.hash ORDER BY depth DESC, p.position
"""

# A turn whose last message begins no later one ends a conversation.
_ENDS = """
SELECT t.* FROM turns t WHERE NOT EXISTS (SELECT 1 FROM messages WHERE parent_hash = t.tip_message_hash) ORDER BY t.id
"""


def read_llm_logs(path: Path) -> Iterator[Conversation | LeftOut]:
    """Yield the conversations of a `logs.db` in the order of writing, and why one cannot be taken.

    Raises UsageError for a database that is no such log.
    """
    with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)) as db:
        db.row_factory = sqlite3.Row
        try:
            tables = tables_of(path)
            if not tables & {"turns", "responses"}:
                raise UsageError(f"{path} is a database, and no log of `llm`", hint="Its path: llm logs path")
            if "turns" in tables:
                yield from (_caught(_of_turn, db, row) for row in db.execute(_ENDS).fetchall())
            if "responses" in tables:
                yield from (_caught(_of_responses, db, rows) for rows in _threads(db))
        except sqlite3.Error as error:
            raise UsageError(f"{path} cannot be read: {error}", hint="Its path: llm logs path") from error


def tables_of(path: Path) -> set[str]:
    """Return the names of a database's tables. Raises UsageError if it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path.resolve()))}?mode=ro", uri=True)) as db:
            return {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    except sqlite3.Error as error:
        raise UsageError(f"{path} cannot be read: {error}") from error


def _caught(read: Any, db: sqlite3.Connection, value: Any) -> Conversation | LeftOut:
    try:
        found: Conversation = read(db, value)
        return found
    except LeftOut as reason:
        return reason


def _of_turn(db: sqlite3.Connection, turn: sqlite3.Row) -> Conversation:
    builder, system = Builder(), []
    for role, parts in _messages(db.execute(_CHAIN, (turn["tip_message_hash"],))):
        if role == "system":
            system.append(_texts(db, parts, "text"))
        else:
            _read(db, role, parts, builder)
    tools = db.execute(
        "SELECT * FROM tools WHERE id IN (SELECT tool_id FROM turn_tools WHERE turn_id = ?)", (turn["id"],)
    )
    return Conversation(
        remarks=builder.done(),
        system="\n\n".join(system),
        tools=_specs(tools),
        model=turn["resolved_model"] or turn["model"] or "",
        run_id=turn["id"],
        created_at=utc(turn["datetime_utc"]),
    )


def _messages(rows: Iterable[sqlite3.Row]) -> Iterator[tuple[str, list[sqlite3.Row]]]:
    found: dict[str, list[sqlite3.Row]] = {}
    for row in rows:
        found.setdefault(row["hash"], []).append(row)
    yield from ((parts[0]["role"], parts) for parts in found.values())


def _read(db: sqlite3.Connection, role: str, parts: list[sqlite3.Row], builder: Builder) -> None:
    if any(part["type"] == "attachment" for part in parts):
        raise LeftOut("an attachment, where only text can be learnt")
    results = [_payload(part) for part in parts if part["type"] == "tool_result"]
    for result in results:
        builder.result(result.get("tool_call_id"), _result(result.get("output"), result.get("exception")))
    text = _texts(db, parts, "text")
    if role == "assistant":
        calls = [
            NamedCall(value.get("tool_call_id"), call_of(part["tool_name"], value.get("arguments")))
            for part in parts
            if part["type"] == "tool_call" and not (value := _payload(part)).get("server_executed")
        ]
        builder.response(text, _texts(db, parts, "reasoning"), calls)
    elif text or not results:
        builder.question(text)


def _texts(db: sqlite3.Connection, parts: Iterable[sqlite3.Row], kind: str) -> str:
    return "".join(_text(db, part) for part in parts if part["type"] == kind)


def _text(db: sqlite3.Connection, part: sqlite3.Row) -> str:
    """Return a part's text; one that borrows stored fragments names them among its own words."""
    if part["text"] is not None:
        return str(part["text"])
    pieces = _payload(part).get("text_ref")
    if not isinstance(pieces, list):
        raise LeftOut("a text in a form that is not known")
    return "".join(piece["literal"] if "literal" in piece else _fragment(db, piece["fragment"]) for piece in pieces)


def _fragment(db: sqlite3.Connection, fragment_id: int) -> str:
    row = db.execute("SELECT content FROM fragments WHERE id = ?", (fragment_id,)).fetchone()
    if row is None:
        raise LeftOut("a fragment that is not in the log")
    return str(row["content"])


def _payload(part: sqlite3.Row) -> dict[str, Any]:
    found = json.loads(part["payload"]) if part["payload"] else {}
    return found if isinstance(found, dict) else {}


def _result(output: Any, exception: Any) -> ToolResult:
    verdict = ToolVerdict.ERROR if exception else None
    return ToolResult(transport=Transport.OK, output=str(output or exception or ""), verdict=verdict)


def _specs(rows: Iterable[Mapping[str, Any] | sqlite3.Row]) -> tuple[ToolSpec, ...]:
    return tuple(
        read_tool_spec(
            {
                "name": row["name"],
                "description": row["description"] or "",
                "parameters": json.loads(row["input_schema"] or "{}"),
            }
        )
        for row in rows
    )


def _threads(db: sqlite3.Connection) -> list[list[sqlite3.Row]]:
    """Return the rows of `responses` by conversation, each in the order of time."""
    found: dict[str, list[sqlite3.Row]] = {}
    for row in db.execute("SELECT * FROM responses ORDER BY datetime_utc, id"):
        found.setdefault(row["conversation_id"] or row["id"], []).append(row)
    return list(found.values())


def _of_responses(db: sqlite3.Connection, rows: list[sqlite3.Row]) -> Conversation:
    builder, last = Builder(), rows[-1]
    for row in rows:
        if _of(db, "prompt_attachments", row):
            raise LeftOut("an attachment, where only text can be learnt")
        for result in _of(db, "tool_results", row):
            builder.result(result["tool_call_id"], _result(result["output"], _column(result, "exception")))
        question = "\n".join([*_fragments(db, "prompt_fragments", row), *([row["prompt"]] if row["prompt"] else [])])
        if question:
            builder.question(question)
        calls = [
            NamedCall(call["tool_call_id"], call_of(call["name"], call["arguments"]))
            for call in _of(db, "tool_calls", row)
        ]
        builder.response(row["response"] or "", _column(row, "reasoning") or "", calls)
    offered = "SELECT * FROM tools WHERE id IN (SELECT tool_id FROM tool_responses WHERE response_id = ?)"
    has_tools = bool(db.execute("SELECT 1 FROM sqlite_master WHERE name = 'tool_responses'").fetchone())
    system = [*_fragments(db, "system_fragments", rows[0]), *([rows[0]["system"]] if rows[0]["system"] else [])]
    return Conversation(
        remarks=builder.done(),
        system="\n".join(system),
        tools=_specs(db.execute(offered, (last["id"],))) if has_tools else (),
        model=last["model"] or "",
        run_id=last["id"],
        created_at=utc(last["datetime_utc"]),
    )


def _of(db: sqlite3.Connection, table: str, row: sqlite3.Row) -> list[sqlite3.Row]:
    """Return the rows of a table that belong to a response; none where the log is older than the table."""
    if not db.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchone():
        return []
    return db.execute(f"SELECT * FROM {table} WHERE response_id = ? ORDER BY rowid", (row["id"],)).fetchall()


def _fragments(db: sqlite3.Connection, table: str, row: sqlite3.Row) -> list[str]:
    return [_fragment(db, use["fragment_id"]) for use in _of(db, table, row)]


def _column(row: sqlite3.Row, name: str) -> Any:
    return row[name] if name in row.keys() else None
