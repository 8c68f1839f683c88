"""Store what other programs recorded as runs that are told from our own: `imported` names the file they came from.

Each question of a conversation becomes a run of its own with all that was said before as its history, so that every
response is learnt once. A run has no ids: whoever trains on it encodes its words anew. Its id is a hash of its words
(or the id that koboshi gave it elsewhere), so that importing twice stores once; what was forgotten here stays so.
"""

import json
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import Any

from koboshi_policies import Decision, Verdict
from koboshi_tools import Frozen, hash_bytes

from ..ids import id_of_hash, is_id
from ..model import FinishReason, Reply
from ..records import (
    FOREIGN,
    CallIntent,
    CallRecord,
    EndReason,
    Outcome,
    OutcomeLabel,
    OutcomeSource,
    RunEnd,
    RunHeader,
    RunStatus,
    Split,
    Trajectory,
    TurnKind,
    TurnRecord,
)
from ..store import Store, write
from ..store.write import Statement
from ..talk import Question, Remark, Response
from ..text import plain
from .conversation import IMPORTED_MODEL, Conversation, with_thought
from .reading import Readable

_MADE_ELSEWHERE = Decision(verdict=Verdict.ALLOW, reason="made by another program, and imported")
_NO_POLICY = "none"
_MODEL_CHARACTERS = 200
_AT_ONCE = 256
"""Runs that wait for the disk together; they share its commits."""


class Imported(Frozen):
    """What an import did: the runs it stored, and how many were stored or forgotten before, or left out, by reason."""

    run_ids: tuple[str, ...]
    known: int
    forgotten: int
    left_out: dict[str, int]
    labels: dict[str, int]


def import_runs(
    store: Store,
    found: Sequence[Readable],
    *,
    source: str,
    project: str,
    label: Outcome | None = None,
    left_out: Counter[str] | None = None,
) -> Imported:
    """Store runs as read from `source`; a `label` is given to each of them. Raises StoreError."""
    counts: Counter[str] = Counter(left_out or ())
    runs = [run for each in found for run in _runs(each, source, project, counts)]
    known, forgotten = _known(store)
    fresh: dict[str, Trajectory] = {}
    seen = Counter(run.run_id in forgotten for run in runs)
    for run in runs:
        if run.run_id not in known and run.run_id not in forgotten:
            fresh.setdefault(run.run_id, _labelled(run, label))
    _store(store, list(fresh.values()))
    return Imported(
        run_ids=tuple(fresh),
        known=len(runs) - len(fresh) - seen[True],
        forgotten=seen[True],
        left_out=dict(sorted(counts.items())),
        labels=dict(sorted(Counter(run.outcome.value for run in fresh.values()).items())),
    )


def _known(store: Store) -> tuple[set[str], set[str]]:
    with store.reading() as db:
        known = {row["run_id"] for row in db.execute("SELECT run_id FROM runs")}
        return known, {row["run_id"] for row in db.execute("SELECT run_id FROM forgotten")}


def _labelled(run: Trajectory, label: Outcome | None) -> Trajectory:
    return run if label is None else run.model_copy(update={"outcomes": (*run.outcomes, label)})


def _runs(found: Readable, source: str, project: str, counts: Counter[str]) -> Iterator[Trajectory]:
    if isinstance(found, Trajectory):
        header = found.header.model_copy(update={"imported": found.header.imported or source})
        yield found.model_copy(update={"header": header})
        return
    questions = [at for at, each in enumerate(found.remarks) if isinstance(each, Question)]
    ends = [*questions[1:], len(found.remarks)]
    spans = [(at, end) for at, end in zip(questions, ends, strict=True) if at >= found.copied and end > at + 1]
    if not spans:
        counts["no question that was answered"] += 1
    for at, end in spans:
        yield _run(found, at, end, source, project)


def _run(found: Conversation, at: int, end: int, source: str, project: str) -> Trajectory:
    question = found.remarks[at]
    responses = [each for each in found.remarks[at + 1 : end] if isinstance(each, Response)]
    is_last = end == len(found.remarks)
    run_id = _run_id(found, found.remarks[:end], alone=is_last and at == found.copied)
    outcomes = (
        (Outcome(label=found.label, source=OutcomeSource.EVENT, who=source, score=found.score),)
        if is_last and (found.label is not OutcomeLabel.UNKNOWN or found.score is not None)
        else ()
    )
    header = RunHeader(
        prompt=question.text,
        purpose=found.purpose,
        split=Split.TRAIN,
        model_hash=IMPORTED_MODEL + plain(found.model or "unknown", width=_MODEL_CHARACTERS),
        profile=FOREIGN,
        condition=None,
        policy_hash=_NO_POLICY,
        project=project,
        seed=0,
        temperature=0.0,
        tools=tuple(spec.name for spec in found.tools),
        system=found.system,
        tool_specs=found.tools,
        imported=source,
        history=found.remarks[:at],
    )
    turns = tuple(_turn(index, response) for index, response in enumerate(responses))
    return Trajectory(
        run_id=run_id,
        created_at=found.created_at or "",
        header=header,
        turns=turns,
        calls=tuple(call for index, each in enumerate(responses) for call in _calls(run_id, index, each)),
        outcomes=outcomes,
        end=_end(responses[-1]),
    )


def _run_id(found: Conversation, remarks: Sequence[Remark], *, alone: bool) -> str:
    if alone and found.run_id and is_id(found.run_id):
        return found.run_id
    said: Any = [each.model_dump(mode="json") for each in remarks]
    tools = [spec.model_dump(mode="json") for spec in found.tools]
    text = json.dumps([found.system, tools, said], sort_keys=True)
    return id_of_hash(hash_bytes(text.encode()))


def _turn(index: int, response: Response) -> TurnRecord:
    text = with_thought(response.text, response.thought)
    reply = Reply(ids=(), sampled=(), raw_logprobs=(), behaviour_logprobs=(), text=text, finish=FinishReason.STOP)
    kind = TurnKind.CALL if response.calls else TurnKind.ANSWER
    return TurnRecord(index=index, segments=(), reply=reply, kind=kind)


def _calls(run_id: str, index: int, response: Response) -> Iterator[CallRecord]:
    for place, made in enumerate(response.calls):
        intent = CallIntent(
            step_index=index,
            call_index=place,
            call=made.call,
            decision=_MADE_ELSEWHERE,
            tool_version=None,
            tool_digest=None,
            effect=None,
            idempotent=False,
            idempotency_key=f"{run_id}/{index}/{place}",
        )
        yield CallRecord(intent=intent, result=made.result)


def _end(last: Response) -> RunEnd:
    """A conversation may end with a call: carried out by nobody, or the one by which its program knew the end."""
    waiting = any(made.result is None for made in last.calls)
    reason = EndReason.NOT_EXECUTED if waiting else EndReason.ANSWER
    return RunEnd(status=RunStatus.FINISHED, reason=reason, answer=None if last.calls else last.text)


def _store(store: Store, runs: Sequence[Trajectory]) -> None:
    """Write whole runs, a unit each; the splits of their prompts are those that hold here."""
    splits = store.assign_splits([(run.header.prompt, _given_split(run)) for run in runs])
    waiting: deque[Future[None]] = deque()
    for run, split in zip(runs, splits, strict=True):
        header = run.header.model_copy(update={"split": split})
        waiting.append(store.submit(tuple(_statements(run.model_copy(update={"header": header})))))
        if len(waiting) > _AT_ONCE:
            waiting.popleft().result()
    for future in waiting:
        future.result()


def _given_split(run: Trajectory) -> Split | None:
    return None if run.header.profile == FOREIGN else run.header.split


def _statements(run: Trajectory) -> Iterator[Statement]:
    yield from write.start_run(run.run_id, run.header, created_at=run.created_at or None)
    if run.redacted:
        yield write.mark_redacted(run.run_id)
    for turn in run.turns:
        yield from write.add_turn(run.run_id, turn)
    for call in run.calls:
        yield from write.add_intent(run.run_id, call.intent)
        if call.result is not None:
            yield from write.add_result(call.intent.idempotency_key, call.result)
    for outcome in run.outcomes:
        yield from write.add_outcome(run.run_id, outcome)
    if run.end is not None:
        yield from write.end_run(run.run_id, run.end)
