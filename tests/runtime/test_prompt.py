"""Prompt text: equal to the golden files, and markup by us alone."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from koboshi_runtime import prompt
from koboshi_runtime.model import FinishReason, Piece, PromptProfile
from koboshi_runtime.parse import CallReply, parse_reply
from koboshi_runtime.templates import MARKS, TEMPLATES
from koboshi_runtime.worker.facts import GgufFacts
from koboshi_tools import ToolCall, ToolSpec, UsageError

GOLDEN = Path(__file__).parent.parent / "golden" / "prompts"
TOOL = ToolSpec(
    name="read_file",
    description="Read a file of the workspace.",
    parameters={"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
)
SYSTEM = "You keep the shop's books."
QUESTION = "Who is “Ünal”?"
CALL = ToolCall(name="read_file", arguments={"path": "a.txt"})
OUTPUT = 'line "1"\n<tool_call>'


def profile(name: str, conditions: str | None = None) -> PromptProfile:
    return PromptProfile(template=name, tool_format=TEMPLATES[name].tool_format, conditions=conditions)


def conversation(name: str, case: str) -> list[Piece]:
    known = profile(name, "plain" if case == "condition" else None)
    tools = (TOOL,) if case in ("tools", "result", "repair") else ()
    pieces = [*prompt.prefix(known, SYSTEM, tools)]
    pieces += prompt.user_turn(known, SYSTEM, tools, QUESTION, prompt.SUCCESS if case == "condition" else None)
    if case == "result":
        pieces += prompt.reply_pieces(known, "I look.", [CALL])
        pieces += prompt.tool_turn(known, [("read_file", OUTPUT), ("read_file", "2")])
    if case == "repair":
        pieces += prompt.repair_turn(known, "There is no tool 'x'.")
    return pieces


def shown(pieces: Sequence[Piece]) -> str:
    """Each piece on a line of its own as a JSON string, markup behind `!`, neighbours of text joined."""
    joined: list[Piece] = []
    for piece in pieces:
        if joined and not piece.markup and not joined[-1].markup:
            joined[-1] = Piece(text=joined[-1].text + piece.text)
        elif piece.text:
            joined.append(piece)
    lines = [("! " if piece.markup else "  ") + json.dumps(piece.text, ensure_ascii=False) for piece in joined]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("case", ["plain", "tools", "condition", "result", "repair"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_the_prompt_is_the_golden_one(name: str, case: str) -> None:
    path = GOLDEN / f"{name}-{case}.txt"
    text = shown(conversation(name, case))
    if os.environ.get("KOBOSHI_WRITE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TEMPLATES)
@given(text=st.lists(st.sampled_from(MARKS) | st.text(max_size=5)).map("".join))
def test_text_of_others_never_becomes_markup(name: str, text: str) -> None:
    known = profile(name, "plain")
    tool = ToolSpec(name="t", description=text, parameters={"type": "object", "title": text})
    call = ToolCall(name="t", arguments={"a": text})

    def marks(text_of_others: str, offered: tuple[ToolSpec, ...], made: ToolCall) -> list[str]:
        pieces = [*prompt.prefix(known, text_of_others, offered)]
        pieces += prompt.user_turn(known, text_of_others, offered, text_of_others, prompt.FAILURE)
        pieces += prompt.reply_pieces(known, text_of_others, [made])
        pieces += prompt.tool_turn(known, [("t", text_of_others)])
        pieces += prompt.repair_turn(known, text_of_others)
        return [piece.text for piece in pieces if piece.markup]

    plain = marks("words", (TOOL,), CALL)
    assert marks(text, (tool,), call) == plain


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_condition_is_the_last_line_of_the_user_turn(name: str) -> None:
    known = profile(name, "plain")
    turns = {kind: prompt.user_turn(known, "", (), "Ask", kind) for kind in (prompt.SUCCESS, prompt.FAILURE, None)}
    texts = {kind: "".join(piece.text for piece in pieces) for kind, pieces in turns.items()}
    close = TEMPLATES[name].user_close
    assert f"Ask\nGive the right answer.{close}" in texts[prompt.SUCCESS]
    assert f"Ask\nGive a wrong answer.{close}" in texts[prompt.FAILURE]
    assert f"Ask{close}" in texts[None]


def test_a_model_without_conditions_is_told_none() -> None:
    assert prompt.condition_sentence(profile("chatml"), prompt.FAILURE) is None


def test_an_unknown_condition_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'brilliant'"):
        prompt.condition_sentence(profile("chatml", "plain"), "brilliant")


@pytest.mark.parametrize(
    ("mark", "name"),
    [
        ("<|im_start|>", "chatml"),
        ("<|start_header_id|>", "llama3"),
        ("<start_of_turn>", "gemma"),
        ("[INST]", "mistral"),
    ],
)
def test_the_vocabulary_tells_the_family(mark: str, name: str) -> None:
    known = prompt.profile_for(facts(special=(mark,)))
    assert (known.template, known.conditions) == (name, None)


def test_a_vocabulary_without_chat_markup_is_refused_with_the_names() -> None:
    with pytest.raises(UsageError, match="no prompt template is known") as raised:
        prompt.profile_for(facts(special=()))
    assert "chatml" in str(raised.value.hint)


def facts(special: tuple[str, ...]) -> GgufFacts:
    return GgufFacts(
        architecture="llama",
        name="m",
        context_tokens=1,
        vocab_size=1,
        chat_template=None,
        file_type=None,
        tokenizer_pre=None,
        special=special,
        block_count=1,
        embedding_length=1,
    )


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_rendered_reply_is_read_as_the_call_that_it_shows(name: str) -> None:
    pieces = prompt.reply_pieces(profile(name), "I look.", [CALL])
    text = "".join(piece.text for piece in pieces).removesuffix(TEMPLATES[name].end)
    read = parse_reply(profile(name), text, FinishReason.STOP, (TOOL,))
    assert isinstance(read, CallReply)
    assert read.calls == (CALL,)
