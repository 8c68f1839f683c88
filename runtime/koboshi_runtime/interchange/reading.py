"""Read a file of runs, whatever program wrote it: the format is told by what stands in it.

A file is read whole before anything is stored. A record that makes no sense refuses the file, by its number and reason;
one that is sound and holds what no run of ours can is left out, and counted by its reason.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from koboshi_tools import UsageError

from ..records import Trajectory
from ..refusals import first_reason
from ..strict_json import loads
from .atif import read_atif
from .conversation import Conversation, LeftOut
from .goose import read_goose, read_goose_sessions
from .judging import label_of_reward
from .llm_logs import MAGIC, read_llm_logs, tables_of
from .messages import read_openai
from .raw import read_raw
from .sharegpt import read_sharegpt

Readable = Conversation | Trajectory
_SHOWN = 10
_FORMATS = "OpenAI messages, ShareGPT, ATIF, logs of `llm` and Goose, and `koboshi traces export --format trajectory`"
_READERS: Mapping[str, Callable[[Mapping[str, Any]], Readable]] = {
    "messages": read_openai,
    "conversations": read_sharegpt,
    "conversation": read_goose,
    "schema_version": read_atif,
    "header": read_raw,
}
_NAMES = {
    "messages": "openai",
    "conversations": "sharegpt",
    "conversation": "goose",
    "schema_version": "atif",
    "header": "trajectory",
}


@dataclass(slots=True)
class Found:
    """What a file holds: its runs, the name of its format, and how many were left out for which reason."""

    form: str = ""
    runs: list[Readable] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_runs(path: Path) -> Found:
    """Return what a file holds. Raises UsageError for a file or a record that is none, by its number and reason."""
    try:
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
            data = b"" if start == MAGIC else start + file.read()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    return _read_log(path) if start == MAGIC else _read_json(path, data)


def _read_log(path: Path) -> Found:
    of_goose = {"sessions", "messages"} <= tables_of(path)
    found = Found(form="goose" if of_goose else "llm")
    for each in read_goose_sessions(path) if of_goose else read_llm_logs(path):
        _take(found, each)
    return found


def _take(found: Found, read: Readable | LeftOut) -> None:
    if isinstance(read, LeftOut):
        found.left_out[str(read)] += 1
    else:
        found.runs.append(read)


def _read_json(path: Path, data: bytes) -> Found:
    found, bad = Found(), []
    for where, value in _values(path, data.removeprefix(b"\xef\xbb\xbf")):
        if isinstance(value, ValueError):
            bad.append(f"{where}: {value}")
            continue
        try:
            key = next((key for key in _READERS if isinstance(value, dict) and key in value), None)
            if key is None:
                raise ValueError(f"no run in a known format: {_FORMATS}")
            found.form = _NAMES[key]
            _take(found, _rewarded(path, _read(key, value)))
        except ValidationError as error:
            bad.append(f"{where}: {first_reason(error)}")
        except ValueError as error:
            bad.append(f"{where}: {error}")
    if bad:
        more = f"\n… and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
        shown = f"{path}: {len(bad)} bad record{'s' * (len(bad) > 1)}\n" + "\n".join(bad[:_SHOWN]) + more
        raise UsageError(shown, hint=f"Readable are {_FORMATS}.")
    if not found.runs and not found.left_out:
        raise UsageError(f"{path} holds no runs", hint=f"Readable are {_FORMATS}.")
    return found


def _read(key: str, value: Mapping[str, Any]) -> Readable | LeftOut:
    try:
        return _READERS[key](value)
    except LeftOut as reason:
        return reason


def _values(path: Path, data: bytes) -> Iterator[tuple[str, Any]]:
    """Yield each record with where it stands: a line, a place in one JSON list, or the file itself."""
    lines = [(number, line) for number, line in enumerate(data.split(b"\n"), start=1) if line.strip()]
    if len(lines) > 1 and isinstance(_value(lines[0][1]), ValueError):
        whole = _value(data)
        if isinstance(whole, list):
            yield from ((f"record {number}", value) for number, value in enumerate(whole, start=1))
            return
        if not isinstance(whole, ValueError):
            yield "the document", whole
            return
    for number, line in lines:
        value = _value(line)
        values = value if isinstance(value, list) else [value]
        yield from ((f"line {number}", each) for each in values)


def _value(text: bytes) -> Any:
    """Return the value of a JSON text, or the error that it is."""
    try:
        return loads(text.decode(), any_text=True)
    except UnicodeDecodeError as error:
        return ValueError(f"not UTF-8: byte {error.start + 1}")
    except ValueError as error:
        return error


def _rewarded(path: Path, read: Readable | LeftOut) -> Readable | LeftOut:
    """Return a trajectory of one of Harbor's trials with the reward that its verifier left two folders above it."""
    if not isinstance(read, Conversation) or read.score is not None or path.name != "trajectory.json":
        return read
    try:
        result = json.loads((path.parent.parent / "result.json").read_bytes())
        rewards = result["verifier_result"]["rewards"]
        reward = float(rewards["reward"] if "reward" in rewards else min(rewards.values()))
    except (OSError, ValueError, KeyError, TypeError):
        return read
    return read.model_copy(update={"score": reward, "label": label_of_reward(reward)})
