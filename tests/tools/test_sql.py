"""The sql tool reads one database, and no query changes anything."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from koboshi_tools import ToolContext, ToolError, UsageError, hash_file
from koboshi_tools.builtin import sql as module
from koboshi_tools.builtin.sql import sql

ATTACKS = [
    "INSERT INTO stock VALUES ('x', 1, 1)",
    "UPDATE stock SET price = 0",
    "DELETE FROM stock",
    "REPLACE INTO stock VALUES ('x', 1, 1)",
    "DROP TABLE stock",
    "ALTER TABLE stock RENAME TO s",
    "CREATE TABLE t (a)",
    "CREATE TEMP TABLE t AS SELECT * FROM stock",
    "CREATE INDEX i ON stock(price)",
    "CREATE VIEW v AS SELECT 1",
    "CREATE TRIGGER t AFTER INSERT ON stock BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE t USING fts5(a)",
    "SELECT 1; DELETE FROM stock",
    "WITH x AS (SELECT 1) DELETE FROM stock",
    "INSERT INTO stock SELECT * FROM stock RETURNING *",
    "ATTACH DATABASE 'other.db' AS o",
    "ATTACH DATABASE ':memory:' AS o",
    "DETACH DATABASE main",
    "VACUUM",
    "VACUUM INTO 'copy.db'",
    "REINDEX",
    "ANALYZE",
    "BEGIN IMMEDIATE",
    "SAVEPOINT s",
    "PRAGMA query_only = OFF",
    "PRAGMA writable_schema = ON",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA user_version = 7",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA database_list",
    "SELECT load_extension('x.so')",
    "SELECT writefile('x', 'y')",
    "SELECT readfile('/etc/passwd')",
    "SELECT fts3_tokenizer('simple', x'00')",
]


@pytest.fixture
def context(tmp_path: Path) -> ToolContext:
    with closing(sqlite3.connect(tmp_path / "shop.db")) as connection, connection:
        connection.execute("CREATE TABLE stock (product TEXT, quantity INTEGER, price REAL)")
        connection.execute("CREATE INDEX by_price ON stock(price)")
        connection.executemany("INSERT INTO stock VALUES (?, ?, ?)", [("pen", 5, 1.5), ("cup", None, 9.99)])
    return ToolContext(tmp_path, {"database": "shop.db"})


def ask(query: str, context: ToolContext) -> str:
    return str(sql.function(query, context))


@pytest.mark.parametrize("query", ATTACKS)
def test_no_query_changes_the_database_or_its_folder(query: str, context: ToolContext) -> None:
    file = context.workspace / "shop.db"
    before = hash_file(file)
    with pytest.raises(ToolError):
        ask(query, context)
    assert hash_file(file) == before
    assert [path.name for path in context.workspace.iterdir()] == ["shop.db"]


def test_rows_come_under_their_names(context: ToolContext) -> None:
    assert ask("SELECT * FROM stock ORDER BY price", context) == (
        "product | quantity | price\npen | 5 | 1.5\ncup | NULL | 9.99"
    )


def test_the_schema_can_be_looked_at(context: ToolContext) -> None:
    assert "stock" in ask("SELECT name FROM sqlite_master", context)
    assert "quantity" in ask("PRAGMA table_info(stock)", context)


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("SELECT * FROM stock WHERE 0", "no rows"),
        ("SELECT x'0102' AS b", "b\n<2 bytes>"),
        ("SELECT 19.99 * 3 AS total", "total\n59.97"),
        ("SELECT 'a' || char(10) || 'b' AS t", "t\na b"),
        ("SELECT CAST(x'ff41' AS TEXT) AS t", "t\n\ufffdA"),
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3) SELECT sum(i) AS s FROM n",
            "s\n6",
        ),
    ],
)
def test_answers_are_compact(query: str, answer: str, context: ToolContext) -> None:
    assert ask(query, context) == answer


def test_rows_and_cells_are_bounded(context: ToolContext) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 99) SELECT i FROM n"
    lines = ask(numbers, context).splitlines()
    assert (len(lines), lines[-1]) == (52, "(only the first 50 rows)")
    assert len(ask("SELECT printf('%5000d', 1) || 'x' || replace(hex(zeroblob(900)), '00', 'ab') AS t", context)) == 203


def test_sqlite_says_what_is_wrong(context: ToolContext) -> None:
    with pytest.raises(ToolError, match="no such column: cost"):
        ask("SELECT cost FROM stock", context)
    with pytest.raises(ToolError, match="only SELECT is possible"):
        ask("DELETE FROM stock", context)
    with pytest.raises(ToolError, match="too big"):
        ask("SELECT zeroblob(100000000)", context)
    with pytest.raises(ToolError, match="binding"):
        ask("SELECT ?", context)


def test_a_query_without_end_is_stopped(context: ToolContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TIME_LIMIT_S", 0.05)
    with pytest.raises(ToolError, match="more than 0.05 s"):
        ask("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n", context)


@pytest.mark.parametrize("database", [None, "", "none.db", "../shop.db", "/etc/passwd", "link.db", 5])
def test_a_database_that_is_not_in_the_workspace_is_the_operators_error(tmp_path: Path, database: object) -> None:
    workspace = tmp_path / "w"
    workspace.mkdir()
    (tmp_path / "shop.db").touch()
    (workspace / "link.db").symlink_to(tmp_path / "shop.db")
    with pytest.raises(UsageError, match="database"):
        ask("SELECT 1", ToolContext(workspace, {"database": database}))


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "x.db").write_bytes(b"not a database" * 100)
    with pytest.raises(ToolError, match="not a database"):
        ask("SELECT * FROM t", ToolContext(tmp_path, {"database": "x.db"}))


def test_a_name_with_uri_signs_opens_that_file(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a?mode=rwc#b%41.db")) as connection, connection:
        connection.execute("CREATE TABLE t (a)")
    assert ask("SELECT count(*) AS n FROM t", ToolContext(tmp_path, {"database": "a?mode=rwc#b%41.db"})) == "n\n0"
