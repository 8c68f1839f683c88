"""Questions to a person about single calls, kept in the store, so that a terminal, a TUI, an API or another process can
answer them by the same functions.

An approval is bound to the hash of tool, its version and code, the arguments that the call is made with, and the policy
that asked: when any of them changes it is worth nothing. It expires, and it is used once. A question that was asked
while somebody attended waits for its answer; one that nobody attended was refused at once and stays listed, so that a
person can approve the same call for its next time.
"""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from koboshi_policies import Answer
from koboshi_tools import Frozen, ToolCall, UsageError, hash_value

from .ids import new_id, utc_now
from .records import CallIntent
from .store import Store, StoreRuleError
from .store.approvals import answer_question, ask_question, read_approvals, use_approval

ATTENDED = timedelta(minutes=15)
"""How long a question waits for somebody who is there."""

UNATTENDED = timedelta(hours=24)
"""How long a refused call can still be approved for its next time: until somebody has looked in the morning."""

_POLL_S = 0.5


class Approval(Frozen):
    """A question about one call, and its answer if it has one. Times are ISO 8601 in UTC."""

    approval_id: str
    run_id: str
    call: ToolCall
    tool_version: str | None
    policy_hash: str
    reason: str
    attended: bool
    asked_at: str
    expires_at: str
    answer: Answer | None
    who: str | None
    why: str | None
    answered_at: str | None
    used_by: str | None

    def state(self, now: str) -> str:
        """Return in one word where the question stands."""
        if self.used_by is not None:
            return "used"
        if self.answer is Answer.REFUSED:
            return "refused"
        if self.expires_at <= now:
            return "expired"
        return self.answer.value if self.answer else ("waiting" if self.attended else "unattended")


def call_hash(intent: CallIntent, policy_hash: str) -> str:
    """Return what an approval is bound to."""
    bound: dict[str, Any] = {
        "tool": intent.call.name,
        "version": intent.tool_version,
        "digest": intent.tool_digest,
        "arguments": intent.made.arguments,
        "policy": policy_hash,
    }
    return hash_value(bound)


def question(run_id: str, intent: CallIntent, policy_hash: str, *, attended: bool) -> tuple[Any, ...]:
    """Return the statements that put a question, unless the same one is open already."""
    lifetime = ATTENDED if attended else UNATTENDED
    return ask_question(
        new_id(),
        run_id,
        intent,
        policy_hash=policy_hash,
        call_hash=call_hash(intent, policy_hash),
        attended=attended,
        expires_at=(datetime.now(UTC) + lifetime).isoformat(timespec="milliseconds"),
    )


def approvals(store: Store, *, answered: bool = False) -> list[Approval]:
    """Return the questions that can be answered, or with `answered` all of them, the newest first."""
    with store.reading() as db:
        found = read_approvals(db, open_at=None if answered else utc_now())
    return [Approval.model_validate(row) for row in found]


def find_approval(store: Store, ref: str) -> Approval:
    """Return the question whose id begins with `ref`. Raises UsageError if there is not exactly one."""
    found = [approval for approval in approvals(store, answered=True) if ref and approval.approval_id.startswith(ref)]
    if len(found) != 1:
        said = f"{ref!r} begins {len(found)} questions" if found else f"no question begins with {ref!r}"
        raise UsageError(said, hint="`koboshi approvals list --all` shows them.")
    return found[0]


def answer_approval(store: Store, approval_id: str, answer: Answer, *, who: str, why: str = "") -> None:
    """Answer a question; durable on return. Raises StoreRuleError if it has an answer already, or has expired."""
    store.submit(answer_question(approval_id, answer, who=who, why=why)).result()


def take_approval(store: Store, intent: CallIntent, policy_hash: str) -> bool:
    """Use up an approval that was given for this very call before, and return whether there was one."""
    wanted = call_hash(intent, policy_hash)
    with store.reading() as db:
        rows = read_approvals(db, wanted)
    now = utc_now()
    for approval in map(Approval.model_validate, rows):
        if approval.used_by == intent.idempotency_key:
            return True
        if approval.state(now) == Answer.APPROVED and _use(store, approval.approval_id, intent.idempotency_key):
            return True
    return False


async def put_question(store: Store, run_id: str, intent: CallIntent, policy_hash: str) -> Approval:
    """Put a question that somebody attends; one that this run put before it was cut off is found again."""
    await asyncio.wrap_future(store.submit(question(run_id, intent, policy_hash, attended=True)))
    with store.reading() as db:
        rows = read_approvals(db, call_hash(intent, policy_hash))
    return Approval.model_validate(next(row for row in rows if row["run_id"] == run_id))


async def wait_for_answer(store: Store, asked: Approval, idempotency_key: str) -> Answer:
    """Wait until a question is answered or expires, use the approval up for this call, and return what became of it."""
    while True:
        found = find_approval(store, asked.approval_id)
        state = found.state(utc_now())
        if state == Answer.APPROVED:
            return Answer.APPROVED if _use(store, found.approval_id, idempotency_key) else Answer.EXPIRED
        if state in (Answer.REFUSED, Answer.EXPIRED):
            return Answer(state)
        await asyncio.sleep(_POLL_S)


def _use(store: Store, approval_id: str, idempotency_key: str) -> bool:
    try:
        store.submit(use_approval(approval_id, idempotency_key)).result()
    except StoreRuleError:
        return False
    return True
