"""What a finished run must have done to count as a success."""

from .judge import CheckSettings, Finished, judge, refuse_commands
from .numbers import last_number, whole_number
from .project_checks import ProjectCheck, SchemaCheck, judge_checks, judge_project
from .schema import schema_problems
from .specs import (
    AcceptedCall,
    Checker,
    CommandChecker,
    ExactChecker,
    JsonChecker,
    NumberChecker,
    OneOfChecker,
    RegexChecker,
    SqlChecker,
    ToolCallChecker,
)

__all__ = [
    "AcceptedCall",
    "CheckSettings",
    "Checker",
    "CommandChecker",
    "ExactChecker",
    "Finished",
    "JsonChecker",
    "NumberChecker",
    "OneOfChecker",
    "ProjectCheck",
    "RegexChecker",
    "SchemaCheck",
    "SqlChecker",
    "ToolCallChecker",
    "judge",
    "judge_checks",
    "judge_project",
    "last_number",
    "refuse_commands",
    "schema_problems",
    "whole_number",
]
