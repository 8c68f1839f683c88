"""Logs of `llm` as versions 0.27 and 0.36 wrote them: the same conversations, one file for each kind of tables."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from koboshi_runtime.interchange.conversation import Conversation
from koboshi_runtime.interchange.reading import read_runs
from koboshi_runtime.talk import MadeCall, Question, Response
from koboshi_tools import ToolCall, ToolResult, Transport, UsageError

GOLDEN = Path(__file__).parents[1] / "golden"


def log(folder: Path, version: str) -> Path:
    path = folder / "logs.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript((GOLDEN / f"llm-{version}.sql").read_text(encoding="utf-8"))
        db.commit()
    return path


@pytest.mark.parametrize("version", ["0.27", "0.36"])
def test_conversations_tools_and_fragments_of_a_log_are_read(tmp_path: Path, version: str) -> None:
    found = read_runs(log(tmp_path, version))
    chat, shop, novel = (run for run in found.runs if isinstance(run, Conversation))
    assert found.form == "llm"
    assert found.left_out == {"an attachment, where only text can be learnt": 1}
    assert (chat.system, chat.model) == ("Be short.", "fake")
    assert chat.remarks == (
        Question(text="Ann"),
        Response(text="Hello, Ann"),
        Question(text="Bob"),
        Response(text="Hello, Bob"),
    )
    call = ToolCall(name="stock", arguments={"sku": "A-1"})
    result = ToolResult(transport=Transport.OK, output="4")
    assert shop.remarks[1:] == (
        Response(text="I look.", calls=(MadeCall(call=call, result=result),)),
        Response(text="There are 4."),
    )
    assert [tool.name for tool in shop.tools] == ["stock"]
    assert novel.remarks[0] == Question(text="A long novel.\nSum it up")


def test_another_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE t (a)")
        db.commit()
    with pytest.raises(UsageError, match="no log of `llm`"):
        read_runs(path)
