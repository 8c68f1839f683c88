"""A project's tools folder."""

import asyncio
import re
from pathlib import Path

import pytest

import koboshi_tools
from koboshi_tools import EffectClass, ToolCall, ToolContext, UsageError, builtin_tools, execute, load_tools_folder

README = Path(__file__).parents[2] / "tools" / "README.md"
GOOD = (
    'from koboshi_tools import tool\n\n@tool\ndef shout(text: str) -> str:\n    """Shout."""\n    return text.upper()\n'
)


def write(folder: Path, text: str, name: str = "own.py") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_every_public_name_comes_with_its_first_use_and_no_other_does() -> None:
    assert all(callable(getattr(koboshi_tools, name)) for name in koboshi_tools.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'tools'"):
        _ = koboshi_tools.tools  # type: ignore[attr-defined]


def test_the_built_in_tools_have_the_effects_that_they_have() -> None:
    by_effect = {effect: {n for n, t in builtin_tools().items() if t.effect is effect} for effect in EffectClass}
    assert by_effect == {
        EffectClass.READ: {"calculator", "clock", "sql", "docs", "files_read", "files_list", "files_search"},
        EffectClass.WRITE: {"files_write", "files_edit"},
        EffectClass.NET: {"http_get"},
        EffectClass.EXEC: {"python", "shell"},
    }
    assert {name for name, tool in builtin_tools().items() if tool.profile} == {"python", "shell"}


def test_a_missing_folder_holds_no_tools(tmp_path: Path) -> None:
    assert load_tools_folder(tmp_path / "none") == {}


def test_tools_are_loaded_and_nothing_is_left_beside_them(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    write(tmp_path, "raise RuntimeError", "_private.py")
    write(tmp_path, "not python", "notes.txt")
    tools = load_tools_folder(tmp_path)
    result = asyncio.run(
        execute(ToolCall(name="shout", arguments={"text": "a"}), tools["shout"], ToolContext(tmp_path))
    )
    assert result.output == "A"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["_private.py", "notes.txt", "own.py"]


def test_annotations_may_be_postponed_and_name_their_own_module(tmp_path: Path) -> None:
    head = "from __future__ import annotations\nfrom pydantic import BaseModel\nfrom koboshi_tools import tool\n"
    value = "class P(BaseModel):\n    x: int\n"
    own = "@tool\ndef at(point: P) -> int:\n    '''At.'''\n    return point.x\n"
    write(tmp_path, head + value + own)
    call = ToolCall(name="at", arguments={"point": {"x": 7}})
    assert asyncio.run(execute(call, load_tools_folder(tmp_path)["at"], ToolContext(tmp_path))).output == "7"


def test_a_changed_file_is_another_digest(tmp_path: Path) -> None:
    write(tmp_path, GOOD)
    before = load_tools_folder(tmp_path)["shout"].digest
    assert load_tools_folder(tmp_path)["shout"].digest == before
    write(tmp_path, GOOD + "HELPER = 1\n")
    assert load_tools_folder(tmp_path)["shout"].digest != before


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def broken(:\n", "own.py:1: SyntaxError"),
        ("import nothing_of_that_name\n", "ModuleNotFoundError"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("x = 1\n", "defines no tool"),
        ("from koboshi_tools.builtin.calculator import calculator\n", "defines no tool"),
        (GOOD.replace('    """Shout."""\n', ""), "tool 'shout' has no docstring"),
        (GOOD.replace("text: str", "text"), "parameter 'text' has no type"),
        (GOOD.replace("shout", "sql"), "the name 'sql' is taken by a built-in tool"),
        ("\0", "own.py: "),
    ],
)
def test_a_bad_file_is_refused_by_name_and_reason(tmp_path: Path, text: str, said: str) -> None:
    write(tmp_path, text)
    with pytest.raises(UsageError) as refused:
        load_tools_folder(tmp_path)
    assert "own.py" in str(refused.value)
    assert said in str(refused.value)


def test_two_files_cannot_share_a_name(tmp_path: Path) -> None:
    write(tmp_path, GOOD, "a.py")
    write(tmp_path, GOOD, "b.py")
    with pytest.raises(UsageError, match=r"b\.py: the name 'shout' is taken by .*a\.py"):
        load_tools_folder(tmp_path)


def test_the_example_of_the_readme_works(tmp_path: Path) -> None:
    example = re.search(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    assert len(example[1].splitlines()) <= 20
    write(tmp_path, example[1])
    (tmp_path / "opening-hours.json").write_text('{"monday": "9-17"}', encoding="utf-8")
    made = load_tools_folder(tmp_path)["opening_hours"]
    context = ToolContext(tmp_path)
    answers = [
        asyncio.run(execute(ToolCall(name="opening_hours", arguments={"day": day}), made, context))
        for day in ("monday", "sunday", "someday")
    ]
    assert [answer.output for answer in answers[:2]] == ["9-17", "closed on sunday"]
    assert answers[2].transport == "invalid"
