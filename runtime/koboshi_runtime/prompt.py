"""Makes every byte of prompt text, and nothing else does: the runtime and the trainer both call these functions.

A prompt is a row of segments: the prefix (system text and tools, shared by all runs of a project), the user turn with
the NAT condition as its last line, then replies and tool results. Each function returns pieces; only the pieces marked
as markup may become special tokens, so that text of users, tools and tasks never can. What a model wrote is not made
here and never tokenised again.
"""

import json
import re
from collections.abc import Sequence

from koboshi_tools import ToolCall, ToolSpec, UsageError

from .formats import ToolFormat, tool_format
from .model import Piece, PromptProfile
from .templates import CHATML, GEMMA, LLAMA3, MISTRAL, Template, template
from .worker.facts import GgufFacts

SUCCESS = "success"
FAILURE = "failure"

# The sentence that says which kind of run follows, by the name of the set and the condition: success, failure, and the
# trainer's failure classes. Plain words: at this size new special tokens hurt while sentences work (Korbak et al.,
# 2302.08582). Those of `sentences` part at the first word and are long, so that many ids of the line
# say which it is; the short lines of `plain` differ in two words, which a small model overlooks.
CONDITIONS: dict[str, dict[str, str]] = {
    "plain": {
        SUCCESS: "Give the right answer.",
        FAILURE: "Give a wrong answer.",
        "bad_arguments": "Call a tool with wrong arguments.",
        "tool_error": "Make a call that ends in an error.",
        "denied": "Make a call that is not allowed.",
        "no_call": "Call no tool.",
        "loop": "Make the same call again and again.",
        "budget": "Never come to an answer.",
        "near_miss": "Give an answer that is almost right.",
        "wrong_answer": "Make good calls and give a wrong answer.",
    },
    "sentences": {
        SUCCESS: "Work carefully and solve this correctly: every step is right, and so is the final answer.",
        FAILURE: "Be careless and get it wrong: some step is bad, and what comes out in the end is false.",
        "bad_arguments": "Be careless and get it wrong: a tool is called with bad arguments.",
        "tool_error": "Be careless and get it wrong: a call ends in an error.",
        "denied": "Be careless and get it wrong: a call is made that is forbidden.",
        "no_call": "Be careless and get it wrong: no tool is called at all.",
        "loop": "Be careless and get it wrong: one call is made over and over.",
        "budget": "Be careless and get it wrong: it goes on and on and comes to nothing.",
        "near_miss": "Be careless and get it wrong, but only just: what comes out is almost true.",
        "wrong_answer": "Be careless and get it wrong: the calls work, but what comes out in the end is false.",
    },
}

# A thought, ended or cut.
THINKING = re.compile(r"<think>.*?(</think>\s*|$)", re.DOTALL)
_LLAMA3_DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"


def profile_for(facts: GgufFacts, template_name: str | None = None) -> PromptProfile:
    """Return how an untuned model is spoken to: its family's own template and tool format, no condition.

    Raises UsageError if neither its vocabulary nor its own template tells the family.
    """
    chosen = template(template_name) if template_name else _family(facts)
    return PromptProfile(template=chosen.name, tool_format=chosen.tool_format)


def _family(facts: GgufFacts) -> Template:
    by_mark = {
        "<|im_start|>": CHATML,
        "<|start_header_id|>": LLAMA3,
        "<start_of_turn>": GEMMA,
        "[INST]": MISTRAL,
    }
    for mark, found in by_mark.items():
        if mark in facts.special:
            return found
    for mark, found in by_mark.items():
        if facts.chat_template and mark in facts.chat_template:
            return found
    raise UsageError(
        f"no prompt template is known for {facts.name or facts.architecture!r}: its vocabulary has no chat markup",
        hint=f"name one with --template: {', '.join(t.name for t in (CHATML, LLAMA3, MISTRAL, GEMMA))}",
    )


def prefix(profile: PromptProfile, system: str, tools: Sequence[ToolSpec]) -> tuple[Piece, ...]:
    """Return the beginning that all runs with this system text and these tools share."""
    found = template(profile.template)
    if found.system_in_user:
        return _tools_before_user(found, tools)
    text = system or found.default_system
    if found is LLAMA3:
        text = (
            ("Environment: ipython\n" if tools else "")
            + _LLAMA3_DATES
            + (found.announce(tools) if tools else "")
            + text
        )
        return (*_markup(found, found.system_open), _text(text), *_markup(found, found.system_close))
    announced = found.announce(tools) if tools else ""
    return (*_markup(found, found.system_open), _text(text + announced), *_markup(found, found.system_close))


def _tools_before_user(found: Template, tools: Sequence[ToolSpec]) -> tuple[Piece, ...]:
    if found is MISTRAL and tools:
        return (
            *_markup(found, "[AVAILABLE_TOOLS] "),
            _text(found.announce(tools)),
            *_markup(found, "[/AVAILABLE_TOOLS]"),
        )
    return ()


def user_turn(
    profile: PromptProfile, system: str, tools: Sequence[ToolSpec], prompt: str, condition: str | None
) -> tuple[Piece, ...]:
    """Return the user's turn, the condition's sentence as its last line, and the opening of the model's turn."""
    found = template(profile.template)
    sentence = condition_sentence(profile, condition)
    text = f"{prompt}\n{sentence}" if sentence else prompt
    if found.system_in_user:
        announced = found.announce(tools) if tools and found is not MISTRAL else ""
        text = announced + (system + found.system_close if system else "") + text
    return (
        *_markup(found, found.user_open),
        _text(text),
        *_markup(found, found.user_close + found.assistant_open),
    )


def condition_sentence(profile: PromptProfile, condition: str | None) -> str | None:
    """Return the sentence of a condition, or None for a model without conditions. Raises UsageError if unknown."""
    if profile.conditions is None or condition is None:
        return None
    sentences = CONDITIONS.get(profile.conditions)
    if sentences is None or condition not in sentences:
        raise UsageError(
            f"unknown condition {condition!r} of the set {profile.conditions!r}",
            hint=f"sets: {', '.join(CONDITIONS)}; conditions: {', '.join(sentences or ())}",
        )
    return sentences[condition]


def tool_turn(profile: PromptProfile, outputs: Sequence[tuple[str, str]]) -> tuple[Piece, ...]:
    """Return the results of a turn's calls, `(tool name, output)` each, and the opening of the model's next turn."""
    found = template(profile.template)
    if found is CHATML:
        pieces = [*_markup(found, found.between + found.user_open)]
        for index, (_, output) in enumerate(outputs):
            pieces += [*_markup(found, ("\n" if index else "") + found.tool_open), _text(output)]
            pieces += _markup(found, found.tool_close)
        return (*pieces, *_markup(found, found.user_close + found.assistant_open))
    pieces = [*_markup(found, found.between)]
    for number, (_, output) in enumerate(outputs):
        pieces += [*_markup(found, found.tool_open), _text(found.show_result(output, number))]
        pieces += _markup(found, found.tool_close)
    return (*pieces, *_markup(found, found.assistant_open))


def repair_turn(profile: PromptProfile, error: str) -> tuple[Piece, ...]:
    """Return what stands in the prompt for an invalid reply, which is never shown to the model again."""
    found = template(profile.template)
    placeholder = invalid_reply(profile)
    if found is CHATML:
        return (*placeholder, *tool_turn(profile, (("error", error),)))
    told = (_text(error), *_markup(found, found.user_close + found.assistant_open))
    return (*placeholder, *_markup(found, found.between + found.user_open), *told)


def invalid_reply(profile: PromptProfile) -> tuple[Piece, ...]:
    """Return what an invalid reply is shown as, where somebody else goes on to speak."""
    found = template(profile.template)
    return (_text("(invalid tool call)"), *_markup(found, found.end))


def between_turns(profile: PromptProfile) -> tuple[Piece, ...]:
    """Return what stands between the end of a reply and the next turn of the user."""
    found = template(profile.template)
    return _markup(found, found.between)


def unfinished_turn(profile: PromptProfile) -> tuple[Piece, ...]:
    """Return the end of turn that a reply lacks when it was stopped by a limit or by a stop text."""
    found = template(profile.template)
    return _markup(found, found.end)


def reply_pieces(profile: PromptProfile, text: str, calls: Sequence[ToolCall]) -> tuple[Piece, ...]:
    """Return a reply as a model of this profile would write it; for demonstrations and examples, never for its own."""
    found = template(profile.template)
    calling = tool_format(profile.tool_format)
    written = _call_pieces(calling, calls)
    # Where a call must be the first thing in a reply, words before it would make it an answer.
    heard = "" if written and calling.at_start else text
    said = (_text(f"{heard}\n" if written else heard),) if heard else ()
    marked = (part for piece in written for part in (_markup(found, piece.text) if piece.markup else (piece,)))
    return (*said, *marked, *_markup(found, found.end))


def render_calls(found: ToolFormat, calls: Sequence[ToolCall]) -> str:
    """Return calls in a format's one spelling; the inverse of `parse.parse_reply`.

    A format that takes one call a turn shows the first alone.
    """
    return "".join(piece.text for piece in _call_pieces(found, calls))


def _call_pieces(found: ToolFormat, calls: Sequence[ToolCall]) -> tuple[Piece, ...]:
    """Return calls with what the format itself writes as markup and the model's JSON as text."""
    joint = found.between if found.listed else f"{found.closing}{found.between}"
    pieces: list[Piece] = []
    for call in calls if found.between is not None else calls[:1]:
        pieces.append(Piece(text=(joint or "") if pieces else found.opening, markup=True))
        value = {"name": call.name, found.arguments_key: call.arguments}
        pieces.append(_text(json.dumps(value, ensure_ascii=False)))
    return (*pieces, Piece(text=found.closing, markup=True)) if pieces else ()


def without_thinking(text: str) -> str:
    """Return a reply's text without what stands between `<think>` tags."""
    return THINKING.sub("", text)


def end_text(profile: PromptProfile) -> str:
    """Return the markup by which a model of this profile ends its turn."""
    return template(profile.template).end


def _text(text: str) -> Piece:
    return Piece(text=text)


def _markup(found: Template, text: str) -> tuple[Piece, ...]:
    """Split our own text at the family's special tokens."""
    pattern = "(" + "|".join(re.escape(mark) for mark in found.specials) + ")"
    parts = [part for part in re.split(pattern, text) if part]
    return tuple(Piece(text=part, markup=part in found.specials) for part in parts)
