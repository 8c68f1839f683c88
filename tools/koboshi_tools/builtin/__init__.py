"""The tools that come with koboshi; all of them only read."""

from .calculator import calculator
from .files import files_list, files_read, files_search
from .sql import sql

ALL = (calculator, sql, files_read, files_list, files_search)

__all__ = ["ALL", "calculator", "files_list", "files_read", "files_search", "sql"]
