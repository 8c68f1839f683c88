"""What a listener hears of a reply: its text without thoughts, calls and what a stop text cut off.

A reply is heard while it is written. What was heard is never taken back: what is heard of a beginning is a beginning of
what is heard of the whole, for every reply. What may still turn out to be markup is held back until it is known.
"""

import re
from collections.abc import Sequence

from .formats import ToolFormat, tool_format
from .model import PromptProfile
from .prompt import THINKING

_THOUGHT = "<think>"


def spoken(
    profile: PromptProfile, text: str, *, with_tools: bool, stops: Sequence[str] = (), whole: bool = True
) -> str:
    """Return what is heard of `text`, or, unless it is the `whole` reply, what is certain to be heard of it."""
    found = tool_format(profile.tool_format)
    places = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    if places:
        text, whole = text[: min(places)], True
    if not whole:
        text = _hold_back(text, (_THOUGHT, found.tag, *stops))
    if with_tools and found.at_start:
        heard = THINKING.sub("", text)
        return "" if _may_be_call(found, heard, whole=whole) else heard.strip()
    return THINKING.sub("", _before_calls(found, text) if with_tools else text).strip()


def _hold_back(text: str, marks: Sequence[str]) -> str:
    """Return `text` without an end that is the beginning of a mark, and again, as what is left may end in another."""
    begun = {mark[:size] for mark in marks for size in range(1, len(mark))}
    while held := max((len(one) for one in begun if text.endswith(one)), default=0):
        text = text[: len(text) - held]
    return text


def _may_be_call(found: ToolFormat, heard: str, *, whole: bool) -> bool:
    """Say whether a reply in a format without tags is a call, or, unless it is whole, may become one."""
    start = heard.lstrip()
    if not whole and found.lead.startswith(start):
        return True
    rest = start.removeprefix(found.lead).lstrip()
    return rest.startswith("{") or not (rest or whole)


def _before_calls(found: ToolFormat, text: str) -> str:
    marks = re.finditer(f"{THINKING.pattern}|{re.escape(found.tag)}", text, re.DOTALL)
    return text[: next((mark.start() for mark in marks if mark.group() == found.tag), len(text))]
