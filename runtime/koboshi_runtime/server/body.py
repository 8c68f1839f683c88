"""Reading a request's body: JSON with one meaning, of bounded length, as the value that an endpoint expects."""

from typing import TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from .. import strict_json
from .errors import ApiError

_MAX_BYTES = 16 << 20
"""A conversation of 100,000 words is under 1 MB."""

_Value = TypeVar("_Value", bound=BaseModel)


async def read_body(request: Request, kind: type[_Value]) -> _Value:
    """Return the body as a `kind`. Raises ApiError 400 with the field that is wrong, or 413."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > _MAX_BYTES:
            raise ApiError(413, f"the body is longer than {_MAX_BYTES} bytes", code="too_long")
    try:
        return kind.model_validate(strict_json.loads(data.decode()))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ApiError(400, f"{place or 'the body'}: {first['msg']}", code="invalid_value", param=place) from error
    except ValueError as error:
        raise ApiError(400, f"the body cannot be read: {error}", code="invalid_json") from error
