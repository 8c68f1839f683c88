"""What `koboshi.toml` may hold of a project: `[agent]`, `[tools.NAME]`, `[policy]` and `[[outcome]]`.

The configuration's own tables may stand in the same file and are left to it. Any other key is refused with the nearest
known one, because a misspelt budget that is silently ignored is a budget that does not hold.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError, field_validator

from koboshi_tools import Frozen, UsageError

from .checkers import CommandChecker, ProjectCheck, SchemaCheck, SqlChecker
from .checkers.specs import inner_path
from .config_values import Settings

FILE_NAME = "koboshi.toml"
CONFIG_TABLES = frozenset(Settings.model_fields)
DEFAULT_SYSTEM_PROMPT = (
    "You are a helpful assistant. Use the tools to find the answer, then say it in one short sentence."
)


class Budgets(Frozen):
    """What one run may use. Tokens are those the model writes; seconds are wall-clock and hold for real work only.

    `tool_seconds` and `tool_output_bytes` are limits on one call.
    """

    max_steps: int = Field(default=12, ge=1)
    max_calls: int = Field(default=16, ge=0)
    max_tokens: int = Field(default=2048, ge=1)
    max_seconds: float = Field(default=300, gt=0)
    reply_tokens: int = Field(default=512, ge=1)
    tool_seconds: float = Field(default=30, gt=0)
    tool_output_bytes: int = Field(default=8192, ge=64)


class AgentTable(Frozen):
    """`[agent]`: who acts, with which tools (names or globs), within which budgets."""

    name: str | None = Field(default=None, min_length=1, max_length=100)
    system_prompt: str = DEFAULT_SYSTEM_PROMPT
    model: str = "current"
    tools: tuple[str, ...] = ("*",)
    budgets: Budgets = Budgets()


class PolicyTable(Frozen):
    """`[policy]`: the project's rule files, or folders of them, inside the project."""

    files: tuple[str, ...] = ("policies",)

    @field_validator("files")
    @classmethod
    def _inside(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(inner_path(path) for path in value)


class ProjectFile(Frozen):
    """All of `koboshi.toml` that belongs to the project."""

    agent: AgentTable = AgentTable()
    tools: dict[str, dict[str, Any]] = Field(default_factory=dict)
    policy: PolicyTable = PolicyTable()
    outcome: tuple[ProjectCheck, ...] = ()


_TABLES: dict[str, type[Frozen]] = {
    "agent": AgentTable,
    "budgets": Budgets,
    "policy": PolicyTable,
    "command": CommandChecker,
    "sql": SqlChecker,
    "schema": SchemaCheck,
}


def read_project_file(path: Path) -> ProjectFile:
    """Return the project's part of the file. Raises UsageError naming the file, the key and the way out."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", hint="Make one with: koboshi init DIR") from error
    except ValueError as error:
        raise UsageError(f"{path} is not TOML: {error}") from error
    try:
        return ProjectFile.model_validate({key: value for key, value in tables.items() if key not in CONFIG_TABLES})
    except ValidationError as error:
        raise _refusal(path, error) from error


def _refusal(path: Path, error: ValidationError) -> UsageError:
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] != "extra_forbidden":
        return UsageError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}")
    name = str(first["loc"][-1])
    near = difflib.get_close_matches(name, _known(first["loc"][:-1]), n=1)
    return UsageError(f"{path}: unknown key {where!r}", hint=f"Did you mean {near[0]!r}?" if near else None)


def _known(table: tuple[str | int, ...]) -> list[str]:
    """The keys of the table at this place: its last part is a table's name, a kind of check, or nothing."""
    if not table:
        return [*ProjectFile.model_fields, *CONFIG_TABLES]
    model = _TABLES.get(str(table[-1]), Frozen)
    return [field.alias or name for name, field in model.model_fields.items()]
