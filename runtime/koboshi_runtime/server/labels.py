"""`POST /v1/outcomes` and `/v1/approvals`: what others say of runs, and of calls that wait for a person.

An outcome that is posted is an event: it counts less than a checker's verdict, a project's check or a person's label,
and more than nothing.
"""

import asyncio

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from koboshi_policies import Answer

from ..approvals import answer_approval, approvals, find_approval
from ..ids import utc_now
from ..records import Outcome, OutcomeLabel, OutcomeSource
from ..store import StoreRuleError
from .body import read_body
from .errors import ApiError
from .service import service_of

_LONGEST = 10_000
"""Characters of a reason: it is for a person to read."""


class _Exact(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class OutcomeBody(_Exact):
    """How a run went; `run_id` may be its beginning, `who` names the program that says so."""

    run_id: str = Field(min_length=1)
    label: OutcomeLabel
    who: str = Field(default="api", min_length=1, max_length=200)
    rationale: str = Field(default="", max_length=_LONGEST)
    score: float | None = Field(default=None, allow_inf_nan=False)


class AnswerBody(_Exact):
    """What a person says of a call."""

    answer: Answer
    why: str = Field(default="", max_length=_LONGEST)
    who: str = Field(default="api", min_length=1, max_length=200)


async def add_outcome(request: Request) -> Response:
    """Append a label to a run, and tell which one counts now."""
    service, given = service_of(request), await read_body(request, OutcomeBody)
    store = service.session.store
    run_id = store.resolve(given.run_id)
    # Whoever says how it went knows that it is over, also where its last reply is a call.
    await service.records.close(run_id)
    outcome = Outcome(
        label=given.label,
        source=OutcomeSource.EVENT,
        who=given.who,
        rationale=given.rationale,
        score=given.score,
    )
    await asyncio.to_thread(store.add_outcome, run_id, outcome)
    return JSONResponse({"run_id": run_id, "outcome": store.trajectory(run_id).outcome}, 201)


async def list_approvals(request: Request) -> Response:
    """Tell the calls that can be answered, the newest first."""
    now = utc_now()
    found = approvals(service_of(request).session.store)
    return JSONResponse({"data": [{**each.model_dump(mode="json"), "state": each.state(now)} for each in found]})


async def answer_one(request: Request) -> Response:
    """Approve or refuse one call."""
    store, given = service_of(request).session.store, await read_body(request, AnswerBody)
    if given.answer not in (Answer.APPROVED, Answer.REFUSED):
        raise ApiError(
            400, f"an answer is approved or refused, not {given.answer}", code="invalid_value", param="answer"
        )
    asked = find_approval(store, request.path_params["approval_id"])
    try:
        await asyncio.to_thread(answer_approval, store, asked.approval_id, given.answer, who=given.who, why=given.why)
    except StoreRuleError as error:
        raise ApiError(409, str(error), code="answered_already") from error
    return JSONResponse({"approval_id": asked.approval_id, "answer": given.answer})
