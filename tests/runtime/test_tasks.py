"""The task file's contract, line by line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koboshi_runtime.records import Split
from koboshi_runtime.tasks import Task, load_tasks, offered_tools, parse_task, split_of_file
from koboshi_runtime.tool_specs import as_json_schema
from koboshi_tools import UsageError

NUMBER: dict[str, Any] = {"kind": "number", "answer": "1"}
SPEC: dict[str, Any] = {"name": "math.area", "parameters": {"type": "object", "properties": {}}}


def line(**fields: Any) -> str:
    return json.dumps({"id": "a", "prompt": "Add.", "checker": NUMBER} | fields)


def write(folder: Path, *lines: str) -> Path:
    path = folder / "tasks.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_the_line_of_the_contract_is_read() -> None:
    task = parse_task(
        '{"id": "w-17", "prompt": "Dan had $4 ...", "checker": {"kind": "number", "answer": "1", "tolerance": 1e-4},'
        ' "tools": ["calculator"], "meta": {}}'
    )
    assert (task.id, task.prompt, task.tools, task.meta) == ("w-17", "Dan had $4 ...", ("calculator",), {})


def test_a_task_written_out_keeps_what_was_left_out_left_out() -> None:
    text = line(checker={"kind": "json", "schema": {"type": "object"}})
    assert parse_task(text).as_json() == json.loads(text)


def test_a_task_may_leave_judging_to_the_project() -> None:
    assert parse_task(line(checker=None)).checker is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "a task is an object"),
        ('{"id": "a", "id": "b"}', "the key 'id' is given twice"),
        ('{"id": "a", "prompt": "x", "checker": {"kind": "number", "answer": NaN}}', "NaN is not a JSON number"),
        ('{"id": "a", "prompt": "x", "checker": {"kind": "number", "answer": 1e999}}', "too large"),
        ('{"id": "a", "prompt": "\\ud800", "checker": null}', "surrogate"),
        ('{"id": "a", "prompt": "x"}', "checker: Field required"),
        (line(prompt="  "), "the prompt is blank"),
        (line(id=""), "id: "),
        (line(id=7), "id: "),
        (line(colour="red"), "colour: Extra inputs"),
        (line(checker={"kind": "numbr", "answer": 1}), "numbr"),
        (line(checker={"kind": "number", "answer": "one"}), "'one' is not a number"),
        (line(checker={"kind": "number", "answer": True}), "True is not a number"),
        (line(checker={"kind": "number", "answer": 1, "tolerance": -1}), "tolerance"),
        (line(checker={"kind": "regex", "pattern": "("}), "the pattern '(' is not one"),
        (line(checker={"kind": "one_of", "answers": []}), "answers"),
        (line(checker={"kind": "json"}), "'schema', 'answer' or both"),
        (line(checker={"kind": "json", "schema": {"dependentSchemas": {}}}), "dependentSchemas"),
        (line(checker={"kind": "command", "file": "../x.py"}), "not a path inside"),
        (line(checker={"kind": "sql", "database": "/etc/x", "query": "q", "rows": []}), "not a path inside"),
        (line(tools=["a", "a"]), "named twice"),
        (line(tool_specs=[SPEC, SPEC]), "share a name"),
        (line(tool_specs=[{"name": "f", "parameters": {"type": "dict", "properties": {"x": {"type": "vec"}}}}]), "vec"),
        (line(tool_specs=[{"parameters": {}}]), "needs a name"),
        (line(tool_specs=[{"name": "f", "parameters": {"type": "string"}}]), "not a schema of type object"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_bad_line_is_refused_with_its_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=re.escape(reason)):
        parse_task(text)


def test_every_bad_line_is_named_at_once_and_the_first_ten_are_shown(tmp_path: Path) -> None:
    path = write(tmp_path, line(id="ok"), "", *["{}" for _ in range(12)], line(id="ok"))
    with pytest.raises(UsageError) as caught:
        load_tasks(path)
    message = str(caught.value)
    assert "13 bad lines" in message
    assert "\nline 3: " in message
    assert "\nline 12: " in message
    assert "line 13" not in message
    assert "3 more" in message


def test_two_tasks_with_one_id_are_refused_by_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 2: the id 'a' is that of line 1"):
        load_tasks(write(tmp_path, line(), line()))


def test_bytes_that_are_not_utf8_are_refused_by_line(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(line().encode() + b'\n{"id": "\xff"}\n')
    with pytest.raises(UsageError, match="line 2: not UTF-8"):
        load_tasks(path)


def test_blank_lines_and_a_byte_order_mark_are_no_tasks(tmp_path: Path) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line().encode() + b"\r\n\n  \n")
    assert [task.id for task in load_tasks(path)] == ["a"]


def test_a_missing_file_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_tasks(tmp_path / "none.jsonl")


@pytest.mark.parametrize(
    ("fields", "names", "specs"),
    [
        ({}, ("calculator", "sql"), ()),
        ({"tools": ["sql"]}, ("sql",), ()),
        ({"tools": []}, (), ()),
        ({"tool_specs": [SPEC]}, (), ("math.area",)),
        ({"tool_specs": []}, (), ()),
        ({"tools": [], "tool_specs": [SPEC]}, (), ()),
        ({"tools": ["sql"], "tool_specs": [SPEC]}, ("sql",), ("math.area",)),
        ({"tools": ["sql", "math.area"], "tool_specs": [SPEC]}, ("sql",), ("math.area",)),
        ({"tools": ["sql"], "tool_specs": [SPEC | {"name": "sql"}]}, (), ("sql",)),
    ],
)
def test_what_is_offered(fields: dict[str, Any], names: tuple[str, ...], specs: tuple[str, ...]) -> None:
    offered = offered_tools(parse_task(line(**fields)), ("calculator", "sql"))
    assert (offered.names, tuple(spec.name for spec in offered.specs)) == (names, specs)


def test_a_tool_that_is_unknown_or_denied_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'shell'"):
        offered_tools(parse_task(line(tools=["shell"])), ("sql",))


def test_both_shapes_of_a_tool_spec_are_one() -> None:
    bare = parse_task(line(tool_specs=[SPEC]))
    wrapped = parse_task(line(tool_specs=[{"type": "function", "function": SPEC | {"strict": True}}]))
    assert bare.tool_specs == wrapped.tool_specs


def test_foreign_types_become_those_of_json_schema_only_where_a_type_stands() -> None:
    schema = {
        "type": "dict",
        "properties": {
            "type": {"type": "float", "default": "dict"},
            "pair": {"type": "tuple", "items": {"type": "any"}},
            "one": {"anyOf": [{"type": "String"}, {"type": ["int", "null"]}]},
        },
        "required": ["type"],
    }
    assert as_json_schema(schema) == {
        "type": "object",
        "properties": {
            "type": {"type": "number", "default": "dict"},
            "pair": {"type": "array", "items": {}},
            "one": {"anyOf": [{"type": "string"}, {"type": ["integer", "null"]}]},
        },
        "required": ["type"],
    }


def test_a_file_is_of_the_split_that_it_is_called() -> None:
    names = ("train", "dev", "gate", "test", "test_shapes", "mine")
    splits = [split_of_file(Path(f"tasks/{name}.jsonl")) for name in names]
    assert splits == [Split.TRAIN, Split.DEV, Split.GATE, Split.TEST, Split.TEST, None]


@given(st.text(min_size=1).filter(lambda text: text.strip()), st.dictionaries(st.text(), st.integers() | st.text()))
def test_a_written_task_reads_back_equal(prompt: str, meta: dict[str, Any]) -> None:
    task = Task.model_validate({"id": "a", "prompt": prompt, "checker": NUMBER, "meta": meta})
    assert parse_task(json.dumps(task.as_json(), ensure_ascii=False)) == task
