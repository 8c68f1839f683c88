import json
import math

from tests.runtime.store_samples import OK, header, intent, reply, turn

from koboshi_runtime.model import FinishReason, Reply
from koboshi_runtime.records import (
    CallRecord,
    EndReason,
    Outcome,
    OutcomeLabel,
    OutcomeSource,
    RunEnd,
    RunStatus,
    Trajectory,
    TurnKind,
)
from koboshi_runtime.trace_export import openai_record, raw_record
from koboshi_runtime.trace_view import run_lines
from koboshi_tools import ToolSpec

SPEC = ToolSpec(name="calculator", description="Compute.", parameters={"type": "object"})


def trajectory(*, prompt: str = "How many apples are left?", output: str = "42") -> Trajectory:
    asked = 'I compute.<tool_call>\n{"name": "calculator", "arguments": {"expression": "6*7"}}\n</tool_call>'
    invalid = turn(1, written=reply("<tool_call>\n{"), kind=TurnKind.INVALID)
    return Trajectory(
        run_id="abcdefgh12345678",
        created_at="2026-01-02T03:04:05.678+00:00",
        header=header(prompt).model_copy(update={"system": "You sell apples.", "tool_specs": (SPEC,)}),
        turns=(
            turn(0, written=reply(asked)),
            invalid.model_copy(update={"in_context": False, "error": "cut"}),
            turn(2, written=reply("<think>hm</think>42"), kind=TurnKind.ANSWER),
        ),
        calls=(CallRecord(intent=intent("k"), result=OK.model_copy(update={"output": output})),),
        outcomes=(
            Outcome(label=OutcomeLabel.SUCCESS, source=OutcomeSource.CHECKER, who="number", rationale="42 = 42"),
        ),
        end=RunEnd(status=RunStatus.FINISHED, reason=EndReason.ANSWER, answer="42"),
    )


def test_a_run_reads_as_a_tree_of_steps() -> None:
    assert run_lines(trajectory()) == [
        "run abcdefgh12345678  2026-01-02T03:04:05.678+00:00",
        "  work · train · success · model abababab · seed 7 · temperature 0.5",
        "  prompt",
        "    How many apples are left?",
        "  step 0: call · 3 tokens · 0.00 s",
        "    I compute.<tool_call>",
        '    {"name": "calculator", "arguments": {"expression": "6*7"}}',
        "    </tool_call>",
        "    call calculator(expression='6*7')",
        "      allow by read (base.toml:3): reads only",
        "      ok, the tool says ok · 0.25 s",
        "        42",
        "  step 1: invalid · 3 tokens · 0.00 s",
        "    <tool_call>",
        "    {",
        "    error: cut",
        "  step 2: answer · 3 tokens · 0.00 s",
        "    <think>hm</think>42",
        "  end: finished (answer)",
        "    42",
        "  outcome: success by checker (number): 42 = 42",
    ]


def test_nothing_in_a_run_reaches_the_terminal_raw() -> None:
    text = "\n".join(run_lines(trajectory(prompt="\x1b[2Jgone\u202e", output="\x1b]0;title\x07")))
    assert [character for character in text if not character.isprintable() and character != "\n"] == []


def test_long_output_is_cut_unless_it_is_asked_for_whole() -> None:
    long = trajectory(output="line\n" * 1000)
    assert "        … 961 more lines (--full shows them)" in run_lines(long)
    assert len(run_lines(long, full=True)) > 1000


def test_an_exported_run_holds_openai_messages_and_tools() -> None:
    call = {"id": "k", "type": "function", "function": {"name": "calculator", "arguments": '{"expression": "6*7"}'}}
    assert openai_record(trajectory()) == {
        "messages": [
            {"role": "system", "content": "You sell apples."},
            {"role": "user", "content": "How many apples are left?"},
            {"role": "assistant", "content": "I compute.", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "k", "content": "42"},
            {"role": "assistant", "content": "42"},
        ],
        "tools": [{"type": "function", "function": SPEC.model_dump()}],
        "run_id": "abcdefgh12345678",
        "outcome": "success",
        "purpose": "work",
        "model": header().model_hash,
    }


def test_a_raw_record_is_valid_json_even_of_a_demonstration() -> None:
    nan = Reply(
        ids=(1, 2),
        sampled=(True, True),
        raw_logprobs=(math.nan, -math.inf),
        behaviour_logprobs=(math.nan, -1.0),
        text="\udcff",
        finish=FinishReason.STOP,
    )
    record = raw_record(trajectory().model_copy(update={"turns": (turn(written=nan),)}))
    written = json.loads(json.dumps(record, allow_nan=False))["turns"][0]["reply"]
    assert (written["raw_logprobs"], written["behaviour_logprobs"], written["text"]) == (
        [None, None],
        [None, -1.0],
        "\udcff",
    )
