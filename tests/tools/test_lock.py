"""`tools.lock`: a tool that is new is pinned, one that changed is refused by name until it is accepted."""

from pathlib import Path

import pytest

from koboshi_tools import RefusedError, Tool, UsageError, load_tools_folder
from koboshi_tools.lock import (
    LOCK_FILE,
    PinState,
    hold_to_lock,
    pin_of,
    read_lock,
    read_section,
    state_of,
    write_lock,
    write_section,
)

TEXT = 'from koboshi_tools import tool\n\n@tool{}\ndef say() -> str:\n    """Say."""\n    return {!r}\n'


def made(root: Path, said: str = "a", options: str = "") -> dict[str, Tool]:
    (root / "tools").mkdir(exist_ok=True)
    (root / "tools/own.py").write_text(TEXT.format(options, said), encoding="utf-8")
    return load_tools_folder(root / "tools")


def test_a_tool_is_pinned_when_it_is_first_seen(tmp_path: Path) -> None:
    tools = made(tmp_path)
    assert state_of("say", tools["say"], read_lock(tmp_path)) is PinState.NEW
    hold_to_lock(tmp_path, tools)
    assert read_lock(tmp_path) == {"say": pin_of(tools["say"])}
    written = (tmp_path / LOCK_FILE).stat()
    hold_to_lock(tmp_path, tools)
    assert (tmp_path / LOCK_FILE).stat() == written


@pytest.mark.parametrize(
    ("said", "options", "difference"),
    [
        ("b", "", "digest sha256:[0-9a-f]{12} became sha256:[0-9a-f]{12}"),
        ("a", "(version='2')", "version 1 became 2, digest"),
        ("a", "(effect='net')", "effect read became net, digest"),
    ],
)
def test_a_tool_that_changed_is_refused_by_name_until_it_is_accepted(
    tmp_path: Path, said: str, options: str, difference: str
) -> None:
    hold_to_lock(tmp_path, made(tmp_path))
    changed = made(tmp_path, said, options)
    for _ in range(2):
        with pytest.raises(RefusedError, match=f"the tool 'say' is not the one that was accepted: {difference}") as no:
            hold_to_lock(tmp_path, changed)
        assert no.value.hint == "Look at it, then: koboshi tools accept say"
    write_lock(tmp_path, {"say": pin_of(changed["say"])})
    hold_to_lock(tmp_path, changed)


def test_other_sections_of_the_lock_stay_as_they_are(tmp_path: Path) -> None:
    write_section(tmp_path / LOCK_FILE, "mcp", {"server": {"a": 1}})
    hold_to_lock(tmp_path, made(tmp_path))
    assert read_section(tmp_path / LOCK_FILE, "mcp") == {"server": {"a": 1}}
    assert list(read_lock(tmp_path)) == ["say"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"tools": {"say": 1}}', "tools.say: "),
        ('{"tools": {"say": {"version": "1", "effect": "read"}}}', "tools.say.digest: Field required"),
        ('{"tools": {"say": {"version": "1", "effect": "all", "digest": "x"}}}', "tools.say.effect: "),
        ('{"tools": []}', "the section tools is no object"),
        ("[]", "it is no object"),
        ("{", "tools.lock cannot be read: "),
        ("\xff", "tools.lock cannot be read: "),
    ],
)
def test_a_lock_that_is_wrong_is_refused_and_not_written_over(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / LOCK_FILE
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=said):
        hold_to_lock(tmp_path, made(tmp_path))
    assert path.read_bytes() == text.encode("latin-1")


def test_names_with_dots_are_pinned_too(tmp_path: Path) -> None:
    hold_to_lock(tmp_path, made(tmp_path, options="(name='notes.say-it')"))
    assert list(read_lock(tmp_path)) == ["notes.say-it"]
