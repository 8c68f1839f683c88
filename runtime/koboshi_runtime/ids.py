"""Ids, clocks and the normalised prompt: what the store adds to values that have none of their own.

A run id is random from its first character, so that a short id is a prefix of it; the order of runs is the store's,
never the clock's. Two prompts that differ only in case or blanks are one prompt: `prompt_hash` is what keeps an
evaluated task out of training, and what decides its split.
"""

import secrets
from datetime import UTC, datetime

from koboshi_tools import hash_bytes

from .records import Split

SHORT_ID = 8
"""Characters of an id that a table shows; 40 bits, so that a collision needs about a million runs."""

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_ID_CHARACTERS = 16
_SHARES = ((0.7, Split.TRAIN), (0.8, Split.DEV), (0.9, Split.GATE))


def new_id() -> str:
    """Return a fresh id of 16 characters (80 random bits) without the letters that are easily misread."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARACTERS))


def id_of_hash(digest: str) -> str:
    """Return the id that a hash (`sha256:` and hex digits) comes to, the same wherever it is made."""
    number = int(digest.removeprefix("sha256:"), 16)
    return "".join(_ALPHABET[number >> 5 * place & 31] for place in range(_ID_CHARACTERS))


def is_id(text: str) -> bool:
    """Return whether a text has the form of an id."""
    return len(text) == _ID_CHARACTERS and set(text) <= set(_ALPHABET)


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def normalise_prompt(prompt: str) -> str:
    """Return `prompt` case-folded, with every stretch of white space as one blank and none at the ends."""
    return " ".join(prompt.casefold().split())


def prompt_hash(prompt: str) -> str:
    """Return the hash of the normalised prompt."""
    return hash_bytes(normalise_prompt(prompt).encode("utf-8", "surrogatepass"))


def split_of_hash(hash_of_prompt: str) -> Split:
    """Return the split a prompt falls into by its hash: train 70 %, dev, gate and test 10 % each."""
    share = int(hash_of_prompt.removeprefix("sha256:")[:8], 16) / 2**32
    return next((split for limit, split in _SHARES if share < limit), Split.TEST)
