"""What settings say, for hashes: a key that came later counts only where it is used.

Results are kept under the hash of all that went into them. A key that is added to the settings must not change the hash
of those that never heard of it: it is marked `LATER`, and left out while it has its default.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel


class _Later:
    """The type of `LATER`."""


LATER = _Later()


def identity(value: BaseModel) -> dict[str, Any]:
    """Return `value` as JSON values, without the fields that are marked `LATER` and have their default."""
    dumped = value.model_dump(mode="json")
    _prune(value, dumped)
    return dumped


def _prune(value: object, dumped: Any) -> None:
    if isinstance(value, BaseModel):
        for name, field in type(value).model_fields.items():
            own = getattr(value, name)
            if LATER in field.metadata and own == field.default:
                del dumped[name]
            else:
                _prune(own, dumped[name])
    elif isinstance(value, Mapping):
        for key, own in value.items():
            _prune(own, dumped.get(str(key)))
    elif isinstance(value, (tuple, list)):
        for own, part in zip(value, dumped, strict=True):
            _prune(own, part)
