"""Who may speak to the server at all: programs of this machine's user that hold a token, and no web page.

Covered: another local user, who cannot read a token; a web page in the user's browser, whose requests carry an
`Origin`; a page whose name was rebound to this machine, whose requests carry its own name as `Host`. Not covered:
programs of the same user outside of a sandbox, which can read the tokens.
"""

import logging
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as AsgiScope

from .errors import ApiError, as_api_error, error_response
from .tokens import Scope, Tokens

Endpoint = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger(__name__)

_OPEN = "/healthz"
"""The one path that needs no token: it says that the server is there, which its port says as well."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Stands before the application; `hosts` are the names that the server may be called by."""

    app: ASGIApp
    tokens: Tokens
    hosts: Collection[str]

    async def __call__(self, scope: AsgiScope, receive: Receive, send: Send) -> None:
        """Let a request through, with the scope of its token in its state, or refuse it."""
        if scope["type"] == "http":
            try:
                scope.setdefault("state", {})["granted"] = self._granted(Headers(scope=scope), scope["path"])
            except ApiError as error:
                await error_response(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _granted(self, headers: Headers, path: str) -> Scope | None:
        if "origin" in headers:
            raise ApiError(403, "web pages may not call this server", code="forbidden_origin")
        hosts = headers.getlist("host")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts:
            raise ApiError(403, f"this server is not {', '.join(hosts) or 'nobody'}", code="forbidden_host")
        kind, _, token = headers.get("authorization", "").partition(" ")
        granted = self.tokens.scope_of(token.strip()) if kind.lower() == "bearer" else None
        if granted is None and path != _OPEN:
            raise ApiError(
                401,
                "a token is needed that this server knows",
                code="invalid_api_key",
                hint="they lie in the home: tokens/run, tokens/label, tokens/approve",
            )
        return granted


def needs(wanted: Scope, endpoint: Endpoint) -> Endpoint:
    """Return `endpoint` for holders of that scope; errors are answered in the shape of the API."""

    async def guarded(request: Request) -> Response:
        granted = request.state.granted
        if granted is not wanted:
            refused = ApiError(403, f"this needs the scope {wanted!s}, and the token has {granted!s}", code="scope")
            return error_response(refused)
        try:
            return await endpoint(request)
        except Exception as error:
            told = as_api_error(error)
            if told.status >= 500:
                _log.error("%s %s: %s", request.method, request.url.path, error, exc_info=told is not error)
            return error_response(told)

    return guarded
