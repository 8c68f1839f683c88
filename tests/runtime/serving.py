"""A server for tests: the real one on a real port, in a thread, with a scripted model."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import httpx2
import uvicorn
from openai import AsyncOpenAI, OpenAI

from koboshi_runtime.config_values import Settings
from koboshi_runtime.home import open_home
from koboshi_runtime.model import Model
from koboshi_runtime.server.app import make_app
from koboshi_runtime.server.listening import listen_on, make_server, names_of
from koboshi_runtime.server.service import Models, OneModel, Service
from koboshi_runtime.server.tokens import Scope
from koboshi_runtime.session import Place, open_session
from koboshi_runtime.store import Store


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs."""

    port: int
    service: Service
    closing: ExitStack = field(default_factory=ExitStack)

    @property
    def store(self) -> Store:
        return self.service.session.store

    def token(self, scope: Scope = Scope.RUN) -> str:
        return self.service.tokens.by_scope[scope]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def openai(self) -> OpenAI:
        # Reading the certificates takes longer than a test.
        plain = self.closing.enter_context(httpx2.Client(verify=False, timeout=60))
        return OpenAI(base_url=f"{self.url}/v1", api_key=self.token(), max_retries=0, http_client=plain)

    def openai_async(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=f"{self.url}/v1", api_key=self.token(), max_retries=0)

    def http(self, scope: Scope | None = Scope.RUN, **headers: str) -> httpx.Client:
        granted = {} if scope is None else {"authorization": f"Bearer {self.token(scope)}"}
        return httpx.Client(base_url=self.url, headers={**granted, **headers}, timeout=60, verify=False)


@contextmanager
def served(root: Path, model: Model, folder: Path | None = None, *, models: Models | None = None) -> Iterator[Served]:
    """Serve `model`, or what `models` lease, from the home `root` / home for as long as the context lasts."""
    place = Place(open_home(path=root / "home"), folder, Settings())
    listener = listen_on("127.0.0.1", 0)
    ready = threading.Event()
    found: list[tuple[Service, uvicorn.Server]] = []

    async def serve() -> None:
        async with open_session(place, model=model) as session:
            service = Service.of(place, session, models or OneModel(model))
            server = make_server(make_app(service, names_of(listener)))
            found.append((service, server))
            ready.set()
            try:
                await server.serve(sockets=[listener])
            finally:
                await service.runs.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert ready.wait(30)
    service, server = found[0]
    try:
        with ExitStack() as closing:
            yield Served(listener.getsockname()[1], service, closing)
    finally:
        server.should_exit = True
        thread.join(30)
        listener.close()
