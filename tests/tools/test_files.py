"""The file tools see the workspace and nothing else."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from koboshi_tools import ToolContext, ToolError
from koboshi_tools.builtin import files
from koboshi_tools.builtin.files import files_list, files_read, files_search

SECRET = "s3cret"


@pytest.fixture
def context(tmp_path: Path) -> ToolContext:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(SECRET, encoding="utf-8")
    workspace = tmp_path / "workspace"
    (workspace / "notes").mkdir(parents=True)
    (workspace / "notes" / "a.txt").write_text("one\nTwo\nthree\n", encoding="utf-8")
    (workspace / "link.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (workspace / "folder").symlink_to(tmp_path / "outside")
    (workspace / "inner").symlink_to(workspace / "notes")
    os.mkfifo(workspace / "pipe")
    (workspace / "picture.bin").write_bytes(b"\x89PNG\0\0two")
    (workspace / "latin.txt").write_bytes(b"caf\xe9 two\n")
    return ToolContext(workspace)


def read(path: str, context: ToolContext, **lines: int) -> str:
    return str(files_read.function(path, context, **lines))


def listed(path: str, context: ToolContext) -> str:
    return str(files_list.function(context, path))


def search(text: str, context: ToolContext, path: str = ".") -> str:
    return str(files_search.function(text, context, path))


PARTS = st.sampled_from(
    ["..", ".", "", "notes", "a.txt", "link.txt", "folder", "inner", "secret.txt", "outside", "~", "/"]
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(PARTS, min_size=1, max_size=6).map("/".join))
def test_no_path_leads_out_of_the_workspace(context: ToolContext, path: str) -> None:
    for look in (read, listed, lambda path, context: search(SECRET, context, path)):
        try:
            assert SECRET not in look(path, context)
            assert "secret.txt" not in look(path, context)
        except ToolError:
            continue


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/etc/passwd", "not a path inside"),
        ("~/x", "not a path inside"),
        ("a\0b", "not a path inside"),
        ("../outside/secret.txt", "leads out"),
        ("notes/../../outside/secret.txt", "leads out"),
        ("link.txt", "link"),
        ("folder/secret.txt", "link"),
        ("inner/a.txt", "link"),
        ("pipe", "not a regular file"),
        ("notes", "is a folder"),
        (".", "is a folder"),
        ("none.txt", "there is no 'none.txt'"),
        ("notes/a.txt/b", "Not a directory"),
        ("picture.bin", "binary"),
        ("x" * 300, "too long"),
    ],
)
def test_what_cannot_be_read_is_said(path: str, said: str, context: ToolContext) -> None:
    with pytest.raises(ToolError, match=said):
        read(path, context)


def test_lines_are_read_and_what_was_left_out_is_said(context: ToolContext) -> None:
    assert read("./notes//a.txt", context) == "one\nTwo\nthree"
    assert read("notes/a.txt", context, start_line=2, lines=1) == "Two\n(lines 2-2 of 3)"
    assert read("notes/a.txt", context, start_line=9) == "(the file has 3 lines)"
    assert read("latin.txt", context) == "caf\ufffd two"


def test_long_lines_and_large_files_are_bounded(context: ToolContext, monkeypatch: pytest.MonkeyPatch) -> None:
    (context.workspace / "long.txt").write_text("x" * 5000, encoding="utf-8")
    assert len(read("long.txt", context)) == files.MAX_LINE_CHARACTERS + 1
    monkeypatch.setattr(files, "MAX_FILE_BYTES", 100)
    with pytest.raises(ToolError, match="has 5000 bytes; 100 can be read"):
        read("long.txt", context)


def test_a_folder_is_listed(context: ToolContext, monkeypatch: pytest.MonkeyPatch) -> None:
    assert listed("notes", context) == "a.txt 14"
    assert "notes/" in listed(".", context).splitlines()
    assert "pipe (not a regular file)" in listed(".", context)
    monkeypatch.setattr(files, "MAX_ENTRIES", 2)
    assert listed(".", context).splitlines()[-1] == "(5 more)"
    (context.workspace / "notes" / "a.txt").unlink()
    assert listed("notes", context) == "(empty)"


def test_a_search_finds_lines_whatever_their_case(context: ToolContext, monkeypatch: pytest.MonkeyPatch) -> None:
    assert search("TWO", context) == "latin.txt:1: caf\ufffd two\nnotes/a.txt:2: Two"
    assert search("two", context, "notes") == "a.txt:2: Two"
    assert search("nowhere", context) == "no matches"
    monkeypatch.setattr(files, "MAX_MATCHES", 1)
    assert search("two", context).splitlines()[-1] == "(more matches left out)"
    monkeypatch.setattr(files, "MAX_SEARCHED_FILES", 1)
    with pytest.raises(ToolError, match="too much to search"):
        search("nowhere", context)


def test_names_that_are_not_unicode_are_shown(context: ToolContext) -> None:
    os.close(os.open(os.fsencode(context.workspace / "notes") + b"/\xff", os.O_CREAT | os.O_WRONLY))
    assert listed("notes", context) == "a.txt 14\n? 0"
