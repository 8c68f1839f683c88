"""Why a value was refused, in one sentence for whoever wrote the file that it stands in."""

from pydantic import ValidationError


def first_reason(error: ValidationError) -> str:
    """Return the first thing that is wrong with a value, and where in it, by dotted keys."""
    first = error.errors(include_url=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
