"""Typed conditions on one argument of a call: a number's bounds, a path's folder, an SQL text's kinds, a URL's host.

A condition gives one finding for each part of the argument: for each item of a list, and for each kind of statement
that an SQL text holds. Permission needs them all; for asking, denying and changing one is enough. An argument that
cannot be judged raises ValueError, which fails the rule, and that denies.

Paths are compared as text after `.` and `..` are taken out: a relative one is below the workspace, and relative and
absolute ones cannot be compared. Not covered: links, which the tool must not follow, and names that resolve to other
hosts than they say, which the tool must look at after resolution.
"""

import math
import posixpath
import re
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from koboshi_tools import Frozen

from .sql_kinds import SqlKind, sql_kinds

_HOST = re.compile(r"[a-z0-9._:-]+")
_HOST_GLOB = re.compile(r"[a-z0-9._:*?-]+")
# Characters at which readers of URLs disagree where the host ends.
_DOUBTFUL = re.compile(r"[\s\\\x00-\x20\x7f]")


class Condition(Frozen):
    """What one argument must be for the rule to apply: all of what is written here."""

    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)
    inside: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    sql: tuple[SqlKind, ...] = ()
    hosts: tuple[str, ...] = ()

    @field_validator("inside", "outside")
    @classmethod
    def _folders_are_clear(cls, folders: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_normal(folder) for folder in folders)

    @field_validator("hosts")
    @classmethod
    def _hosts_are_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        for host in hosts:
            if not _HOST_GLOB.fullmatch(host):
                raise ValueError(f"{host!r} is not a host name in small letters, or a glob of one")
        return hosts

    @model_validator(mode="after")
    def _says_something(self) -> "Condition":
        if not self.model_fields_set:
            raise ValueError("a condition is empty: write min, max, inside, outside, sql or hosts")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    def findings(self, value: Any) -> list[bool]:
        """Return for each part of `value` whether the condition holds. Raises ValueError if it cannot be judged."""
        found: list[bool] = []
        for item in value if isinstance(value, list) else [value]:
            found += self._of(item)
        if not found:
            raise ValueError("an empty list cannot be judged")
        return found

    def _of(self, item: Any) -> Iterator[bool]:
        plain = self._in_bounds(item) and self._in_folders(item) and self._on_hosts(item)
        if self.sql:
            yield from (plain and kind in self.sql for kind in sorted(sql_kinds(_text(item))))
        else:
            yield plain

    def _in_bounds(self, item: Any) -> bool:
        if self.min is None and self.max is None:
            return True
        if isinstance(item, bool) or not isinstance(item, int | float) or not math.isfinite(item):
            raise ValueError(f"{item!r:.80} is not a number")
        return (self.min is None or item >= self.min) and (self.max is None or item <= self.max)

    def _in_folders(self, item: Any) -> bool:
        if not self.inside and not self.outside:
            return True
        path = _normal(_text(item))
        inside = [_lies_in(path, folder) for folder in self.inside]
        outside = [_lies_in(path, folder) for folder in self.outside]
        return (any(inside) or not inside) and not any(outside)

    def _on_hosts(self, item: Any) -> bool:
        if not self.hosts:
            return True
        host = _host(_text(item))
        return any(fnmatchcase(host, glob) for glob in self.hosts)


def _text(item: Any) -> str:
    if not isinstance(item, str):
        raise ValueError(f"{item!r:.80} is not text")
    return item


def _normal(path: str) -> str:
    if not path or "\0" in path or path.startswith("~"):
        raise ValueError(f"{path!r:.80} is not a path that can be judged")
    found = posixpath.normpath(path)
    if found.split("/")[0] == "..":
        raise ValueError(f"{path!r:.80} leads out of the folder that it begins in")
    # POSIX lets two leading slashes mean something else than one, and normpath keeps them; here they are one.
    return found.removeprefix("/") if found.startswith("//") else found


def _lies_in(path: str, folder: str) -> bool:
    if posixpath.isabs(path) != posixpath.isabs(folder):
        raise ValueError(f"{path!r:.80} and {folder!r} are not both relative: where the one lies in the other is open")
    return folder in (".", "/") or path == folder or path.startswith(folder + "/")


def _host(url: str) -> str:
    if _DOUBTFUL.search(url):
        raise ValueError(f"{url!r:.80} holds a character that no URL holds")
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("http", "https") or not _HOST.fullmatch(host) or "@" in parts.netloc:
        raise ValueError(f"{url!r:.80} is not an http or https URL with a plain host")
    return host
