"""Errors in the shape of OpenAI's API, so that its clients raise what their users know.

Every error of ours has one place here that says its status. What is none of ours keeps its traceback in the server's
log, and is told without its text.
"""

from starlette.responses import JSONResponse

from koboshi_tools import KoboshiError, RefusedError, UsageError

from ..conversation.turn import PromptTooLongError
from ..workermodel import ModelError


class ApiError(KoboshiError):
    """A request that is answered with `status`; `code` is for programs, `param` names the field that is wrong."""

    def __init__(
        self, status: int, message: str, *, code: str, param: str | None = None, hint: str | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.status, self.code, self.param = status, code, param


def bad_field(param: str, message: str) -> ApiError:
    """Return the error about a field that cannot be kept."""
    return ApiError(400, message, code="invalid_value", param=param)


def as_api_error(error: Exception) -> ApiError:
    """Return an error as the API tells it."""
    match error:
        case ApiError():
            return error
        case PromptTooLongError():
            return ApiError(400, str(error), code="context_length_exceeded", param="messages", hint=error.hint)
        case UsageError():
            return ApiError(400, str(error), code="invalid_request", hint=error.hint)
        case RefusedError():
            return ApiError(403, str(error), code="refused", hint=error.hint)
        case ModelError():
            return ApiError(503, str(error), code="model_error", hint=error.hint)
        case KoboshiError():
            return ApiError(500, str(error), code="server_error", hint=error.hint)
        case _:
            return ApiError(500, "the server failed at this request; its log says where", code="server_error")


def error_body(error: ApiError) -> dict[str, object]:
    """Return what a client reads of an error."""
    kind = {401: "authentication_error", 403: "permission_error"}.get(error.status)
    message = f"{error} ({error.hint})" if error.hint else str(error)
    kind = kind or ("invalid_request_error" if error.status < 500 else "server_error")
    return {"error": {"message": message, "type": kind, "param": error.param, "code": error.code}}


def error_response(error: ApiError) -> JSONResponse:
    """Return the response of an error."""
    headers = {"www-authenticate": "Bearer"} if error.status == 401 else None
    return JSONResponse(error_body(error), error.status, headers)
