"""One server from its start to its end: sockets, model, application, and what is told of it in the home."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from types import FrameType

from ..estimate import available_bytes, serving_bytes
from ..model import Model
from ..models.registry import ModelEntry, Registry
from ..night_sign import rests
from ..outside import NO_MODEL
from ..presence import announce, api_socket, model_socket, only_server
from ..session import Place, load_model, open_session, reference_of
from ..tuning import worker_settings
from ..workermodel import WorkerModel
from .app import make_app
from .keeper import Keeper
from .listening import listen_at, listen_on, make_server, names_of
from .metrics import Metrics
from .model_socket import share_model
from .resting import rest_at_night
from .service import Service
from .success import keep_watch


async def serve(place: Place, model_ref: str | None, on_ready: Callable[[str, str], None]) -> None:
    """Serve until a signal ends it; `on_ready` is told the URL and the model's name.

    Raises KoboshiError if a server runs on this home already, its port is taken, or its model does not load.
    """
    home = place.home
    async with AsyncExitStack() as stack:
        stack.enter_context(only_server(home))
        session = await stack.enter_async_context(open_session(place, model=NO_MODEL))
        ref = reference_of(place, session.project, model_ref)
        if model_ref is not None:
            # A name that is nobody's is refused before a port is taken.
            Registry(home).resolve(model_ref)
        listener = stack.enter_context(listen_on(place.settings.serve.host, place.settings.serve.port))
        keeper = _keeper(place, ref)
        stack.push_async_callback(keeper.close)
        model = await keeper.start()
        service = Service.of(place, session, keeper, keeper.metrics)
        stack.push_async_callback(service.runs.close)
        stack.push_async_callback(_cancelled, asyncio.create_task(service.sweep()))
        inside = stack.enter_context(listen_at(api_socket(home)))
        shared = await share_model(keeper, listen_at(model_socket(home)))
        stack.push_async_callback(shared.close)
        watching = asyncio.create_task(keeper.watch(home.models / "current"))
        stack.push_async_callback(_cancelled, watching)
        if rests(place.settings):
            stack.push_async_callback(_cancelled, asyncio.create_task(rest_at_night(keeper, home)))
        if ref == "current":
            asked = keep_watch(home, session.store, rollback=place.settings.watch.rollback)
            stack.push_async_callback(_cancelled, asyncio.create_task(asked))
        url = _url(listener.getsockname())
        announce(home, url=url, project=session.project.name)
        on_ready(url, model.info.name)
        server = make_server(make_app(service, names_of(listener)))
        with _ended_by_uvicorn_alone():
            await server.serve(sockets=[listener, inside])


def _keeper(place: Place, ref: str) -> Keeper:
    registry = Registry(place.home)

    async def load(entry: ModelEntry) -> Model:
        return await load_model(place.home, entry, place.settings)

    def fits(entry: ModelEntry, beside: Model) -> bool:
        if not isinstance(beside, WorkerModel):
            return True
        settings = worker_settings(place.home, place.settings, entry)
        # Of one family: the new model is what the old one was trained to.
        return serving_bytes(beside.facts, entry.path.stat().st_size, settings) <= available_bytes()

    return Keeper(lambda: registry.resolve(ref), load, fits, Metrics(), place.settings.serve.swap)


@contextmanager
def _ended_by_uvicorn_alone() -> Iterator[None]:
    """Let a signal do no more than end the server: uvicorn raises it again, and what comes then has to be finished."""
    before = {each: signal.signal(each, _nothing) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Take a signal that was dealt with already."""


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def _url(address: tuple[str, int]) -> str:
    host, port = address[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
