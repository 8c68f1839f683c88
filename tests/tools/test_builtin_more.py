"""The built-in tools that write, search documents, tell the time, and run programs."""

import os
import re
from pathlib import Path

import pytest
from tests.tools.sandbox_makers import call

from koboshi_tools import Sandbox, ToolContext, ToolError, builtin_tools
from koboshi_tools.builtin.docs import docs
from koboshi_tools.builtin.files_change import files_edit, files_write
from koboshi_tools.sandbox import probe


def test_write_makes_a_file_and_its_folders_and_replaces_it_whole(tmp_path: Path) -> None:
    context = ToolContext(tmp_path)
    assert files_write.function("a/b/c.txt", "one", context) == "made a/b/c.txt"
    (tmp_path / "a/b/c.txt").chmod(0o600)
    assert files_write.function("a/b/c.txt", "two", context) == "replaced a/b/c.txt"
    assert (tmp_path / "a/b/c.txt").read_text(encoding="utf-8") == "two"
    assert (tmp_path / "a/b/c.txt").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "a/b") == ["c.txt"]


@pytest.mark.parametrize("path", ["../x", "/etc/x", "link/x", "link2", "a/../../x", "folder", "folder/", "pipe", "~/x"])
def test_nothing_is_written_outside_or_through_a_link(tmp_path: Path, path: str) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    outside.mkdir()
    (inside / "folder").mkdir(parents=True)
    (outside / "kept").write_text("kept", encoding="utf-8")
    (inside / "link").symlink_to(outside)
    (inside / "link2").symlink_to(outside / "kept")
    os.mkfifo(inside / "pipe")
    with pytest.raises(ToolError):
        files_write.function(path, "bad", ToolContext(inside))
    assert (outside / "kept").read_text(encoding="utf-8") == "kept"
    assert [p.name for p in outside.iterdir()] == ["kept"]


def test_edit_replaces_a_text_that_stands_once_and_refuses_any_other(tmp_path: Path) -> None:
    context = ToolContext(tmp_path)
    (tmp_path / "f").write_bytes(b"one two two\r\n\xff")
    assert files_edit.function("f", "one", "1", context) == "edited f"
    assert (tmp_path / "f").read_bytes() == b"1 two two\r\n\xff"
    for text in ("two", "three"):
        with pytest.raises(ToolError, match=f"the text stands {2 if text == 'two' else 0} times"):
            files_edit.function("f", text, "x", context)
    assert (tmp_path / "f").read_bytes() == b"1 two two\r\n\xff"


def test_docs_finds_the_passage_and_sees_a_file_that_changed(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/a.md").write_text("\n" * 20 + "Refunds are paid within ten days.\n", encoding="utf-8")
    (tmp_path / "d/b.md").write_text("Shipping costs 5.\n", encoding="utf-8")
    context = ToolContext(tmp_path, {"folder": "d"})
    found = docs.function("refund paid", context)
    assert found.splitlines()[0] == "a.md:13"
    assert "within ten days" in found
    assert docs.function("warranty", context) == "nothing found"
    (tmp_path / "d/b.md").write_text("The warranty is two years.\n", encoding="utf-8")
    assert "two years" in docs.function("warranty", context)


def test_docs_takes_any_query_as_words(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("alpha AND beta", encoding="utf-8")
    for query in ('"alpha', "alpha OR", "NEAR(alpha", "alpha*", "text:alpha", "alpha' --"):
        assert "alpha" in docs.function(query, ToolContext(tmp_path))
    with pytest.raises(ToolError, match="no words"):
        docs.function('"*()', ToolContext(tmp_path))


def test_the_clock_tells_weekday_date_and_offset() -> None:
    said = builtin_tools()["clock"].function(5.5)
    assert re.fullmatch(r"\w+day \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\+05:30", said)


def test_programs_run_in_the_workspace_and_their_exit_code_is_the_tools_verdict(tmp_path: Path) -> None:
    assert probe().mode is not None, probe().missing
    sandbox = Sandbox()
    assert call(sandbox, tmp_path, "python", program="print(6 * 7); open('made', 'w').write('x')").output == "42"
    assert (tmp_path / "made").read_text(encoding="utf-8") == "x"
    failed = call(sandbox, tmp_path, "shell", command="echo said; echo worse >&2; exit 3")
    assert (failed.transport.value, failed.verdict, failed.output) == ("ok", "error", "said\nworse\n(exit code 3)")
    flooded = call(sandbox, tmp_path, "shell", command="yes")
    assert flooded.output.endswith("(ended: it wrote more than 65536 bytes)")
    sandbox.close()
