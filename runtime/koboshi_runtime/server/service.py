"""What the server's endpoints share: the home, the project, its model, its records."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from starlette.requests import Request

from ..conversation.turn import Records
from ..graph import Agent
from ..model import Model
from ..session import Place, Session
from .chat_request import Defaults
from .joining import Joining
from .metrics import Metrics
from .tokens import Tokens, open_tokens

if TYPE_CHECKING:
    from .runs import Runs


_SWEEP_S = 60.0
_IDLE_S = 900.0
"""A client's tool that needs longer than this finds its conversation going on as a run of its own."""


class Models(Protocol):
    """Where the model of a request comes from."""

    def lease(self) -> AbstractAsyncContextManager[Model]:
        """Give the live model, which stays loaded for as long as the context lasts."""
        ...


@dataclass(frozen=True, slots=True)
class OneModel:
    """A model that never changes."""

    model: Model

    @asynccontextmanager
    async def lease(self) -> AsyncIterator[Model]:
        """Give it."""
        yield self.model


@dataclass(frozen=True, slots=True)
class Service:
    """What one server works with."""

    place: Place
    session: Session
    models: Models
    tokens: Tokens
    records: Records
    joining: Joining
    runs: "Runs"
    metrics: Metrics
    agent: Agent

    @classmethod
    def of(cls, place: Place, session: Session, models: Models, metrics: Metrics | None = None) -> "Service":
        """Return a service on an open session, with the tokens of its home."""
        from .runs import Runs

        store = session.store
        return cls(
            place,
            session,
            models,
            open_tokens(place.home),
            Records(store),
            Joining(store),
            Runs(session),
            metrics or Metrics(),
            Agent(),
        )

    async def sweep(self) -> None:
        """Close the runs that no client comes back to, those of servers before this one too, until cancelled."""
        self.records.adopt()
        while True:
            await asyncio.sleep(_SWEEP_S)
            await self.records.close_idle(_IDLE_S)

    @property
    def defaults(self) -> Defaults:
        """What holds for replies that say nothing else."""
        drawn, project = self.place.settings.run, self.session.project
        return Defaults(drawn.temperature, drawn.top_p, project.budgets.reply_tokens, project.name)


def service_of(request: Request) -> Service:
    """Return the service that a request came to."""
    found: Service = request.app.state.service
    return found
