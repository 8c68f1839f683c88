"""The application: every path with its method and the scope that it needs."""

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from . import chat, labels, runs
from .errors import ApiError, error_response
from .guard import Endpoint, Guard, needs
from .service import Service, service_of
from .tokens import Scope


async def _metrics(request: Request) -> Response:
    page, kind = service_of(request).metrics.page()
    return Response(page, media_type=kind)


_Paths = tuple[tuple[str, str, Scope, Endpoint], ...]

PATHS: _Paths = (
    ("POST", "/v1/chat/completions", Scope.RUN, chat.complete),
    ("GET", "/v1/models", Scope.RUN, chat.list_models),
    ("GET", "/v1/models/{name:path}", Scope.RUN, chat.show_model),
    ("POST", "/v1/runs", Scope.RUN, runs.begin_run),
    ("GET", "/v1/runs/{run_id}", Scope.RUN, runs.show_run),
    ("GET", "/v1/runs/{run_id}/events", Scope.RUN, runs.follow_run),
    ("POST", "/v1/outcomes", Scope.LABEL, labels.add_outcome),
    ("GET", "/v1/approvals", Scope.APPROVE, labels.list_approvals),
    ("POST", "/v1/approvals/{approval_id}", Scope.APPROVE, labels.answer_one),
    ("GET", "/metrics", Scope.RUN, _metrics),
)


async def _health(request: Request) -> Response:
    return JSONResponse({"status": "ok"})


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "not_found" if error.status_code == 404 else "method_not_allowed"
    return error_response(
        ApiError(error.status_code, f"{request.method} {request.url.path}: {error.detail}", code=code)
    )


def make_app(service: Service, hosts: frozenset[str]) -> ASGIApp:
    """Return the application behind its guard; `hosts` are the names that it may be called by."""
    routes = [
        Route(path, _counted(service, path, needs(scope, endpoint)), methods=[method])
        for method, path, scope, endpoint in PATHS
    ]
    app = Starlette(
        routes=[*routes, Route("/healthz", _health, methods=["GET"])], exception_handlers={HTTPException: _refused}
    )
    app.state.service = service
    return Guard(app, service.tokens, hosts)


def _counted(service: Service, path: str, endpoint: Endpoint) -> Endpoint:
    metrics = service.metrics

    async def counted(request: Request) -> Response:
        with metrics.under_way.track_inprogress(), metrics.seconds.labels(path).time():
            response = await endpoint(request)
        metrics.requests.labels(path, response.status_code).inc()
        return response

    return counted
