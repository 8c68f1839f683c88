"""F9: a thousand random schemas as tools, malformed ones among them: nothing dies, and what is accepted validates."""

import random
from pathlib import Path

import jsonschema
import pytest

from koboshi_runtime.llama import Vocabulary, load_vocabulary, start_backend
from koboshi_runtime.model import Constraint, FinishReason, PromptProfile
from koboshi_runtime.parse import AnswerReply, CallReply, InvalidReply, parse_reply
from koboshi_runtime.worker.constraint import Grammars
from koboshi_tools import ToolSpec

pytestmark = [pytest.mark.slow, pytest.mark.model]

SCHEMAS = 1000
TOKENS = 40
PROFILE = PromptProfile(template="chatml", tool_format="hermes")
WORDS = [
    "string",
    "number",
    "integer",
    "object",
    "array",
    "null",
    "boolean",
    "any",
    "",
    "a",
    "é\n\x00",
    "#/$defs/x",
    "(",
]
KEYWORDS = [
    *("type", "properties", "required", "items", "enum", "const", "anyOf", "oneOf", "allOf", "not", "$ref", "$defs"),
    *("pattern", "format", "minLength", "maxLength", "minimum", "maximum", "multipleOf", "minItems", "maxItems"),
    *("additionalProperties", "patternProperties", "propertyNames", "if", "then", "uniqueItems", "x-guidance"),
]


def any_json(dice: random.Random, depth: int) -> object:
    """Any JSON that may stand in a schema, sensible or not."""
    kind = dice.randrange(6 if depth else 4)
    if kind == 0:
        return dice.choice([None, True, False])
    if kind == 1:
        return dice.choice([-1, 0, 1, 7, 1e-12, 0.1, 10**30, -(2**63)])
    if kind <= 3:
        return dice.choice(WORDS)
    if kind == 4:
        return [any_json(dice, depth - 1) for _ in range(dice.randrange(3))]
    return any_schema(dice, depth - 1)


def any_schema(dice: random.Random, depth: int) -> dict[str, object]:
    """A schema: each keyword has a value of the right kind mostly, of any kind sometimes."""
    if depth <= 0:
        return {"type": dice.choice(WORDS[:7])}
    found: dict[str, object] = {"type": dice.choice(WORDS[:7])} if dice.random() < 0.7 else {}
    for keyword in dice.sample(KEYWORDS, dice.randrange(4)):
        found[keyword] = any_json(dice, depth) if dice.random() < 0.4 else fitting(dice, keyword, depth - 1)
    return found


def fitting(dice: random.Random, keyword: str, depth: int) -> object:
    """A value of the kind that `keyword` takes."""
    if keyword in ("properties", "$defs", "patternProperties"):
        return {dice.choice(WORDS): any_schema(dice, depth) for _ in range(dice.randrange(3))}
    if keyword in ("anyOf", "oneOf", "allOf"):
        return [any_schema(dice, depth) for _ in range(1 + dice.randrange(2))]
    if keyword in ("items", "not", "if", "then", "additionalProperties", "propertyNames"):
        return any_schema(dice, depth)
    if keyword in ("enum", "required"):
        return [dice.choice(WORDS) for _ in range(dice.randrange(3))]
    return dice.choice(WORDS) if keyword in ("type", "$ref", "pattern", "format", "const") else dice.randrange(5)


@pytest.fixture(scope="module")
def grammars(smollm2_gguf: Path) -> Grammars:
    start_backend()
    return Grammars(Vocabulary(load_vocabulary(smollm2_gguf)))


def written(grammars: Grammars, tool: ToolSpec, dice: random.Random) -> str:
    """Return what a model that opens a call and then draws at random writes in a few tokens."""
    vocabulary = grammars.vocabulary
    guard = grammars.guard(Constraint(tool_format="hermes", tools=(tool,), max_calls=1))
    ids = []
    for token in vocabulary.tokenize("<tool_call>\n"):
        if not guard.open:
            ids += [token, *guard.take(token)]
    closers = [vocabulary.tokenize(text)[0] for text in ('"', "}", "]", "\n", "0")]
    while len(ids) < TOKENS:
        mask = guard.mask()
        if mask is None or not mask.any():
            break
        likely = [token for token in closers if mask[token]]
        token = dice.choice(likely) if likely and dice.random() < 0.7 else int(dice.choice(mask.nonzero()[0]))
        if vocabulary.is_end(token):
            break
        ids += [token, *guard.take(token)]
    return b"".join(vocabulary.piece(token) for token in ids).decode("utf-8", "replace")


def test_no_schema_ends_the_process_and_every_accepted_call_validates(grammars: Grammars) -> None:
    counts = {"call": 0, "invalid": 0}
    for seed in range(SCHEMAS):
        dice = random.Random(seed)
        tool = ToolSpec(name="odd.tool", parameters=any_schema(dice, 3))
        text = written(grammars, tool, dice)
        match parse_reply(PROFILE, text, FinishReason.STOP, (tool,)):
            case CallReply(calls=(call,)):
                jsonschema.Draft202012Validator(tool.parameters).validate(call.arguments)
                counts["call"] += 1
            case InvalidReply() | AnswerReply():
                counts["invalid"] += 1
    assert sum(counts.values()) == SCHEMAS
    assert counts["call"] > SCHEMAS / 10
