"""What an SQL text does, told from its tokens; SQLite itself is asked where it can be."""

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from koboshi_policies.sql_kinds import sql_kinds


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("select * from t where a = 'x; delete from t'", "select"),
        ("SELECT 1 -- ; drop table t\n", "select"),
        ("/* insert */ values (1)", "select"),
        ("((select 1) union (select 2))", "select"),
        ('select "update", [delete], `drop` from t', "select"),
        ("with x as (select 1) select * from x", "select"),
        ("with x(a) as (select 1), y as (select 2) delete from t", "delete"),
        ("with x as (delete from t returning *) select * from x", "delete select"),
        ("explain query plan select 1", "select"),
        ("explain (analyze, costs) delete from t", "delete"),
        ("explain analyze with x as (select 1) update t set a = 1", "update"),
        ("insert into t values (1)", "insert"),
        ("insert into t values (1) on conflict do update set a = 2", "insert update"),
        ("insert or replace into t values (1)", "insert update"),
        ("replace into t values (1)", "insert update"),
        ("update t set a = 1", "update"),
        ("merge into t using s on 1 = 1 when matched then delete", "delete insert update"),
        ("truncate t", "ddl delete"),
        ("create table t as select 1", "ddl"),
        ("alter table t add c", "ddl"),
        ("drop table t", "ddl"),
        ("select 1; ; select 2;", "select"),
        ("select 1;delete from t", "delete select"),
        ("pragma writable_schema = 1", "other"),
        ("attach 'x.db' as x", "other"),
        ("begin; select 1; commit", "other select"),
        ("select * into t2 from t", "other select"),
        ("copy t to program 'rm'", "other"),
    ],
)
def test_every_statement_of_a_text_is_found(text: str, kinds: str) -> None:
    assert " ".join(sorted(sql_kinds(text))) == kinds


@pytest.mark.parametrize(
    "text",
    [
        r"select 'a\'; delete from t; --'",
        "select $$a$$; delete from t",
        "select 1 # ; delete from t",
        "select 1 --1; delete from t",
        "select 1 -- a\rdelete from t",
        "select /*! delete */ 1",
        "select /* a /* b */ 1 */",
        "select 'open",
        'select "open',
        "select [open",
        "select array[']'], 'x'; delete from t; select 'y'",
        "select 1\0; delete from t",
    ],
)
def test_a_text_that_dialects_read_differently_is_never_only_a_select(text: str) -> None:
    assert sql_kinds(text) != {"select"}


@pytest.mark.parametrize("text", ["", " ; ;", "-- nothing\n", "/* nothing */"])
def test_a_text_without_a_statement_has_no_kind(text: str) -> None:
    with pytest.raises(ValueError, match="no SQL statement"):
        sql_kinds(text)


FRAGMENTS = st.sampled_from(
    (
        *("select 1", "select a from t", "delete from t", "update t set a = 1", "insert into t values (1)"),
        *("with x as (select 1) ", "with y(b) as (values (2)), z as (select 1) ", "explain ", "explain query plan "),
        *(";", " ", "\n", "-- c\n", "/* d */", "'", '"', "[", "]", "`", "(", ")", "--", "/*", "*/", "; ", " union "),
        *("replace into t values (1)", "drop table t", "create table u (b)", "'x'", "'it''s'", '"a"', "returning a"),
    )
)
_WRITES = {
    sqlite3.SQLITE_INSERT: {"insert", "ddl"},
    sqlite3.SQLITE_UPDATE: {"update", "ddl"},
    sqlite3.SQLITE_DELETE: {"delete", "ddl"},
    sqlite3.SQLITE_CREATE_TABLE: {"ddl"},
    sqlite3.SQLITE_DROP_TABLE: {"ddl"},
}


@settings(max_examples=1500, deadline=None)
@given(st.lists(FRAGMENTS, min_size=1, max_size=6))
def test_what_sqlite_would_do_is_among_the_kinds(fragments: list[str]) -> None:
    text = "".join(fragments)
    asked: set[int] = set()
    with sqlite3.connect(":memory:") as database:
        database.execute("create table t (a)")

        def note(action: int, *_: object) -> int:
            asked.add(action)
            return sqlite3.SQLITE_OK

        database.set_authorizer(note)
        try:
            database.executescript(text)
        except (sqlite3.Error, sqlite3.Warning):
            pass
    done = [_WRITES[action] for action in asked if action in _WRITES]
    found = sql_kinds(text) if done else frozenset[str]()
    assert all(found & allowed for allowed in done)
