"""A model worker at work: it loads the GGUF that the first message names, and answers until the socket closes.

The first decode is a trial: a build of llama.cpp that dies on this CPU dies here, before any run depends on it.
"""

import dataclasses
import json
import select
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from setproctitle import setproctitle

from koboshi_tools import KoboshiError

from ..llama import Engine, EngineSettings, ModelFileError, build, metadata
from ..model import GenerateRequest, Piece
from ..worker_process import title_of
from . import wire
from .constraint import Grammars
from .inspection import facts_of
from .jobs import GenerateJob, Job, LogitsJob, ScoreJob
from .prefixes import Prefixes
from .scheduler import GUIDED_SLOTS, Active, Scheduler
from .tokens import ids_of

_READ_BYTES = 1 << 20
_ERROR_CHARACTERS = 2000


class Server:
    """Reads requests between two decodes, and answers them in the order in which they are done."""

    def __init__(self, connection: socket.socket, inbox: wire.Inbox, engine: Engine, prefixes: Prefixes | None) -> None:
        self._connection, self._inbox = connection, inbox
        self._engine = engine
        self._grammars = Grammars(engine.vocabulary)
        self._scheduler = Scheduler(engine, prefixes)
        self._followed: set[int] = set()

    def serve(self) -> None:
        """Work until the client closes the socket."""
        while True:
            timeout = 0 if self._scheduler.busy else None
            if select.select([self._connection], [], [], timeout)[0] and not self._read():
                return
            if self._scheduler.busy:
                ended = self._scheduler.step()
                for active in self._scheduler.at_work():
                    self._tell(active)
                for active in ended:
                    self._answer(active)

    def _read(self) -> bool:
        data = self._connection.recv(_READ_BYTES)
        for message in self._inbox.feed(data):
            self._handle(message)
        return bool(data)

    def _handle(self, message: dict[str, Any]) -> None:
        key = message["id"]
        try:
            answer = self._do(message)
        except Exception as error:
            # The process serves other requests: one that it cannot read or compile must not end it.
            self._refuse(key, error)
            return
        if answer is not None:
            self._send({"id": key, "ok": True, **answer})

    def _do(self, message: dict[str, Any]) -> dict[str, Any] | None:
        match message["op"]:
            case "tokenize":
                pieces = [Piece.model_validate(piece) for piece in message["pieces"]]
                return {"ids": ids_of(self._engine.vocabulary, pieces)}
            case "detokenize":
                self._check_ids(message["ids"])
                data = b"".join(self._engine.vocabulary.piece(token) for token in message["ids"])
                return {"text": data.decode("utf-8", "replace")}
            case "cancel":
                self._scheduler.cancel(message["key"])
                self._followed.discard(message["key"])
                return {}
            case "release":
                self._scheduler.release(message["run_id"])
                return {}
            case _:
                self._scheduler.add(message["id"], self._job(message), message.get("request", {}).get("run_id"))
                return None

    def _job(self, message: dict[str, Any]) -> Job:
        limit = self._engine.settings.context_tokens
        if message["op"] == "generate":
            request = GenerateRequest.model_validate(message["request"])
            if not 0 < len(request.prompt_ids) < limit:
                raise ModelFileError(f"a prompt of {len(request.prompt_ids)} ids; between 1 and {limit - 1} can be")
            self._check_ids(request.prompt_ids)
            self._check_guidance(request, limit)
            constraint = request.constraint
            guard = self._grammars.guard(constraint) if constraint and constraint.tools else None
            job = GenerateJob(request, self._engine.vocabulary, guard, context_tokens=limit)
            if message.get("stream"):
                self._followed.add(message["id"])
            return job
        ids = list(message["ids"])
        self._check_ids(ids)
        if not 1 < len(ids) <= limit:
            raise ModelFileError(f"{len(ids)} ids to score; between 2 and {limit} can be")
        if message["op"] == "score":
            return ScoreJob(ids, max(1, message["start"]))
        if message["op"] == "logits":
            return LogitsJob(ids, Path(message["path"]), self._engine.vocabulary.size)
        raise ModelFileError(f"the worker knows no {message['op']!r}")

    def _check_guidance(self, request: GenerateRequest, limit: int) -> None:
        if not request.guidance:
            return
        self._check_ids(request.against_ids)
        if len(request.against_ids) >= limit:
            raise ModelFileError(f"a prompt of {len(request.against_ids)} ids to guide from; {limit - 1} can be")
        if self._engine.settings.parallel < GUIDED_SLOTS:
            raise ModelFileError("guidance needs two sequences, and this worker has one", hint="[worker] parallel = 2")

    def _check_ids(self, ids: Sequence[int]) -> None:
        size = self._engine.vocabulary.size
        if bad := [token for token in ids if not 0 <= token < size]:
            raise ModelFileError(f"id {bad[0]} is not in the vocabulary of {size}")

    def _refuse(self, key: int, error: Exception) -> None:
        text, hint = f"the worker failed at the request: {type(error).__name__}: {error}", None
        if isinstance(error, KoboshiError):
            text, hint = str(error), error.hint
        self._send({"id": key, "ok": False, "error": text[:_ERROR_CHARACTERS], "hint": hint})

    def _tell(self, active: Active) -> None:
        """Send what is new of a reply that somebody follows."""
        if active.key in self._followed and isinstance(active.job, GenerateJob) and (more := active.job.more()):
            self._send({"id": active.key, "more": more})

    def _answer(self, active: Active) -> None:
        self._followed.discard(active.key)
        if active.error is not None:
            self._refuse(active.key, active.error)
            return
        cost = {"reused_tokens": active.reused_tokens, "decoded_tokens": active.decoded_tokens}
        self._send({"id": active.key, "ok": True, **active.job.result(), **cost})

    def _send(self, message: dict[str, Any]) -> None:
        self._connection.sendall(wire.encode(message))


def serve(descriptor: int) -> None:
    """Load what the first message on a socket names, and answer until it closes; `descriptor` is the socket's."""
    connection = socket.socket(fileno=descriptor)
    inbox = wire.Inbox()
    first = _first(connection, inbox)
    if first is None:
        # Whoever started it needed no model after all.
        return
    model, given = Path(first["model"]), first["settings"]
    setproctitle(title_of(model))
    try:
        engine = Engine(model, settings_of(given))
        begin = engine.vocabulary.begin_id()
        engine.decode([begin or 0], [0], [0], [True])
        engine.forget(0, 0)
        facts = facts_of(metadata(engine.model), engine.vocabulary)
    except KoboshiError as error:
        connection.sendall(wire.encode({"id": 0, "ok": False, "error": str(error), "hint": error.hint}))
        return
    connection.sendall(wire.encode({"id": 0, "ok": True, "facts": facts.model_dump(mode="json"), "begin_id": begin}))
    Server(connection, inbox, engine, _prefixes(given, engine.settings)).serve()


def _first(connection: socket.socket, inbox: wire.Inbox) -> dict[str, Any] | None:
    """Return the first message, or None if the socket closes before it; nothing follows it until it is answered."""
    while data := connection.recv(_READ_BYTES):
        if messages := inbox.feed(data):
            return messages[0]
    return None


def settings_of(given: Mapping[str, Any]) -> EngineSettings:
    """Return how a file is to be loaded; what is not said is as `EngineSettings` has it."""
    fields = {name.name: given[name.name] for name in dataclasses.fields(EngineSettings) if name.name in given}
    return EngineSettings(**{**fields, "adapter": Path(given["adapter"]) if given.get("adapter") else None})


def _prefixes(given: Mapping[str, Any], settings: EngineSettings) -> Prefixes | None:
    if not given.get("prefixes"):
        return None
    kind = (given["identity"], settings.cell_type, settings.flash_attention, build(own_kernels=settings.own_kernels))
    return Prefixes(Path(given["prefixes"]), json.dumps(kind), given["prefix_mb"] * 1_000_000)
