"""From a program's flat list of messages to remarks: each result is put beside the call that it answers.

The order of calls is kept whatever the order of their results. Results are matched by the ids that the record gives
its calls; one without an id answers the first call that has no result yet.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from koboshi_tools import ToolCall, ToolResult

from ..strict_json import loads
from ..talk import MadeCall, Question, Remark, Response
from .conversation import LeftOut, split_thought, tidy


class NamedCall(NamedTuple):
    """A call with the id that a record gives it; ids are of one response alone."""

    call_id: str | None
    call: ToolCall


class Builder:
    """Takes messages in their order; `done` returns the remarks. Raises LeftOut for what cannot be told apart."""

    def __init__(self) -> None:
        self._remarks: list[Remark] = []
        self._open: list[NamedCall] = []
        self._results: dict[int, ToolResult] = {}

    def question(self, text: str) -> None:
        """Add what a person said."""
        self._close()
        self._remarks.append(Question(text=text))

    def response(self, text: str, thought: str, calls: Sequence[NamedCall]) -> None:
        """Add what a model said and called."""
        self._close()
        said, tagged = split_thought(text)
        self._remarks.append(
            Response(text=said, thought="\n\n".join(each for each in (thought.strip(), tagged) if each))
        )
        self._open = list(calls)

    def result(self, call_id: str | None, result: ToolResult) -> None:
        """Add what a call of the last response gave."""
        waiting = [place for place in range(len(self._open)) if place not in self._results]
        named = [place for place in waiting if call_id is None or self._open[place].call_id == call_id]
        if not named:
            raise LeftOut("a result without its call")
        self._results[named[0]] = result

    def done(self) -> tuple[Remark, ...]:
        """Return all remarks; calls of the last one may be without results, as nobody had to carry them out."""
        self._close(last=True)
        return tidy(self._remarks)

    def _close(self, *, last: bool = False) -> None:
        if not self._open:
            return
        if len(self._results) < len(self._open) and not last:
            raise LeftOut("a call without its result")
        made = tuple(MadeCall(call=each.call, result=self._results.get(at)) for at, each in enumerate(self._open))
        self._remarks[-1] = self._remarks[-1].model_copy(update={"calls": made})
        self._open, self._results = [], {}


def call_of(name: str, arguments: Any) -> ToolCall:
    """Return a call whose arguments are an object, the JSON text of one, or nothing. Raises LeftOut."""
    if isinstance(arguments, str):
        try:
            arguments = loads(arguments, any_text=True) if arguments.strip() else {}
        except ValueError:
            raise LeftOut("a call whose arguments are not JSON") from None
    if not isinstance(arguments, dict | None):
        raise LeftOut("a call whose arguments are no object")
    return ToolCall(name=name, arguments=arguments or {})


def text_of(content: Any) -> str:
    """Return the text of a message's content: a string, nothing, or a list of parts. Raises LeftOut for a picture."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise ValueError(f"content is a string or a list of parts, not {type(content).__name__}")
    return "".join(_part(part) for part in content)


def _part(part: Any) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind not in ("text", "input_text", "output_text") or not isinstance(part.get("text"), str):
        raise LeftOut(f"content of type {str(kind)[:40]!r}, where only text can be learnt")
    return str(part["text"])
