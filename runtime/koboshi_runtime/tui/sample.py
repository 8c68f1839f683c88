"""A home to look at before there is one: three days and three nights of a small shop, made up in a second.

It needs no model and no torch. Everything in it is made by rules from a fixed seed (`sample_runs`), and the screen says
SAMPLE as long as it is looked at. It lies in a temporary folder and is gone afterwards, with the labels given in it.
"""

import base64
import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from koboshi_tools import hash_bytes

from ..approvals import question
from ..home import Home, open_home
from ..models.manifest import GateProof, ModelManifest, Parents, ParityProof
from ..models.pointer import Pointer
from ..records import Outcome, OutcomeLabel, OutcomeSource, Purpose
from ..store import JobStatus, Store
from ..store.recorder import RunRecorder
from ..store.write import Statement
from .sample_runs import PROFILE, Story, Vocabulary, end_of, header_of, intents_of, stories, turns_of

_SEED = 20_261_128
_RUNS_A_DAY = 56


class _Day(NamedTuple):
    """A day: its date, the model that was live, how often it succeeded, and the version of the tool `sql`."""

    date: str
    model: str
    success: float
    sql: str


class _Night(NamedTuple):
    """What the gate saw after a day: the candidate, both rates, and why it was refused if it was."""

    candidate: str
    before: float
    after: float
    refused: str | None


_DAYS = (
    _Day("2026-11-25", "smollm2-135m", 0.43, "1"),
    _Day("2026-11-26", "shop-night-1", 0.57, "1"),
    _Day("2026-11-27", "shop-night-1", 0.6, "2"),
)
_NIGHTS = (
    _Night("shop-night-1", 0.43, 0.58, None),
    _Night("shop-night-2", 0.58, 0.60, "+2.0 points on 100 tasks may be chance (p = 0.31, alpha = 0.012)"),
    _Night("shop-night-3", 0.57, 0.69, None),
)


def hash_named(name: str) -> str:
    """Return the hash under which a model of the sample goes."""
    return hash_bytes(f"sample {name}".encode())


@contextmanager
def sample_home() -> Iterator[Home]:
    """Make the home, and remove it afterwards."""
    with TemporaryDirectory(prefix="koboshi-sample-") as folder:
        yield make_sample(Path(folder) / "home")


def make_sample(folder: Path) -> Home:
    """Make the home at `folder`, the same each time but for what expires: the open questions."""
    home, rng, words = open_home(path=folder), random.Random(_SEED), Vocabulary()
    store = Store.open(home.traces)
    statements: list[Statement] = []
    for number, (day, night) in enumerate(zip(_DAYS, _NIGHTS, strict=True)):
        statements += _day(store, day, number, rng, words)
        _night(store, number, day, night, rng)
    store.submit(tuple(statements)).result()
    _questions(store)
    _models(home, store, words)
    store.close()
    return home


def _day(store: Store, day: _Day, number: int, rng: random.Random, words: Vocabulary) -> list[Statement]:
    made: list[Statement] = []
    for place, story in enumerate(stories(rng, _RUNS_A_DAY, day.success)):
        run_id = f"{rng.getrandbits(80):020x}"[:16]
        at_night = place >= _RUNS_A_DAY - 12
        purpose = Purpose.ROLLOUT if at_night else Purpose.WORK
        minute = 8 * 60 + place * 11 if not at_night else 23 * 60 + place - 30
        recorder = RunRecorder(store, run_id)
        recorder.start(header_of(story, model_hash=hash_named(day.model), purpose=purpose, seed=place, condition=None))
        for turn in turns_of(story, words, rng):
            recorder.turn(turn)
        for intent, result in intents_of(story, run_id, day.sql):
            recorder.intent(intent)
            recorder.result(intent.idempotency_key, result)
        for outcome in _labels(story, place, at_night=at_night):
            recorder.outcome(outcome)
        recorder.end(end_of(story))
        made += [*recorder.buffered(), *_moved(run_id, day.date, minute)]
    return made


def _labels(story: Story, place: int, *, at_night: bool) -> list[Outcome]:
    label = OutcomeLabel.SUCCESS if story.right else OutcomeLabel.FAILURE
    if at_night:
        return [Outcome(label=label, source=OutcomeSource.CHECKER, who="exact", rationale="the task's own checker")]
    if place % 5 == 0:
        why = "read it myself" if story.right else "that is not what was asked"
        return [Outcome(label=label, source=OutcomeSource.PERSON, who="ann", rationale=why)]
    if place % 5 < 4:
        return [Outcome(label=label, source=OutcomeSource.PROJECT_CHECK, who="orders add up")]
    looped = Outcome(label=OutcomeLabel.FAILURE, source=OutcomeSource.WEAK, who="koboshi", rationale="looped")
    return [looped] if story.answer is None else []


def _moved(run_id: str, date: str, minute: int) -> list[Statement]:
    at = f"{date}T{minute // 60 % 24:02d}:{minute % 60:02d}:00.000+00:00"
    return [
        Statement("UPDATE runs SET created_at = ?, ended_at = ? WHERE run_id = ?", (at, at, run_id)),
        Statement("UPDATE tool_calls SET intent_at = ? WHERE run_id = ?", (at, run_id)),
    ]


def _night(store: Store, number: int, day: _Day, night: _Night, rng: random.Random) -> None:
    began = f"{day.date}T23:30:00.000+00:00"
    job = store.start_job("nightly", {"night_id": f"sample{number + 1}", "project": "shop"})
    promoted = night.refused is None
    result = {
        "kind": "promoted" if promoted else "refused",
        "candidate": night.candidate,
        "reasons": [] if promoted else [night.refused],
        "learnt": _learnt(rng, number),
        "verdict": verdict_of(night.before, night.after, night.refused),
        "parity": _parity(),
        "cost": {"seconds": {"try": 212.0, "build": 3.1, "fit": 538.0, "export": 9.4, "parity": 31.0, "gate": 402.0}},
    }
    store.finish_job(job, JobStatus.DONE if promoted else JobStatus.REFUSED, result)
    ended = f"{day.date}T23:50:00.000+00:00"
    store.submit((Statement("UPDATE jobs SET started_at = ?, finished_at = ? WHERE job_id = ?", (began, ended, job)),))


def _learnt(rng: random.Random, number: int) -> dict[str, Any]:
    losses = [round(1.9 * 0.955**step + 0.35 + rng.uniform(-0.06, 0.06) - 0.05 * number, 3) for step in range(48)]
    return {
        "method": "nat",
        "rows": {"success": 61 + 20 * number, "failure": 44 + 9 * number},
        "losses": losses,
        "held_out_before": {"success": 1.21, "failure": 1.35},
        "held_out_after": {"success": 0.62 - 0.02 * number, "failure": 0.97},
    }


def verdict_of(before: float, after: float, refused: str | None) -> dict[str, Any]:
    """Return a verdict as the gate stores it, with the numbers that the screens show."""
    won, lost = round(100 * (after - before)) + 9, 9
    return {
        "accepted": refused is None,
        "reasons": [] if refused is None else [{"code": "not_proved", "text": refused}],
        "alpha": 0.012,
        "p_value": 0.31 if refused else 0.004,
        "tasks": 100,
        "seeds": 1,
        "wins": won,
        "losses": lost,
        "ties": 100 - won - lost,
        "current_rate": before,
        "candidate_rate": after,
        "tools": [
            {"tool": "sql", "tasks": 71, "current_rate": before + 0.04, "candidate_rate": after + 0.05},
            {"tool": "calculator", "tasks": 29, "current_rate": before - 0.1, "candidate_rate": after - 0.12},
        ],
    }


def _parity() -> dict[str, Any]:
    files = [
        {"kind": "f16", "agreement": {"top1": 0.9981, "kld": 0.00009}, "kept": {"total": 1.0}},
        {"kind": "q8_0", "agreement": {"top1": 0.984, "kld": 0.0041}, "kept": {"total": 0.998}},
    ]
    return {"passed": True, "files": files, "reasons": []}


def _questions(store: Store) -> None:
    """Put two questions about a call that a run made: one that waits, and one that nobody attended."""
    row = store.search("called back", limit=2)
    for hit, attended in zip(row, (True, False), strict=False):
        run = store.trajectory(hit.run_id)
        asking = run.calls[0].intent.decision.model_copy(update={"reason": "writes a file"})
        intent = run.calls[0].intent.model_copy(update={"decision": asking})
        store.submit(question(run.run_id, intent, run.header.policy_hash, attended=attended)).result()


def _models(home: Home, store: Store, words: Vocabulary) -> None:
    names = ("smollm2-135m", *(night.candidate for night in _NIGHTS))
    base, first, second, third = (hash_named(name) for name in names)
    pieces = json.dumps([base64.b64encode(piece.encode()).decode() for piece in words.pieces])
    states = {base: "retired", first: "previous", second: "retired", third: "current"}
    for number, name in enumerate(names):
        manifest = _manifest(name, number, against=(base, base, first, first)[number])
        folder = home.models / manifest.model_hash.removeprefix("sha256:")
        folder.mkdir(mode=0o700)
        (folder / "manifest.json").write_text(manifest.model_dump_json(), encoding="utf-8")
        (folder / "pieces.json").write_text(pieces, encoding="utf-8")
        store.record_model(
            manifest.model_hash,
            name=name,
            profile=PROFILE,
            manifest=manifest.model_dump(mode="json"),
            state=states[manifest.model_hash],
        )
    pointer = Pointer(current=third, previous=first, retired=(second, base), served=(base, first, third))
    (home.models / "current").write_text(pointer.model_dump_json(), encoding="utf-8")


def _manifest(name: str, number: int, *, against: str) -> ModelManifest:
    base = ModelManifest(
        model_hash=hash_named(name),
        name=name,
        architecture="llama",
        quantization="Q8_0",
        bytes=144_811_968,
        context_tokens=8192,
        source="a sample, no file",
        created_at=f"2026-11-{24 + number}T23:44:00+00:00",
        profile=PROFILE,
    )
    if not number:
        return base
    night, hashes = _NIGHTS[number - 1], {n: hash_bytes(f"sample {n} {number}".encode()) for n in ("data", "adapter")}
    verdict = verdict_of(night.before, night.after, night.refused)
    return base.model_copy(
        update={
            "parents": Parents(
                base=hash_named("smollm2-135m"),
                master=hash_bytes(b"sample master"),
                dataset=hashes["data"],
                adapter=hashes["adapter"],
            ),
            "gate": GateProof(accepted=night.refused is None, against=against, verdict=verdict),
            "parity": ParityProof(passed=True, report=_parity()),
        }
    )
