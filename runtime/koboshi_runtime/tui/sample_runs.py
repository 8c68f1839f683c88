"""The runs of the sample home: what a small model might have done in a shop, made up by rules and a fixed seed.

No model wrote any of it, and the probabilities are drawn, not measured: it is there to be looked at.
"""

import json
import math
import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from koboshi_policies import Decision, Verdict
from koboshi_tools import ToolCall, ToolResult, ToolSpec, ToolVerdict, Transport

from ..model import FinishReason, PromptProfile, Reply
from ..records import (
    CallIntent,
    EndReason,
    Purpose,
    RunEnd,
    RunHeader,
    RunStatus,
    Segment,
    SegmentKind,
    Split,
    TurnKind,
    TurnRecord,
)

_PEOPLE = ("Molly Brook", "Omar Haddad", "Ines Faria", "Piotr Zielinski", "Wanda Cole", "Jun Tanaka", "Ada Okoye")
_CITIES = ("Leeds", "Porto", "Kyoto", "Lagos", "Gdansk", "Bergen", "Lyon")
_GOODS = ("lamp", "kettle", "scarf", "notebook", "teapot", "blanket", "umbrella")
_SYSTEM = "You work for a small shop. Use the tools, and answer with the value alone."
_SPECS = (
    ToolSpec(
        name="sql",
        description="Ask the shop's database one SELECT.",
        parameters={"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]},
    ),
    ToolSpec(
        name="calculator",
        description="Evaluate one expression.",
        parameters={"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    ),
    ToolSpec(
        name="files_write",
        description="Write a file of the workspace.",
        parameters={"type": "object", "properties": {"path": {"type": "string"}, "text": {"type": "string"}}},
    ),
)
PROFILE = PromptProfile(template="chatml", tool_format="hermes")


class Vocabulary:
    """The tokens of the sample: each word or sign with the blank before it, numbered as they come."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._ids: dict[str, int] = {}

    def ids(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text."""
        return tuple(self._id(piece) for piece in re.findall(r"\s?\w+|\s|[^\w\s]", text))

    def _id(self, piece: str) -> int:
        if piece not in self._ids:
            self._ids[piece] = len(self.pieces)
            self.pieces.append(piece)
        return self._ids[piece]


@dataclass(frozen=True, slots=True)
class Made:
    """One call of a story: what was asked for, what came back, and what the rules said."""

    tool: str
    arguments: dict[str, Any]
    output: str
    transport: Transport = Transport.OK
    verdict: ToolVerdict | None = ToolVerdict.OK
    decision: Decision = field(
        default_factory=lambda: Decision(
            verdict=Verdict.ALLOW, reason="reads only", rule="read only", file="presets/careful.toml", line=12
        )
    )


@dataclass(frozen=True, slots=True)
class Story:
    """A run: the prompt, the calls in order, the answer, and whether it is the right one."""

    prompt: str
    calls: tuple[Made, ...]
    answer: str | None
    right: bool
    reason: EndReason = EndReason.ANSWER


Tell = Callable[[random.Random, bool], Story]


def _city(rng: random.Random, right: bool) -> Story:
    name, city = rng.choice(_PEOPLE), rng.choice(_CITIES)
    prompt = f"Please tell me the city where {name} lives."
    query = f"select city from customers where name = '{name}'"
    if right:
        return Story(prompt, (Made("sql", {"query": query}, f"city\n{city}"),), city, True)
    wrong = f"select town from customers where name = '{name}'"
    failed = Made("sql", {"query": wrong}, "no such column: town", verdict=ToolVerdict.ERROR)
    return Story(prompt, (failed,), f"{name} is a small town.", False)


def _total(rng: random.Random, right: bool) -> Story:
    number, price, count = rng.randrange(100, 180), rng.randrange(3, 60), rng.randrange(2, 9)
    prompt = f"What is the total of order {number}?"
    query = f"select price, amount from order_lines where order_id = {number}"
    rows = Made("sql", {"query": query}, f"price\tamount\n{price}\t{count}")
    if not right:
        return Story(prompt, (rows,), str(price + count), False)
    sum_up = Made("calculator", {"expression": f"{price} * {count}"}, str(price * count))
    return Story(prompt, (rows, sum_up), str(price * count), True)


def _stock(rng: random.Random, right: bool) -> Story:
    goods, left = rng.choice(_GOODS), rng.randrange(0, 40)
    prompt = f"How many pieces of the {goods} are left in stock?"
    made = Made("sql", {"query": f"select stock from products where name = '{goods}'"}, f"stock\n{left}")
    return Story(prompt, (made,), str(left if right else left + 1), right)


def _note(rng: random.Random, right: bool) -> Story:
    name = rng.choice(_PEOPLE)
    asked = Decision(
        verdict=Verdict.ALLOW if right else Verdict.DENY,
        reason="writes a file; approved by a person" if right else "writes a file; nobody is attending to be asked",
        rule="ask before writing",
        file="presets/careful.toml",
        line=31,
    )
    arguments = {"path": "notes/calls.txt", "text": f"{name} wants to be called back."}
    output, transport = ("wrote 31 bytes", Transport.OK) if right else ("denied: writes a file", Transport.DENIED)
    made = Made("files_write", arguments, output, transport, ToolVerdict.OK if right else None, asked)
    prompt = f"Note that {name} wants to be called back."
    return Story(prompt, (made,), "Noted." if right else None, right, EndReason.ANSWER if right else EndReason.DENIED)


def _loop(rng: random.Random, _: bool) -> Story:
    goods = rng.choice(_GOODS)
    made = Made("sql", {"query": f"select colour from products where name = '{goods}'"}, "colour\n(no rows)")
    return Story(f"Which colour is the {goods}?", (made,) * 3, None, False, EndReason.LOOP)


def stories(rng: random.Random, count: int, success: float) -> Iterable[Story]:
    """Yield `count` stories, of which about a share of `success` end right."""
    kinds: Sequence[Tell] = (_city, _city, _total, _stock, _stock, _note)
    for number in range(count):
        right = rng.random() < success
        tell = _loop if not right and number % 9 == 4 else rng.choice(kinds)
        yield tell(rng, right)


def header_of(story: Story, *, model_hash: str, purpose: Purpose, seed: int, condition: str | None) -> RunHeader:
    """Return the header of a story's run."""
    return RunHeader(
        prompt=story.prompt,
        purpose=purpose,
        split=Split.TRAIN,
        model_hash=model_hash,
        profile=PROFILE,
        condition=condition,
        policy_hash="sha256:5a3b1e",
        project="shop",
        seed=seed,
        temperature=0.7,
        task_id=f"shop-{abs(hash_of(story.prompt)) % 900 + 100}",
        tools=tuple(spec.name for spec in _SPECS),
        system=_SYSTEM,
        tool_specs=_SPECS,
    )


def hash_of(text: str) -> int:
    """Return a number that is the same for the same text in every process."""
    return sum((place + 1) * ord(character) for place, character in enumerate(text))


def turns_of(story: Story, words: Vocabulary, rng: random.Random) -> list[TurnRecord]:
    """Return the model's turns of a story, one for each call and one for the answer."""
    turns = []
    for index, made in enumerate(story.calls):
        body = json.dumps({"name": made.tool, "arguments": made.arguments})
        text = f"I look that up.\n<tool_call>\n{body}\n</tool_call>"
        turns.append(_turn(index, TurnKind.CALL, text, _read(story, index, words), words, rng, story.right))
    if story.answer is not None:
        last = len(story.calls)
        turns.append(_turn(last, TurnKind.ANSWER, story.answer, _read(story, last, words), words, rng, story.right))
    return turns


def intents_of(story: Story, run_id: str, version: str) -> list[tuple[CallIntent, ToolResult]]:
    """Return the calls of a story with their results."""
    return [(_intent(made, index, run_id, version), _result(made, index)) for index, made in enumerate(story.calls)]


def end_of(story: Story) -> RunEnd:
    """Return how a story's run ended."""
    status = RunStatus.FINISHED if story.answer is not None else RunStatus.FAILED
    return RunEnd(status=status, reason=story.reason, answer=story.answer)


def _read(story: Story, index: int, words: Vocabulary) -> tuple[Segment, ...]:
    if index:
        text = story.calls[index - 1].output
        return (Segment(kind=SegmentKind.TOOL, ids=words.ids(text), text=text),)
    parts = ((SegmentKind.PREFIX, _SYSTEM), (SegmentKind.USER, story.prompt))
    return tuple(Segment(kind=kind, ids=words.ids(text), text=text) for kind, text in parts)


def _turn(
    index: int,
    kind: TurnKind,
    text: str,
    read: tuple[Segment, ...],
    words: Vocabulary,
    rng: random.Random,
    sure: bool,
) -> TurnRecord:
    ids = words.ids(text)
    sampled = tuple(words.pieces[token] not in ("<", ">", "{", "}", '"', ":", "_", "/") for token in ids)
    doubts = tuple(-rng.expovariate(7.0 if sure else 2.2) if drawn else 0.0 for drawn in sampled)
    reply = Reply(
        ids=ids,
        sampled=sampled,
        raw_logprobs=doubts,
        behaviour_logprobs=doubts,
        text=text,
        finish=FinishReason.STOP,
        reused_tokens=0 if not index else 180 + 40 * index,
        decoded_tokens=sum(len(segment.ids) for segment in read),
        seconds=round(0.006 * len(ids) + 0.1 * rng.random(), 3),
    )
    assert all(math.isfinite(value) for value in doubts)
    return TurnRecord(index=index, segments=read, reply=reply, kind=kind)


def _intent(made: Made, index: int, run_id: str, version: str) -> CallIntent:
    return CallIntent(
        step_index=index,
        call_index=0,
        call=ToolCall(name=made.tool, arguments=made.arguments),
        decision=made.decision,
        tool_version=version if made.tool == "sql" else "1",
        tool_digest="sha256:sample",
        effect="write" if made.tool == "files_write" else "read",
        idempotent=made.tool != "files_write",
        idempotency_key=f"{run_id}/{index}/0",
    )


def _result(made: Made, index: int) -> ToolResult:
    return ToolResult(
        transport=made.transport, output=made.output, verdict=made.verdict, seconds=0.002 + 0.013 * (index + 1)
    )
