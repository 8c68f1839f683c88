"""What secrets look like: keys of the usual vendors, tokens, private keys, passwords beside their names.

Each shape is bounded and possessive, so that no text takes longer than its length. Cheap tests come first, because
nearly no text holds a secret: every shape needs a long word or one of six stretches of text (`suspicious`), and one of
its own hints. Where a shape has a group `secret`, only what that holds is one.

Covered: the shapes below, also inside JSON whose quotes and line breaks are escaped; one of them cut short by the end
of the text, if sixteen characters of it are there. Not covered: a secret of no known shape and without a name beside
it; one that is encoded again, as base64 of a password; one that is spelt out in parts.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

_TOKEN = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
_LONG = 16
"""Characters of a word that may be a key: the shortest vendor key is longer, and few words of any language are."""

_WORDS = bytes(0x78 if code in _TOKEN else 0x20 for code in range(256))
_LONG_WORD = b"x" * _LONG
_STRETCHES = (b"passw", b"passphrase", b"pwd", b"secret", b"://", b"-----")

# A name and its value, in configuration, code or JSON, whose quotes may be escaped once or more.
_SEP = r"\\*[\"']?\s*(?:=>|:=|=|:)\s*"
_QUOTED = r"\\*[\"'](?![$<{%*\[])"
_BARE = r"[^\s\"'&,;<>{}()\[\]\\$%*][^\s\"'&,;<>{}()\[\]\\]{3,}+(?!\()"
_KEY = rf"(?=[A-Za-z+/.=~_-]{{0,200}}\d)[\w+/.=~-]{{{_LONG},}}+"
_WITH_DIGIT = r"(?=[^\s\d\"'&,;<>{}()\[\]\\]{0,200}\d)"
_PASS = r"(?:passw(?:or)?d|passphrase|pwd|secret)[\w-]{0,24}"


class Shape(NamedTuple):
    """One shape: what its secrets are called, the stretches of lower-case text that one must hold, the expression."""

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]


def _shape(kind: str, hints: str, pattern: str) -> Shape:
    return Shape(kind, tuple(hints.split()), re.compile(pattern))


_PASS_HINTS = "passw passphrase pwd secret"
SHAPES = (
    _shape(
        "private key",
        "-----begin",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
        r"(?s:.)*?(?:-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    ),
    _shape("AWS key", "akia asia abia acca", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    _shape("token", "ghp_ gho_ ghu_ ghs_ ghr_", r"\bgh[pousr]_[A-Za-z0-9]{30,}+"),
    _shape("token", "github_pat_", r"\bgithub_pat_\w{22,}+"),
    _shape("token", "glpat- gldt- glrt- glptt-", r"\bgl(?:pat|dt|rt|ptt)-[\w-]{20,}+"),
    _shape("API key", "sk-", r"\bsk-[\w-]{20,}+"),
    _shape("API key", "k_live_ k_test_", r"\b[srp]k_(?:live|test)_[A-Za-z0-9]{16,}+"),
    _shape("API key", "whsec_", r"\bwhsec_[A-Za-z0-9+/=]{24,}+"),
    _shape("API key", "aiza gocspx- ya29.", r"\b(?:AIza[\w-]{35}|GOCSPX-[\w-]{20,}+|ya29\.[\w-]{20,}+)"),
    _shape("API key", "hf_ npm_ gsk_ r8_ lin_api_", r"\b(?:hf|npm|gsk|r8|lin_api)_[A-Za-z0-9]{30,}+"),
    _shape("API key", "pypi-", r"\bpypi-[\w-]{40,}+"),
    _shape("API key", "sg.", r"\bSG\.[\w-]{16,}+\.[\w-]{16,}+"),
    _shape("API key", "dop_v1_ dckr_pat_", r"\b(?:dop_v1_[a-f0-9]{40,}+|dckr_pat_[\w-]{20,}+)"),
    _shape("API key", "xai- pplx-", r"\b(?:xai|pplx)-[\w-]{30,}+"),
    _shape("API key", "shpat_ shpss_ sntry", r"\b(?:shp(?:at|ss)_[a-fA-F0-9]{32}|sntry[su]_[\w+/=-]{30,}+)"),
    _shape("API key", "age-secret-key-1", r"\bAGE-SECRET-KEY-1[A-Z0-9]{50,}+"),
    _shape("API key", "key-", r"\bkey-[a-f0-9]{32}\b"),
    _shape("API key", ":aa", r"\b\d{8,10}:AA[\w-]{33}"),
    _shape("token", "xox xapp-", r"\b(?:xox[abeoprs]-[\w-]{10,}+|xapp-[\w-]{20,}+)"),
    _shape("token", "hooks.slack.com", r"hooks\.slack\.com/services/[\w/-]{20,}+"),
    _shape("token", "eyj", r"\beyJ[\w-]{8,}+\.eyJ[\w-]{8,}+(?:\.[\w-]*+)?"),
    _shape("token", "bearer basic token", rf"(?i:\b(?:bearer|basic|token)\s{{1,4}})(?P<secret>{_KEY})"),
    _shape(
        "token",
        "authorization",
        rf"(?i:authorization{_SEP}\\*[\"']?(?:bearer|basic|token)\s{{1,4}})(?P<secret>[\w+/.=~-]{{{_LONG},}}+)",
    ),
    _shape(
        "password",
        "://",
        r"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s:/@\"']{0,100}:(?P<secret>[^\s/@\"']{2,200}+)@",
    ),
    _shape(
        "key",
        "key token credential",
        rf"(?i:(?:key|token|credentials?)[\w-]{{0,24}}{_SEP}\\*[\"']?)(?P<secret>{_KEY})",
    ),
    _shape("password", _PASS_HINTS, rf"(?i:{_PASS}{_SEP}{_QUOTED})(?P<secret>[^\"'\\\n]{{4,200}}+)"),
    _shape("password", _PASS_HINTS, rf"(?i:{_PASS}(?:=|:=))(?P<secret>{_BARE})"),
    _shape("password", _PASS_HINTS, rf"(?i:{_PASS}{_SEP})(?P<secret>{_WITH_DIGIT}{_BARE})"),
    _shape(
        "password",
        "password: passwd:",
        rf"(?im:(?:^|\\+n)[ \t]*[\w.-]{{0,40}}passw(?:or)?d:[ \t]+)"
        rf"(?P<secret>{_BARE})(?=[ \t]*(?:(?m:$)|\\+[nr\"]|\"))",
    ),
    _shape("password", "--", rf"(?i:--(?:{_PASS}|token|api-key)[ =]+)(?P<secret>{_BARE})"),
    _shape(
        "key",
        "akia asia gh github_pat_ glpat- sk- k_live_ aiza hf_ xox eyj",
        r"\b(?:AKIA|ASIA|gh[pousr]_|github_pat_|glpat-|sk-|[sr]k_live_|AIza|hf_|xox[abeoprs]-|eyJ)[\w.-]{8,}+\Z",
    ),
)

NAMED_SECRET = re.compile(rf"(?i)^[\w-]{{0,40}}{_PASS}$")
"""A name in JSON whose text value is secret whatever it looks like."""

_SECRET_PARTS = frozenset(
    "KEY APIKEY TOKEN SECRET SECRETS PASSWORD PASSWD PASSPHRASE PASS PAT PWD CREDENTIAL CREDENTIALS".split()
)
_LEAST_VALUE = 8
"""Characters: a shorter value, such as `on` or `admin`, stands in too many texts that are no secret."""


def suspicious(data: bytes) -> bool:
    """Return whether a text, as UTF-8, may hold one of the shapes."""
    if _LONG_WORD in data.translate(_WORDS):
        return True
    lowered = data.lower()
    return any(stretch in lowered for stretch in _STRETCHES)


def secret_values(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the values of variables that by their names are secrets, the longest first; paths are none."""
    found = {value for name, value in environment.items() if _is_secret(name, value)}
    return tuple(sorted(found, key=lambda value: (-len(value), value)))


def _is_secret(name: str, value: str) -> bool:
    parts = set(name.upper().split("_"))
    return bool(parts & _SECRET_PARTS) and "PUBLIC" not in parts and len(value) >= _LEAST_VALUE and value[0] not in "/~"
