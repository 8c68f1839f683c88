"""Free text until a call opens, then exactly a call: the grammar of a reply, and the guard that holds a reply to it.

While a reply is free text no mask is computed. As soon as its text, outside of thoughts, opens a call, a matcher takes
over: it allows one of the offered tools by name and arguments that its schema accepts (every string and number
bounded), then another call or the end of the turn. A reply that must be a call is one from its first token. What the
grammar leaves no choice about is forced without sampling.

Not covered: a schema that the grammar cannot express. Its arguments are then any JSON object, and `parse` validates
them.
"""

import json
from concurrent.futures import Future
from threading import Thread
from typing import Any

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from llguidance.llamacpp import lltokenizer_from_vocab
from numpy.typing import NDArray

from koboshi_tools import canonical_json
from koboshi_tools.schema import bounded

from ..formats import ToolFormat, tool_format
from ..llama import Vocabulary
from ..model import Constraint

_ANY_OBJECT: dict[str, Any] = {"type": "object", "maxProperties": 16}

# What ends a state of the text: outside of a thought its opening, inside of it its closing.
_THOUGHT = {False: b"<think>", True: b"</think>"}

# More than any mark that may be split over tokens.
_TAIL_BYTES = 64

# One spelling of JSON, the one that `prompt` shows: the model has nothing to gain from choosing blanks.
_JSON_STYLE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}


class Grammars:
    """Compiles grammars for one vocabulary and keeps them by content.

    The tokenizer's tables take some tenths of a second: a thread makes them, and a reply waits for them only when its
    first call opens.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._compiled: dict[str, str] = {}
        self._tables: Future[LLTokenizer] = Future()
        Thread(target=self._make_tables, name="koboshi-grammars", daemon=True).start()

    @property
    def tokenizer(self) -> LLTokenizer:
        """The tables, waited for if need be."""
        return self._tables.result()

    def guard(self, constraint: Constraint) -> "Guard":
        """Return a guard for one reply."""
        found = tool_format(constraint.tool_format)
        guard = Guard(self, constraint, found=found, special=self._special(found))
        if constraint.must_call:
            guard.begin()
        return guard

    def compiled(self, constraint: Constraint, found: ToolFormat) -> str:
        """Return the grammar of a reply from its first call on."""
        key = canonical_json(constraint.model_dump(mode="json"))
        if key not in self._compiled:
            is_special = self._special(found) is not None
            self._compiled[key] = _grammar(self, found, constraint, is_special=is_special)
        return self._compiled[key]

    def _make_tables(self) -> None:
        try:
            self._tables.set_result(lltokenizer_from_vocab(self.vocabulary.handle, eos_token=self.vocabulary.end_ids()))
        except BaseException as error:
            # Told to every reply that needs the tables.
            self._tables.set_exception(error)

    def _special(self, found: ToolFormat) -> int | None:
        return self.vocabulary.special_id(found.tag) if found.tag else None

    def mark(self, text: str) -> str:
        """Return `text` as a grammar terminal, special tokens by id where this vocabulary has them."""
        parts = []
        for piece in text.split("\n"):
            token = self.vocabulary.special_id(piece) if piece else None
            parts.append(f"<[{token}]>" if token is not None else json.dumps(piece) if piece else "")
        return ' "\\n" '.join(parts).strip() or '""'


def _trigger(found: ToolFormat, special: int | None) -> str:
    if special is not None:
        return found.tag
    # Without its last character: what follows may share a token with it, and the grammar can then choose that token.
    return found.tag[:-1] if found.opening else "{"


def _after_trigger(found: ToolFormat, special: bool) -> str:
    return found.opening[len(found.tag) - (0 if special else 1) :] if found.opening else ""


def _grammar(grammars: Grammars, found: ToolFormat, constraint: Constraint, *, is_special: bool) -> str:
    schemas = [bounded(tool.parameters) for tool in constraint.tools]
    text: str = LLMatcher.grammar_from_lark(_lark(grammars, found, constraint, schemas, is_special))
    if not LLMatcher.validate_grammar(text, grammars.tokenizer):
        return text
    schemas = [_expressible(grammars, schema) for schema in schemas]
    text = LLMatcher.grammar_from_lark(_lark(grammars, found, constraint, schemas, is_special))
    return text


def _expressible(grammars: Grammars, schema: dict[str, Any]) -> dict[str, Any]:
    problem = LLMatcher.validate_grammar(LLMatcher.grammar_from_json_schema(json.dumps(schema)), grammars.tokenizer)
    return _ANY_OBJECT if problem else schema


def _lark(
    grammars: Grammars, found: ToolFormat, constraint: Constraint, schemas: list[dict[str, Any]], is_special: bool
) -> str:
    closing = grammars.mark(found.closing) if found.closing else ""
    again = ""
    if found.between is not None and constraint.max_calls > 1:
        end_of_call = "" if found.listed else closing
        again = f"({end_of_call} {grammars.mark(found.between)} call){{0,{constraint.max_calls - 1}}}"
    rest = _after_trigger(found, is_special)
    opening = grammars.mark(rest) if rest else ""
    if constraint.must_call and found.opening:
        opening = f"{grammars.mark(found.tag)} {grammars.mark(found.opening.removeprefix(found.tag))}"
    lines = [f"start: {opening} call {again} {closing}"]
    lines.append("call: " + " | ".join(f"call_{index}" for index in range(len(schemas))))
    for index, (tool, schema) in enumerate(zip(constraint.tools, schemas, strict=True)):
        head = f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "{found.arguments_key}": '
        body = json.dumps({**schema, "x-guidance": _JSON_STYLE}, ensure_ascii=False)
        lines.append(f"call_{index}: {json.dumps(head, ensure_ascii=False)} args_{index} " + '"}"')
        lines.append(f"args_{index}: %json {body}")
    return "\n".join(lines)


class Guard:
    """Follows one reply token by token; free until its text opens a call."""

    def __init__(self, grammars: Grammars, constraint: Constraint, *, found: ToolFormat, special: int | None) -> None:
        self._grammars = grammars
        self._constraint, self._found = constraint, found
        self._trigger = _trigger(found, special).encode()
        self._at_start = found.at_start
        self._lead = found.lead.encode()
        self._lost = False
        self._thinking = False
        self._special = special
        self._text = b""
        self._matcher: LLMatcher | None = None
        size = (grammars.vocabulary.size + 31) // 32
        self._bits: NDArray[np.int32] = np.zeros(size, dtype=np.int32)

    def begin(self) -> None:
        """Have the call begin with the next token; its grammar holds the opening as well."""
        self._matcher = self._new_matcher()

    @property
    def open(self) -> bool:
        """Whether a call is being written, so that the next token is masked."""
        return self._matcher is not None

    def allows(self, token: int) -> bool:
        """Say whether it is sure that one token may follow; of one that ends the turn only `mask` tells."""
        if self._matcher is None or self._matcher.is_error():
            return True
        return bool(self._matcher.validate_tokens([token]) == 1)

    def mask(self) -> NDArray[np.bool_] | None:
        """Return which tokens may follow, `(vocabulary,)`, or None while the text is free or the grammar gave up."""
        if self._matcher is None or self._matcher.is_error():
            return None
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        bits = np.unpackbits(self._bits.view(np.uint8), bitorder="little")
        return bits[: self._grammars.vocabulary.size].astype(np.bool_)

    def take(self, token: int) -> list[int]:
        """Follow a sampled token and return the tokens that are now forced, already followed."""
        if self._matcher is not None:
            self._matcher.consume_token(token)
        elif not self._opens(token):
            return []
        return self._forced()

    def _new_matcher(self) -> LLMatcher:
        grammar = self._grammars.compiled(self._constraint, self._found)
        return LLMatcher(self._grammars.tokenizer, grammar, log_level=0)

    def _forced(self) -> list[int]:
        if self._matcher is None or self._matcher.is_error() or self._matcher.is_stopped():
            return []
        forced = self._matcher.compute_ff_tokens()
        if forced:
            self._matcher.consume_tokens(forced)
        return list(forced)

    def _opens(self, token: int) -> bool:
        rest = self._rest_of_opening(token)
        if rest is None:
            return False
        self._matcher = self._new_matcher()
        tokens = self._grammars.tokenizer.tokenize_bytes(rest) if rest else []
        if self._matcher.try_consume_tokens(tokens) != len(tokens):
            # A token that opened a call and went on against the grammar: the text stays free, and `parse` judges it.
            self._matcher = None
            self._lost = True
            return False
        return True

    def _rest_of_opening(self, token: int) -> bytes | None:
        if self._lost:
            return None
        self._text += self._grammars.vocabulary.piece(token)
        if self._in_thought():
            return None
        if self._at_start:
            text = self._text.lstrip().removeprefix(self._lead).lstrip()
            return text if text.startswith(self._trigger) else None
        found = self._text.find(self._trigger)
        # Only the end of the text can still be part of a trigger.
        rest, self._text = self._text[found + len(self._trigger) :], self._text[-_TAIL_BYTES:]
        if self._special is not None:
            return b"" if token == self._special else None
        return rest if found >= 0 else None

    def _in_thought(self) -> bool:
        """Say whether the text ends inside a thought, which `parse` skips; what stands before it is dropped."""
        while (found := self._text.find(mark := _THOUGHT[self._thinking])) >= 0:
            self._text = self._text[found + len(mark) :]
            self._thinking = not self._thinking
        if self._thinking:
            self._text = self._text[-_TAIL_BYTES:]
        return self._thinking
