"""Find tool output that speaks to the model instead of answering it, and name where a run's outside text came from.

A run that was told such a thing is kept out of training whole, whatever became of it: if it was obeyed it must not be
learnt, and if it was not, nothing is lost. The signs are few and plain, so that ordinary documents pass: chat markup,
orders to forget instructions, orders to hide something from the user, orders about koboshi's own labels and approvals,
and text that no screen shows.

Not covered: an order in other words or another language, one that is split over several outputs, and one inside an
encoding. Against those stand that labels come from checks out of the model's reach, that only the model's own ids are
learnt, the cap per outside source, and the gate.
"""

import re
import unicodedata
from urllib.parse import urlsplit

from koboshi_runtime.records import CallRecord, Trajectory
from koboshi_runtime.templates import MARKS
from koboshi_tools import EffectClass

_MCP = "mcp__"
# Tag characters spell out text that is shown nowhere; the others only hide inside a word.
_UNSEEN = re.compile("[\U000e0000-\U000e007f]")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
# Struck-out text in HTML is no sign.
_MARKUP = tuple(mark for mark in MARKS if mark not in ("<s>", "</s>"))
_THEIRS = r"(?:all |any |the |your |these |those )*(?:previous|prior|above|earlier|preceding|former|system)"
_ORDERS = re.compile(
    rf"\b(?:ignore|disregard|forget|override) {_THEIRS} (?:instruction|prompt|rule|message|direction)"
    r"|\b(?:new|updated|real|actual) (?:system )?(?:instructions|prompt) ?:"
    r"|\b(?:do not|don't|never) (?:tell|inform|mention (?:this|it) to|reveal (?:this|it) to|warn) the user"
    r"|\b(?:reveal|print|repeat|output|send) (?:your|the) (?:system prompt|hidden instructions)"
    r"|\b(?:mark|label|record|count) (?:this|the) (?:task|run|answer) as (?:a )?success"
    r"|\bkoboshi (?:approvals (?:grant|refuse)|outcome set|trust|models promote)\b",
    re.IGNORECASE,
)


def looks_injected(text: str) -> bool:
    """Return whether a tool's output bears one of the signs."""
    if _UNSEEN.search(text) or any(mark in text for mark in _MARKUP):
        return True
    seen = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return _ORDERS.search(" ".join(seen.split())) is not None


def told_to_obey(trajectory: Trajectory) -> bool:
    """Return whether any tool told the model something that looks injected."""
    return any(record.result is not None and looks_injected(record.result.output) for record in trajectory.calls)


def outside_sources(trajectory: Trajectory) -> tuple[str, ...]:
    """Return the places outside the workspace that the run was told something from, each once and in order."""
    return tuple(sorted({source for record in trajectory.calls if (source := _source(record))}))


def _source(record: CallRecord) -> str | None:
    name = record.intent.call.name
    if name.startswith(_MCP):
        return "__".join(name.split("__")[:2])
    if record.intent.effect != EffectClass.NET:
        return None
    hosts = (_host(value) for value in record.intent.made.arguments.values() if isinstance(value, str))
    return " ".join([name, *[host for host in hosts if host][:1]])


def _host(value: str) -> str | None:
    try:
        return urlsplit(value).hostname
    except ValueError:
        return None
