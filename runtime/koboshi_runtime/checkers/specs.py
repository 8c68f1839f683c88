"""What a task file may ask of a finished run: one value for each kind of checker.

A checker that could never be judged (a pattern that is not one, an answer without a number, a path that leaves its
folder) is refused when it is read, before anything runs.
"""

import re
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, field_validator, model_validator

from koboshi_tools import Frozen

from .numbers import whole_number
from .schema import uncovered


def inner_path(text: str) -> str:
    """Return `text` if it is a relative path that names nothing above its folder; ValueError otherwise."""
    path = PurePosixPath(text)
    if not text or "\0" in text or path.is_absolute() or ".." in path.parts or path == PurePosixPath("."):
        raise ValueError(f"{text!r} is not a path inside its folder")
    return text


class NumberChecker(Frozen):
    """The answer's last number is within `tolerance` of `answer`, or within `relative_tolerance` times its size."""

    kind: Literal["number"]
    answer: str | int | float
    tolerance: float = Field(default=1e-4, ge=0, allow_inf_nan=False)
    relative_tolerance: float = Field(default=0.0, ge=0, le=1)

    @field_validator("answer", mode="before")
    @classmethod
    def _is_a_number(cls, value: Any) -> Any:
        if isinstance(value, bool) or whole_number(str(value)) is None:
            raise ValueError(f"{value!r} is not a number")
        return value


class ExactChecker(Frozen):
    """The answer is this text, apart from white space around it."""

    kind: Literal["exact"]
    answer: str


class RegexChecker(Frozen):
    """The pattern is found somewhere in the answer (Python's `re.search`; `(?i)` for any case)."""

    kind: Literal["regex"]
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"the pattern {value!r} is not one: {error}") from error
        return value


class OneOfChecker(Frozen):
    """The answer is one of these texts, in any case, apart from white space and a full stop at its end."""

    kind: Literal["one_of"]
    answers: tuple[str, ...] = Field(min_length=1)


class JsonChecker(Frozen):
    """The answer is JSON that keeps `schema`, equals `answer`, or both."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    kind: Literal["json"]
    json_schema: dict[str, Any] | None = Field(default=None, alias="schema")
    answer: Any = None

    @model_validator(mode="after")
    def _asks_something(self) -> "JsonChecker":
        if self.json_schema is None and "answer" not in self.model_fields_set:
            raise ValueError("a json checker needs 'schema', 'answer' or both")
        if unknown := uncovered(self.json_schema or {}):
            raise ValueError(f"the schema uses {', '.join(unknown)}, which the checker does not look at")
        return self


class AcceptedCall(Frozen):
    """A call that must be made: for each argument its accepted values; `""` among them means it may be left out."""

    name: str
    arguments: dict[str, tuple[Any, ...]] = Field(default_factory=dict)


class ToolCallChecker(Frozen):
    """Exactly the calls of `accept` are made, in any order; with none, no call is right."""

    kind: Literal["tool_call"]
    accept: tuple[AcceptedCall, ...]


class SqlChecker(Frozen):
    """After the run, `query` on a database file of the workspace gives `rows`, in any order unless `ordered`."""

    kind: Literal["sql"]
    database: Annotated[str, Field(max_length=400)]
    query: str
    rows: tuple[tuple[str | int | float | None, ...], ...]
    ordered: bool = False

    _inside = field_validator("database")(inner_path)


class CommandChecker(Frozen):
    """A program of the project's `checks` folder judges: exit 0 is success, 1 failure, anything else unknown."""

    kind: Literal["command"]
    file: Annotated[str, Field(max_length=400)]
    arguments: tuple[str, ...] = ()
    timeout_s: float = Field(default=30.0, gt=0, le=3600)
    sha256: str | None = Field(default=None, pattern="^[0-9a-f]{64}$")

    _inside = field_validator("file")(inner_path)


Checker = Annotated[
    NumberChecker
    | ExactChecker
    | RegexChecker
    | OneOfChecker
    | JsonChecker
    | ToolCallChecker
    | SqlChecker
    | CommandChecker,
    Field(discriminator="kind"),
]
