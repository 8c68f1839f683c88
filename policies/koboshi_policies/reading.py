"""Read a policy file: TOML with `[[rule]]` tables, each rule with the line of its header, and `[[swap]]` tables.

A file is taken whole or not at all: one unknown key, bad verdict, bad pattern or failing example refuses it, because a
policy that is half understood is not the policy that was written. `mode = "shadow"` at its top keeps its rules from
being obeyed: what they would decide is recorded beside what is done.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from koboshi_tools import UsageError

from .examples import failed_examples
from .rules import Rule, RuleText
from .versions import SwapWish

# Strings and comments are matched first, so that a header inside them is none.
_HEADER_OR_SKIPPED = re.compile(
    r'"""(?:\\.|[^\\])*?"""|'
    r"'''.*?'''|"
    r'"(?:\\.|[^"\\\n])*"|'
    r"'[^'\n]*'|"
    r"\#[^\n]*|"
    r"(?P<header>\[\[[ \t]*rule[ \t]*\]\])",
    re.DOTALL,
)
_HINT = 'A rule reads: [[rule]], tools = ["calculator"], verdict = "allow" | "ask" | "deny" | "modify".'
_SWAP_HINT = 'A swap reads: [[swap]], tool = "lookup", version = "2", and share = 0.2 if it is not a fifth of the runs.'
_MODES = ("enforced", "shadow")


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """The rules of one file, and the versions of tools that it swaps in.

    The rules of a file in shadow mode are looked at and not obeyed.
    """

    rules: tuple[Rule, ...]
    shadow: bool
    swaps: tuple[SwapWish, ...] = ()


def read_policy_file(path: Path, layer: str, *, examples: bool = True) -> PolicyFile:
    """Return the rules of one file in their order. Raises UsageError naming file and line.

    `examples` False leaves out the tests that the rules carry, for who wants to see all that fail.
    """
    text = _text(path)
    try:
        content = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{path}:{_error_line(error, text)}: {error}", hint="Correct the TOML.") from error
    mode = content.pop("mode", "enforced")
    if mode not in _MODES:
        raise UsageError(f"{path}: mode is {mode!r}", hint=f"Write one of: {', '.join(_MODES)}.")
    swaps = _swaps(content.pop("swap", []), path=path, shadow=mode == "shadow")
    unknown = sorted(set(content) - {"rule"})
    if unknown:
        raise UsageError(f"{path}: unknown key {unknown[0]!r}", hint=_HINT)
    tables = content.get("rule", [])
    lines = _header_lines(text)
    if not isinstance(tables, list) or len(lines) != len(tables):
        raise UsageError(f"{path}: a rule does not stand under a [[rule]] header of its own", hint=_HINT)
    rules = [_rule(table, path=path, layer=layer, line=line) for table, line in zip(tables, lines, strict=True)]
    named = [rule if rule.name else rule.model_copy(update={"name": f"rule-{n}"}) for n, rule in enumerate(rules, 1)]
    _refuse_twins(named)
    for rule in named if examples else ():
        for said in failed_examples(rule):
            raise UsageError(
                f"{path}:{rule.line}: {said}", hint="Mend the rule or its example; `koboshi policy test` shows all."
            )
    return PolicyFile(rules=tuple(named), shadow=mode == "shadow", swaps=swaps)


def _swaps(tables: Any, *, path: Path, shadow: bool) -> tuple[SwapWish, ...]:
    try:
        found = TypeAdapter(tuple[SwapWish, ...]).validate_python(tables)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in ("swap", *first["loc"]))
        raise UsageError(f"{path}: {where}: {_plain(first['type'], first['msg'])}", hint=_SWAP_HINT) from error
    if found and shadow:
        raise UsageError(f"{path}: a file in shadow mode swaps nothing", hint="Put [[swap]] into a file of its own.")
    return found


def _text(path: Path) -> str:
    try:
        # TOML ends its lines with LF or CRLF, and counts neither twice.
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except OSError as error:
        raise UsageError(f"cannot read the policy {path}: {error.strerror}", hint="Check the path.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not UTF-8 at byte {error.start}", hint="Save it as UTF-8.") from error


def _error_line(error: Exception, text: str) -> int:
    """Return the line that the TOML reader names, or the last one where it names the end of the document."""
    named = re.search(r"at line (\d+)", str(error))
    return int(named[1]) if named else max(len(text.splitlines()), 1)


def _header_lines(text: str) -> list[int]:
    headers = [match for match in _HEADER_OR_SKIPPED.finditer(text) if match["header"]]
    return [text.count("\n", 0, header.start()) + 1 for header in headers]


def _rule(table: Any, *, path: Path, layer: str, line: int) -> Rule:
    try:
        written = RuleText.model_validate(table)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        said = f"{where}: " * bool(where) + _plain(first["type"], first["msg"])
        raise UsageError(f"{path}:{line}: {said}", hint=_HINT) from error
    return Rule(text=written, name=written.name or "", layer=layer, file=str(path), line=line)


def _plain(kind: str, message: str) -> str:
    return "unknown key" if kind == "extra_forbidden" else message.removeprefix("Value error, ")


def _refuse_twins(rules: Sequence[Rule]) -> None:
    seen: dict[str, Rule] = {}
    for rule in rules:
        if first := seen.get(rule.name):
            raise UsageError(
                f"{rule.file}:{rule.line}: the name {rule.name!r} is that of the rule on line {first.line}",
                hint="Give each rule of a file its own name.",
            )
        seen[rule.name] = rule
