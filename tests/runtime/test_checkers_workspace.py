"""Checkers that look at what a run left behind, and programs that judge."""

import hashlib
import os
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from koboshi_runtime.checkers import (
    CheckSettings,
    CommandChecker,
    Finished,
    SchemaCheck,
    SqlChecker,
    judge,
    judge_checks,
    refuse_commands,
)
from koboshi_runtime.records import OutcomeLabel, OutcomeSource
from koboshi_tools import UsageError


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    folder.mkdir()
    connection = sqlite3.connect(folder / "shop.db")
    connection.executescript("CREATE TABLE t(a, b); INSERT INTO t VALUES (1, 'x'), (2.5, NULL)")
    connection.close()
    return folder


def sql(**fields: Any) -> SqlChecker:
    return SqlChecker.model_validate({"kind": "sql", "database": "shop.db"} | fields)


def rows_of(checker: SqlChecker, workspace: Path | None) -> OutcomeLabel:
    return judge(checker, Finished("done", workspace=workspace)).label


@pytest.fixture
def checks(tmp_path: Path) -> Path:
    folder = tmp_path / "checks"
    folder.mkdir()
    return folder


def program(checks: Path, text: str, **fields: Any) -> CommandChecker:
    (checks / "check.py").write_text(text, encoding="utf-8")
    return CommandChecker.model_validate({"kind": "command", "file": "check.py"} | fields)


def test_rows_are_compared_in_any_order_unless_ordered(workspace: Path) -> None:
    swapped = ((2.5, None), (1.0, "x"))
    assert rows_of(sql(query="SELECT * FROM t", rows=swapped), workspace) is OutcomeLabel.SUCCESS
    assert rows_of(sql(query="SELECT * FROM t", rows=swapped, ordered=True), workspace) is OutcomeLabel.FAILURE
    assert rows_of(sql(query="SELECT * FROM t", rows=()), workspace) is OutcomeLabel.FAILURE


@pytest.mark.parametrize("query", ["SELECT nothing", "DELETE FROM t", "CREATE TABLE u(a)", ""])
def test_a_query_that_cannot_be_asked_is_a_failure(workspace: Path, query: str) -> None:
    before = (workspace / "shop.db").read_bytes()
    assert rows_of(sql(query=query, rows=((9,),)), workspace) is OutcomeLabel.FAILURE
    assert (workspace / "shop.db").read_bytes() == before


def test_a_database_behind_a_link_out_of_the_workspace_is_not_opened(workspace: Path, tmp_path: Path) -> None:
    os.rename(workspace / "shop.db", tmp_path / "outside.db")
    (workspace / "shop.db").symlink_to(tmp_path / "outside.db")
    assert rows_of(sql(query="SELECT 1", rows=((1,),)), workspace) is OutcomeLabel.FAILURE


def test_a_missing_workspace_or_database_is_a_failure(tmp_path: Path) -> None:
    assert rows_of(sql(query="SELECT 1", rows=((1,),)), None) is OutcomeLabel.FAILURE
    assert rows_of(sql(query="SELECT 1", rows=((1,),)), tmp_path) is OutcomeLabel.FAILURE


@pytest.mark.parametrize(
    ("code", "label"), [(0, OutcomeLabel.SUCCESS), (1, OutcomeLabel.FAILURE), (7, OutcomeLabel.UNKNOWN)]
)
def test_the_exit_code_of_a_program_is_its_verdict(checks: Path, code: int, label: OutcomeLabel) -> None:
    checker = program(checks, f"print('why'); raise SystemExit({code})")
    outcome = judge(checker, Finished("5"), CheckSettings(allow_commands=True, checks=checks))
    assert (outcome.label, outcome.rationale, outcome.who) == (label, "why", "command")


def test_a_program_is_told_the_run_and_starts_outside_the_workspace(checks: Path, workspace: Path) -> None:
    text = (
        "import json, os, pathlib, sys\n"
        "told = json.load(sys.stdin)\n"
        "there = pathlib.Path(told['workspace'])\n"
        "ok = told['answer'] == '5' and (there / 'shop.db').exists() and not pathlib.Path.cwd().is_relative_to(there)\n"
        "raise SystemExit(0 if ok and sys.argv[1:] == ['x'] else 1)\n"
    )
    checker = program(checks, text, arguments=["x"])
    settings = CheckSettings(allow_commands=True, checks=checks)
    assert judge(checker, Finished("5", workspace=workspace), settings).label is OutcomeLabel.SUCCESS


def test_a_program_that_does_not_end_leaves_the_outcome_unknown(checks: Path) -> None:
    checker = program(checks, "while True: pass", timeout_s=0.3)
    outcome = judge(checker, Finished("5"), CheckSettings(allow_commands=True, checks=checks))
    assert outcome.label is OutcomeLabel.UNKNOWN


def test_programs_are_refused_before_anything_runs_unless_allowed(checks: Path, tmp_path: Path) -> None:
    checker = program(checks, f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(UsageError) as caught:
        refuse_commands([None, checker], CheckSettings(checks=checks))
    assert "--allow-command-checkers" in str(caught.value.hint)
    assert not (tmp_path / "ran").exists()


def test_a_program_that_is_not_the_pinned_one_is_refused(checks: Path) -> None:
    settings = CheckSettings(allow_commands=True, checks=checks)
    text = "raise SystemExit(0)"
    pinned = program(checks, text, sha256=hashlib.sha256(text.encode()).hexdigest())
    assert judge(pinned, Finished("5"), settings).label is OutcomeLabel.SUCCESS
    (checks / "check.py").write_text("raise SystemExit(0) # changed", encoding="utf-8")
    with pytest.raises(UsageError, match="the task pins"):
        refuse_commands([pinned], settings)


def test_a_program_behind_a_link_out_of_its_folder_is_refused(checks: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.py").write_text("", encoding="utf-8")
    (checks / "check.py").symlink_to(tmp_path / "outside.py")
    checker = CommandChecker(kind="command", file="check.py")
    with pytest.raises(UsageError, match="holds no file"):
        refuse_commands([checker], CheckSettings(allow_commands=True, checks=checks))


def test_project_checks_must_all_pass(workspace: Path) -> None:
    schema = SchemaCheck.model_validate({"kind": "schema", "schema": {"type": "integer"}})
    rows = sql(query="SELECT COUNT(*) FROM t", rows=((2,),))
    passed = judge_checks((schema, rows), Finished("5", workspace=workspace))
    failed = judge_checks((schema, rows), Finished("five", workspace=workspace))
    assert passed is not None
    assert failed is not None
    assert (passed.label, passed.source) == (OutcomeLabel.SUCCESS, OutcomeSource.PROJECT_CHECK)
    assert (failed.label, failed.who) == (OutcomeLabel.FAILURE, "schema")
    assert judge_checks((), Finished("5")) is None
