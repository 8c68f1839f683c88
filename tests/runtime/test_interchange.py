"""Runs in the formats of other programs: what is written, and that what is read back is equal."""

import json
import math
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nat.atif import Trajectory as AtifTrajectory
from tests.runtime.store_samples import turn
from tests.runtime.trace_samples import SPEC, trajectory

from koboshi_runtime.interchange.atif import atif_record, read_atif
from koboshi_runtime.interchange.conversation import Conversation, conversation_of, tidy
from koboshi_runtime.interchange.importing import import_runs
from koboshi_runtime.interchange.messages import openai_record, read_openai
from koboshi_runtime.interchange.raw import raw_record
from koboshi_runtime.interchange.reading import Readable, read_runs
from koboshi_runtime.interchange.sharegpt import read_sharegpt, sharegpt_record
from koboshi_runtime.model import FinishReason, Reply
from koboshi_runtime.records import FOREIGN, OutcomeLabel, OutcomeSource, Purpose, Trajectory
from koboshi_runtime.store import Store
from koboshi_runtime.talk import MadeCall, Question, Response
from koboshi_tools import ToolCall, ToolResult, ToolVerdict, Transport, UsageError

RUN = trajectory()


def stored(folder: Path, found: list[Readable], **wanted: Any) -> list[Trajectory]:
    """Import into a new home and return what it holds."""
    with closing(Store.open(folder / "traces.db")) as store:
        import_runs(store, found, source="file", project="shop", **wanted)
        return list(store.iter_trajectories())


def lines(folder: Path, *records: Any) -> Path:
    path = folder / "runs.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def messages(*said: str) -> dict[str, Any]:
    roles = ("user", "assistant")
    return {"messages": [{"role": roles[place % 2], "content": text} for place, text in enumerate(said)]}


def test_an_exported_run_holds_openai_messages_and_tools() -> None:
    call = {
        "id": "call_0",
        "type": "function",
        "function": {"name": "calculator", "arguments": '{"expression": "6*7"}'},
    }
    assert openai_record(conversation_of(RUN)) == {
        "messages": [
            {"role": "system", "content": "You sell apples."},
            {"role": "user", "content": "How many apples are left?"},
            {"role": "assistant", "content": "I compute.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_0", "content": "42"},
            {"role": "assistant", "content": "42", "reasoning_content": "hm"},
        ],
        "tools": [{"type": "function", "function": SPEC.model_dump()}],
        "run_id": "abcdefgh12345678",
        "created_at": "2026-01-02T03:04:05.678+00:00",
        "outcome": "success",
        "purpose": "work",
        "model": RUN.header.model_hash,
        "results": [{"transport": "ok", "verdict": "ok", "seconds": 0.25}],
    }


def test_sharegpt_writes_calls_and_thoughts_as_hermes_does() -> None:
    record = sharegpt_record(conversation_of(RUN))
    call = '<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'
    assert record["conversations"] == [
        {"from": "system", "value": "You sell apples."},
        {"from": "human", "value": "How many apples are left?"},
        {"from": "gpt", "value": f"I compute.\n{call}"},
        {"from": "tool", "value": "<tool_response>\n42\n</tool_response>"},
        {"from": "gpt", "value": "<think>\nhm\n</think>\n\n42"},
    ]
    assert json.loads(record["tools"])[0]["function"]["name"] == "calculator"


def test_an_atif_document_passes_the_published_models() -> None:
    document = AtifTrajectory.model_validate(json.loads(json.dumps(atif_record(RUN))))
    assert [step.source for step in document.steps] == ["system", "user", "agent", "agent"]
    acting, answering = (step.model_dump(exclude_none=True) for step in document.steps[2:])
    assert [call["function_name"] for call in acting["tool_calls"]] == ["calculator"]
    assert acting["metrics"]["completion_token_ids"] == [11, 12, 2]
    assert answering["reasoning_content"] == "hm"


texts = st.text(max_size=20).map(str.strip).filter(lambda text: "<" not in text)
values = st.recursive(st.none() | st.booleans() | st.integers() | texts, lambda inner: st.lists(inner, max_size=2))
results = st.builds(
    ToolResult,
    transport=st.sampled_from(Transport),
    output=st.text(max_size=20) | st.just("\udcff\x00"),
    verdict=st.none() | st.sampled_from(ToolVerdict),
    seconds=st.floats(0, 9),
    truncated=st.booleans(),
)
calls = st.builds(
    MadeCall,
    call=st.builds(
        ToolCall, name=st.sampled_from(["look", "put"]), arguments=st.dictionaries(texts, values, max_size=2)
    ),
    result=results,
)
responses = st.builds(Response, text=texts, thought=texts, calls=st.lists(calls, max_size=2).map(tuple))
remarks = st.lists(st.builds(Question, text=st.text(max_size=20)) | responses, min_size=1, max_size=6).map(tidy)
conversations = st.builds(
    Conversation,
    remarks=remarks,
    system=st.text(max_size=10),
    tools=st.just((SPEC,)) | st.just(()),
    model=texts,
    label=st.sampled_from(OutcomeLabel),
    score=st.none() | st.floats(0, 1),
    purpose=st.sampled_from(Purpose),
)


@given(conversations)
def test_openai_messages_are_read_as_they_were_written(conversation: Conversation) -> None:
    assert read_openai(json.loads(json.dumps(openai_record(conversation)))) == conversation


@given(conversations)
def test_sharegpt_is_read_as_it_was_written(conversation: Conversation) -> None:
    assert read_sharegpt(json.loads(json.dumps(sharegpt_record(conversation)))) == conversation


def test_a_trajectory_of_hermes_agent_is_read(tmp_path: Path) -> None:
    tools = [{"name": "stock", "description": "Count.", "parameters": {"type": "object"}, "required": None}]
    told = '{"tool_call_id": "c", "name": "stock", "content": {"left": 4}}'
    call = '<tool_call>\n{"name": "stock", "arguments": {"sku": "lamp"}}\n</tool_call>'
    turns = [
        ("system", f"You call functions. <tools>\n{json.dumps(tools)}\n</tools> Be brief."),
        ("human", "Lamps?"),
        ("gpt", f"<think>\nlook\n</think>\nI look.\n{call}"),
        ("tool", f"<tool_response>\n{told}\n</tool_response>"),
        ("gpt", "<think>\n</think>\nThere are 4."),
    ]
    record = {
        "conversations": [{"from": speaker, "value": text} for speaker, text in turns],
        "timestamp": "2026-01-02T03:04:05",
        "model": "hermes-4",
        "completed": True,
    }
    (found,) = stored(tmp_path, read_runs(lines(tmp_path, record)).runs)
    talk = conversation_of(found)
    assert (talk.model, talk.created_at, talk.label) == (
        "hermes-4",
        "2026-01-02T03:04:05.000+00:00",
        OutcomeLabel.UNKNOWN,
    )
    assert (talk.system, [tool.name for tool in talk.tools]) == ("You call functions.  Be brief.", ["stock"])
    made = MadeCall(
        call=ToolCall(name="stock", arguments={"sku": "lamp"}),
        result=ToolResult(transport=Transport.OK, output='{"left": 4}'),
    )
    assert talk.remarks[1:] == (
        Response(text="I look.", thought="look", calls=(made,)),
        Response(text="There are 4."),
    )


_GOOSE: list[dict[str, Any]] = [
    {"role": "user", "created": 1_772_359_202, "content": [{"type": "text", "text": "Lamps?"}]},
    {
        "role": "assistant",
        "created": 1_772_359_203,
        "content": [
            {"type": "thinking", "thinking": "look", "signature": "s"},
            {"type": "text", "text": "I look."},
            {
                "type": "toolRequest",
                "id": "c",
                "toolCall": {"status": "success", "value": {"name": "shell", "arguments": {"command": "ls"}}},
                "_meta": {"goose_extension": "developer"},
            },
        ],
    },
    {
        "role": "user",
        "created": 1_772_359_204,
        "content": [
            {
                "type": "toolResponse",
                "id": "c",
                "toolResult": {
                    "status": "success",
                    "value": {"content": [{"type": "text", "text": "no such file"}], "isError": True},
                },
            }
        ],
    },
    {"role": "assistant", "created": 1_772_359_205, "content": [{"type": "text", "text": "None."}]},
]


@pytest.mark.parametrize("form", ["export", "database"])
def test_a_session_of_goose_is_read(tmp_path: Path, form: str) -> None:
    path = tmp_path / "session"
    model = {"model_name": "gpt-5"}
    if form == "export":
        path.write_text(
            json.dumps({"id": "20260301_1", "conversation": _GOOSE, "model_config": model}, indent=1), encoding="utf-8"
        )
    else:
        with closing(sqlite3.connect(path)) as db:
            db.execute("CREATE TABLE sessions (id TEXT, created_at TEXT, model_config_json TEXT)")
            db.execute(
                "CREATE TABLE messages "
                "(id INTEGER PRIMARY KEY, session_id TEXT, role TEXT, content_json TEXT, created_timestamp INTEGER)"
            )
            db.execute("INSERT INTO sessions VALUES ('20260301_1', '2026-03-01', ?)", (json.dumps(model),))
            for message in _GOOSE:
                row = (message["role"], json.dumps(message["content"]), message["created"] * 1000)
                db.execute("INSERT INTO messages VALUES (NULL, '20260301_1', ?, ?, ?)", row)
            db.commit()
    read = read_runs(path)
    (found,) = stored(tmp_path, read.runs)
    talk = conversation_of(found)
    assert (read.form, talk.model, talk.created_at) == ("goose", "gpt-5", "2026-03-01T10:00:02.000+00:00")
    made = MadeCall(
        call=ToolCall(name="shell", arguments={"command": "ls"}),
        result=ToolResult(transport=Transport.OK, output="no such file", verdict=ToolVerdict.ERROR),
    )
    assert talk.remarks == (
        Question(text="Lamps?"),
        Response(text="I look.", thought="look", calls=(made,)),
        Response(text="None."),
    )


def test_an_export_that_is_imported_gives_equal_trajectories(tmp_path: Path) -> None:
    (home := tmp_path / "home").mkdir()
    (found,) = stored(home, read_runs(lines(tmp_path, raw_record(RUN))).runs)
    assert found == RUN.model_copy(update={"header": RUN.header.model_copy(update={"imported": "file"})})


@pytest.mark.parametrize("form", ["openai", "sharegpt", "atif"])
def test_what_was_said_survives_every_format_that_is_read(form: str, tmp_path: Path) -> None:
    def record_of(run: Trajectory) -> dict[str, Any]:
        if form == "atif":
            return atif_record(run)
        write = openai_record if form == "openai" else sharegpt_record
        return write(conversation_of(run))

    (home := tmp_path / "home").mkdir()
    (found,) = stored(home, read_runs(lines(tmp_path, record_of(RUN))).runs)
    assert conversation_of(found) == conversation_of(RUN)
    assert (found.header.imported, found.header.profile, found.turns[0].reply.ids) == ("file", FOREIGN, ())
    again = record_of(found)
    (other := tmp_path / "other").mkdir()
    assert stored(other, read_runs(lines(tmp_path, again)).runs) == [found]


def test_each_question_becomes_a_run_with_what_was_said_before_as_its_history(tmp_path: Path) -> None:
    record = {**messages("Hi", "Hello.", "Lamps?", "Four."), "outcome": "failure"}
    first, second = stored(tmp_path, read_runs(lines(tmp_path, record)).runs)
    assert (first.header.prompt, first.header.history, first.outcome) == ("Hi", (), OutcomeLabel.UNKNOWN)
    assert second.header.history == (Question(text="Hi"), Response(text="Hello."))
    assert [(label.label, label.source) for label in second.outcomes] == [(OutcomeLabel.FAILURE, OutcomeSource.EVENT)]


def test_context_that_a_document_copied_is_no_run_of_its_own(tmp_path: Path) -> None:
    steps = [
        {"step_id": 1, "source": "user", "message": "Hi", "is_copied_context": True},
        {"step_id": 2, "source": "agent", "message": "Hello.", "is_copied_context": True},
        {"step_id": 3, "source": "user", "message": "Lamps?"},
        {"step_id": 4, "source": "agent", "message": "Four."},
    ]
    document = {
        "schema_version": "ATIF-v1.5",
        "session_id": "s",
        "agent": {"name": "a", "version": "1"},
        "steps": steps,
    }
    AtifTrajectory.model_validate(document)
    (found,) = stored(tmp_path, read_runs(lines(tmp_path, document)).runs)
    assert (found.header.prompt, len(found.header.history)) == ("Lamps?", 2)
    (home := tmp_path / "home").mkdir()
    again = read_runs(lines(tmp_path, openai_record(conversation_of(found)))).runs
    assert [run.header.prompt for run in stored(home, again)] == ["Lamps?"]


def test_what_is_imported_twice_is_stored_once_and_what_was_forgotten_stays_so(tmp_path: Path) -> None:
    found = read_runs(lines(tmp_path, messages("Hi", "Hello."), messages("Hi", "Hello."), messages("Lamps?", "4"))).runs
    with closing(Store.open(tmp_path / "traces.db")) as store:
        first = import_runs(store, found, source="file", project="shop")
        assert (len(first.run_ids), first.known) == (2, 1)
        assert import_runs(store, found, source="other", project="shop").known == 3


def test_a_reward_of_harbors_verifier_is_the_outcome(tmp_path: Path) -> None:
    folder = tmp_path / "trial" / "agent"
    folder.mkdir(parents=True)
    (folder.parent / "result.json").write_text('{"verifier_result": {"rewards": {"reward": 1.0}}}', encoding="utf-8")
    path = folder / "trajectory.json"
    document = {name: each for name, each in atif_record(RUN).items() if name != "extra"}
    path.write_text(json.dumps(document, indent=2), encoding="utf-8")
    (found,) = stored(tmp_path, read_runs(path).runs)
    assert (found.outcome, found.outcomes[0].score) == (OutcomeLabel.SUCCESS, 1.0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"messages": [{"role": "robot", "content": "x"}]}', "messages.0.role"),
        ('{"messages": 4}', "messages: Input should be a valid list"),
        ("{nonsense", "not JSON"),
        ('{"text": "a tale"}', "no run in a known format"),
        ('{"messages": [], "outcome": "good"}', "outcome is success, failure or unknown, not 'good'"),
        ('{"schema_version": "ATIF-v2.0", "agent": {}, "steps": []}', "schema_version"),
        ('{"header": {}, "turns": [{"reply": 4}]}', "run_id"),
    ],
)
def test_a_bad_record_refuses_the_file_by_its_number(tmp_path: Path, line: str, reason: str) -> None:
    path = lines(tmp_path, messages("Hi", "Hello."))
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    with pytest.raises(UsageError, match="line 2: ") as raised:
        read_runs(path)
    assert reason in str(raised.value)


def test_a_sound_record_that_no_run_can_hold_is_left_out_with_the_reason(tmp_path: Path) -> None:
    picture = {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}
    call = {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{"}}]}
    late = {"messages": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]}
    stray = {"messages": [{"role": "user", "content": "a"}, {"role": "tool", "content": "b"}]}
    found = read_runs(lines(tmp_path, picture, {"messages": [call]}, late, stray, messages("Hi")))
    assert found.left_out == {
        "content of type 'image_url', where only text can be learnt": 1,
        "a call whose arguments are not JSON": 1,
        "a system message in the middle of the conversation": 1,
        "a result without its call": 1,
    }
    with closing(Store.open(tmp_path / "traces.db")) as store:
        done = import_runs(store, found.runs, source="f", project="p", left_out=Counter(found.left_out))
    assert (done.run_ids, done.left_out["no question that was answered"]) == ((), 1)


def test_ids_and_numbers_that_are_none_survive_the_raw_format(tmp_path: Path) -> None:
    nan = Reply(
        ids=(1, 2),
        sampled=(True, True),
        raw_logprobs=(math.nan, -math.inf),
        behaviour_logprobs=(math.nan, -1.0),
        text="\udcff",
        finish=FinishReason.STOP,
    )
    record = json.loads(json.dumps(raw_record(RUN.model_copy(update={"turns": (turn(written=nan),)})), allow_nan=False))
    assert record["turns"][0]["reply"]["behaviour_logprobs"] == [None, -1.0]
    (home := tmp_path / "home").mkdir()
    (found,) = stored(home, read_runs(lines(tmp_path, record)).runs)
    assert (found.turns[0].reply.text, found.turns[0].reply.behaviour_logprobs[1]) == ("\udcff", -1.0)
    assert math.isnan(found.turns[0].reply.raw_logprobs[0])


def test_an_atif_document_is_read_as_it_was_written() -> None:
    assert read_atif(json.loads(json.dumps(atif_record(RUN)))) == conversation_of(RUN)
