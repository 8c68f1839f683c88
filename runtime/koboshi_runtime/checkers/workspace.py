"""Judging what a run left behind: a query on a database of its workspace, or a program of the project.

The workspace was in the model's hands. Covered: the database is opened read-only and not through a link that leaves
the workspace, and the query has a time limit; a program comes from the project's `checks` folder, is hashed and copied
before it runs, runs in a fresh folder with a time limit, and its whole process group is killed after it. Not covered:
what the program itself does with the workspace's files.
"""

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from koboshi_tools import KoboshiError, ToolCall, UsageError, hash_bytes

from ..records import OutcomeLabel
from .specs import CommandChecker, SqlChecker
from .values import same_json

_QUERY_SECONDS = 5.0
_MAX_ROWS = 10_000
_PROGRESS_STEPS = 10_000
_READ_BYTES = 4096


def wrong_rows(checker: SqlChecker, workspace: Path) -> str | None:
    """Return why the query's rows are not the expected ones, or None if they are."""
    path = (workspace / checker.database).resolve()
    if not path.is_relative_to(workspace.resolve()) or not path.is_file():
        return f"the workspace has no database {checker.database!r}"
    try:
        found = _rows(path, checker.query)
    except sqlite3.Error as error:
        return f"the query failed: {error}"
    expected: list[list[object]] = [list(row) for row in checker.rows]
    if not checker.ordered:
        found, expected = sorted(found, key=_sort_key), sorted(expected, key=_sort_key)
    return (
        None if same_json(found, expected) else f"{len(found)} rows are not the {len(expected)} expected: {found[:2]!r}"
    )


def _rows(path: Path, query: str) -> list[list[object]]:
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    until = time.monotonic() + _QUERY_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > until, _PROGRESS_STEPS)
    try:
        connection.execute("PRAGMA query_only = ON")
        return [list(row) for row in connection.execute(query).fetchmany(_MAX_ROWS)]
    finally:
        connection.close()


def _sort_key(row: Sequence[object]) -> list[tuple[str, float, str]]:
    return [
        ("number", float(cell), "") if isinstance(cell, (int, float)) else (type(cell).__name__, 0.0, str(cell))
        for cell in row
    ]


def command_file(checker: CommandChecker, checks: Path | None) -> Path:
    """Return the program's path; UsageError if the checks folder lacks it, or it is not the pinned one."""
    if checks is None:
        raise UsageError(
            f"the command checker {checker.file!r} has no project", hint="Pass -C DIR with a checks folder."
        )
    path = (checks / checker.file).resolve()
    if not path.is_relative_to(checks.resolve()) or not path.is_file():
        raise UsageError(f"the checks folder {checks} holds no file {checker.file!r}")
    found = hash_bytes(path.read_bytes()).removeprefix("sha256:")
    if checker.sha256 not in {None, found}:
        raise UsageError(
            f"{path} has sha256 {found}, and the task pins {checker.sha256}", hint="Review it, then pin it anew."
        )
    return path


def run_command(
    checker: CommandChecker,
    *,
    checks: Path | None,
    workspace: Path | None,
    answer: str | None,
    calls: tuple[ToolCall, ...],
) -> tuple[OutcomeLabel, str]:
    """Return the program's verdict and its last line of output.

    It gets one JSON object on stdin: `answer`, `calls` (name and arguments), `workspace` (a path, or null). A `.py`
    file is run by this Python, isolated; any other file is executed.
    """
    told = {"answer": answer, "calls": [call.model_dump() for call in calls], "workspace": workspace and str(workspace)}
    with tempfile.TemporaryDirectory(prefix="koboshi-check-") as folder:
        copy = Path(folder) / Path(checker.file).name
        copy.write_bytes(command_file(checker, checks).read_bytes())
        copy.chmod(0o500)
        python = [sys.executable, "-I"] if copy.suffix == ".py" else []
        return _verdict([*python, str(copy), *checker.arguments], json.dumps(told), folder, checker.timeout_s)


def _verdict(arguments: list[str], told: str, folder: str, timeout_s: float) -> tuple[OutcomeLabel, str]:
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": folder, "LANG": "C.UTF-8"}
    # Files and not pipes: a process that the program leaves behind could hold a pipe open for ever.
    with tempfile.TemporaryFile() as asked, tempfile.TemporaryFile() as said:
        asked.write(told.encode())
        asked.seek(0)
        try:
            process = subprocess.Popen(
                arguments,
                stdin=asked,
                stdout=said,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise KoboshiError(f"the check {arguments[0]!r} cannot be started: {error}") from error
        code = _exit_code(process, timeout_s)
        said.seek(max(0, os.fstat(said.fileno()).st_size - _READ_BYTES))
        lines = said.read(_READ_BYTES).decode(errors="replace").strip().splitlines()
    if code is None:
        return OutcomeLabel.UNKNOWN, f"the check did not end within {timeout_s:g} s"
    label = {0: OutcomeLabel.SUCCESS, 1: OutcomeLabel.FAILURE}.get(code, OutcomeLabel.UNKNOWN)
    return label, lines[-1][:200] if lines else f"exit code {code}"


def _exit_code(process: subprocess.Popen[bytes], timeout_s: float) -> int | None:
    """Wait for the program and end its whole process group; None if it was still running."""
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
