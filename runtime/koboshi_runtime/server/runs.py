"""`/v1/runs`: tasks for the project's own agent, with its tools under its rules, and what happens in them as events.

A run goes on whether or not somebody follows it; when the server stops it is interrupted, and can be resumed. As many
run at once as the model has sequences; others wait. Each has one model from its first turn to its last. A call that the
rules ask a person about is refused, unless the run was begun as `attended`: then it waits for an answer.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from koboshi_policies import Answer
from koboshi_tools import KoboshiError

from ..approvals import put_question, wait_for_answer
from ..ids import new_id
from ..model import Model
from ..records import CallIntent, Purpose
from ..runner import Runner, RunSettings
from ..session import Session
from ..store import Store
from ..tasks import Task, prompt_task
from .body import read_body
from .chat import MODEL_HEADER
from .errors import ApiError, as_api_error
from .joining import RUN_HEADER
from .run_events import EventLog, state_of, stored_events
from .service import Service, service_of
from .sse import event, event_stream

_LONGEST_PROMPT = 1_000_000


class RunBody(BaseModel):
    """What is to be done.

    `stream` answers with the run's events instead of its id, `attended` says that somebody answers its questions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str = Field(min_length=1, max_length=_LONGEST_PROMPT)
    seed: int | None = None
    temperature: float | None = Field(default=None, ge=0)
    stream: bool = False
    attended: bool = False


@dataclass(frozen=True, slots=True)
class StoreAsker:
    """Asks in the store, where `/v1/approvals`, the TUI and the command line answer."""

    store: Store
    policy_hash: str

    async def ask(self, run_id: str, intent: CallIntent) -> Answer:
        """Put the question and wait until it is answered or expires."""
        asked = await put_question(self.store, run_id, intent, self.policy_hash)
        return await wait_for_answer(self.store, asked, intent.idempotency_key)


@dataclass(slots=True)
class Runs:
    """The runs that go on in this server."""

    session: Session
    logs: dict[str, EventLog] = field(default_factory=dict)
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)
    _places: asyncio.Semaphore | None = None

    def begin(self, service: Service, task: Task, body: RunBody) -> str:
        """Start a run and return its id. Raises UsageError for a task that cannot be run here."""
        project = self.session.project
        project.refuse_unrunnable([task], project.check_settings(allow_commands=False))
        run_id, log = new_id(), EventLog()
        self.logs[run_id] = log
        carried = asyncio.create_task(self._carry(service, run_id, task, body))
        self._tasks.add(carried)
        carried.add_done_callback(self._tasks.discard)
        return run_id

    async def close(self) -> None:
        """Interrupt what still runs, and wait until it is stored."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, service: Service, run_id: str, task: Task, body: RunBody) -> None:
        log = self.logs[run_id]
        try:
            async with service.models.lease() as model:
                self._places = self._places or asyncio.Semaphore(model.info.parallel)
                async with self._places:
                    await self._runner(service, model, body, log).run(task, run_id=run_id)
            last = {"type": "end", **state_of(self.session.store.trajectory(run_id))}
        except KoboshiError as error:
            last = {"type": "error", "run_id": run_id, "error": str(as_api_error(error))}
        except asyncio.CancelledError:
            log.add({"type": "error", "run_id": run_id, "error": "the server stops: the run is interrupted"}, last=True)
            raise
        finally:
            # Who follows has the log; who comes later reads what is stored.
            del self.logs[run_id]
        log.add(last, last=True)

    def _runner(self, service: Service, model: Model, body: RunBody, log: EventLog) -> Runner:
        drawn, session = service.place.settings.run, self.session
        settings = RunSettings(
            purpose=Purpose.WORK,
            seed=drawn.seed if body.seed is None else body.seed,
            temperature=drawn.temperature if body.temperature is None else body.temperature,
            top_p=drawn.top_p,
            asker=StoreAsker(session.store, session.policy.hash) if body.attended else None,
            watch=log.tell,
            check_settings=session.project.check_settings(allow_commands=False),
        )
        return Runner(
            session.project,
            session.policy,
            session.tools,
            model,
            session.store,
            settings,
            agent=service.agent,
            versions=session.versions,
        )


async def begin_run(request: Request) -> Response:
    """Start a run: 202 with its id, or its events at once."""
    service, body = service_of(request), await read_body(request, RunBody)
    run_id = service.runs.begin(service, prompt_task(body.prompt), body)
    headers = {RUN_HEADER: run_id}
    if body.stream:
        return event_stream(_live(service.runs.logs[run_id]), headers)
    return JSONResponse({"run_id": run_id, "status": "running"}, 202, headers)


async def show_run(request: Request) -> Response:
    """Tell where a run stands."""
    service = service_of(request)
    run_id = request.path_params["run_id"]
    if run_id in service.runs.logs:
        return JSONResponse({"run_id": run_id, "status": "running"})
    found = service.session.store.trajectory(service.session.store.resolve(run_id))
    return JSONResponse(state_of(found), headers={MODEL_HEADER: found.header.model_hash})


async def follow_run(request: Request) -> Response:
    """Tell what happened in a run, and go on until it ends."""
    service, run_id = service_of(request), request.path_params["run_id"]
    if (log := service.runs.logs.get(run_id)) is not None:
        return event_stream(_live(log), {RUN_HEADER: run_id})
    found = service.session.store.trajectory(service.session.store.resolve(run_id))
    if found.end is None:
        raise ApiError(409, f"run {found.run_id} goes on, or stood still, outside of this server", code="not_here")
    return event_stream(
        _stored([event(each, each["type"]) for each in stored_events(found)]), {RUN_HEADER: found.run_id}
    )


async def _live(log: EventLog) -> AsyncIterator[bytes]:
    async for each in log.follow():
        yield event(each, each["type"])


async def _stored(events: list[bytes]) -> AsyncIterator[bytes]:
    for each in events:
        yield each
