"""A project's own checks, `[[outcome]]` in koboshi.toml: what every finished run of the project must keep.

All must pass for a success; one that fails makes a failure; otherwise one that cannot tell makes the outcome unknown.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from koboshi_tools import Frozen

from ..records import Outcome, OutcomeLabel, OutcomeSource
from .judge import CheckSettings, Finished, judge
from .schema import uncovered
from .specs import Checker, CommandChecker, JsonChecker, SqlChecker


class SchemaCheck(Frozen):
    """The final answer is JSON that keeps `schema`."""

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    kind: Literal["schema"]
    json_schema: dict[str, Any] = Field(alias="schema")

    @model_validator(mode="after")
    def _covered(self) -> "SchemaCheck":
        if unknown := uncovered(self.json_schema):
            raise ValueError(f"the schema uses {', '.join(unknown)}, which the check does not look at")
        return self


ProjectCheck = Annotated[CommandChecker | SqlChecker | SchemaCheck, Field(discriminator="kind")]


def judge_project(check: ProjectCheck, finished: Finished, settings: CheckSettings | None = None) -> Outcome:
    """Return the outcome of one check."""
    checker: Checker = JsonChecker(kind="json", schema=check.json_schema) if isinstance(check, SchemaCheck) else check
    outcome = judge(checker, finished, settings)
    return outcome.model_copy(update={"source": OutcomeSource.PROJECT_CHECK, "who": check.kind})


def judge_checks(
    checks: Sequence[ProjectCheck], finished: Finished, settings: CheckSettings | None = None
) -> Outcome | None:
    """Return the one outcome of all `checks` together, or None where the project has none."""
    outcomes = [judge_project(check, finished, settings) for check in checks]
    for label in (OutcomeLabel.FAILURE, OutcomeLabel.UNKNOWN, OutcomeLabel.SUCCESS):
        for outcome in outcomes:
            if outcome.label is label:
                return outcome
    return None
