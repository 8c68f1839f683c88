"""The client of the model worker: a `Model` whose process may die without taking the runtime along.

One process per loaded file. When it dies, every request under way is sent again to a new one, at most `_TRIES` times in
all: writing a turn has no effect outside the worker, so a retry is safe. Requests of many runs share the socket; the
worker batches them.
"""

import asyncio
import contextlib
import signal
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .model import GenerateRequest, ModelInfo, Piece, PromptProfile, Reply, Tell
from .worker.facts import GgufFacts
from .worker_link import Link, LinkLost, ModelError, ToldOnce
from .worker_process import WorkerProcess, start_worker

__all__ = ["ModelError", "WorkerModel", "WorkerSettings"]

_TRIES = 3
_READ_BYTES = 1 << 20
_CLOSE_SECONDS = 5.0

# Ends that a build of llama.cpp made for another CPU comes to: SIGSEGV, SIGILL, SIGABRT, SIGBUS.
_CRASHES = {-signal.SIGSEGV, -signal.SIGILL, -signal.SIGABRT, -signal.SIGBUS}


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """How a file is loaded; see `llama.EngineSettings`, which has the same fields but for the last two.

    `prefixes` is a folder for beginnings of prompts, up to `prefix_mb` MB of 1,000,000 bytes; None keeps none on disk.
    """

    context_tokens: int = 2048
    parallel: int = 16
    threads: int = 2
    batch_threads: int = 2
    gpu_layers: int = 0
    batch_tokens: int = 512
    flash_attention: bool = True
    cell_type: str = "f16"
    extra_buffers: bool = True
    own_kernels: bool = True
    adapter: Path | None = None
    prefixes: Path | None = None
    prefix_mb: int = 256

    def as_fields(self, identity: str) -> dict[str, Any]:
        """Return what a worker is told; `identity` names the weights."""
        fields = {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}
        return {**fields, "identity": identity}


@dataclass(slots=True)
class _Linked:
    """A running worker, and the link to it."""

    process: WorkerProcess
    link: Link


class WorkerModel:
    """A `Model` in a process of its own. Make one with `start`."""

    info: ModelInfo
    facts: GgufFacts
    begin_id: int | None

    def __init__(self, path: Path, settings: WorkerSettings, model_hash: str, process: WorkerProcess | None) -> None:
        self._path = path
        self._model_hash = model_hash
        self._settings = settings
        self._early = process
        self._worker: _Linked | None = None
        self._starting = asyncio.Lock()
        self._closed = False
        self.restarts = 0

    @classmethod
    async def start(
        cls,
        path: Path,
        settings: WorkerSettings,
        *,
        model_hash: str,
        name: str,
        profile: PromptProfile,
        process: WorkerProcess | None = None,
    ) -> "WorkerModel":
        """Load `path` in `process`, which is taken, else in a new worker. Raises ModelError if it does not load."""
        model = cls(path, settings, model_hash, process)
        await model._ensure()
        model.info = ModelInfo(
            model_hash=model_hash,
            name=name,
            architecture=model.facts.architecture,
            context_tokens=settings.context_tokens,
            parallel=settings.parallel,
            profile=profile,
        )
        return model

    @property
    def process_id(self) -> int | None:
        """The worker's process id, or None while there is no worker."""
        return self._worker.process.process.pid if self._worker and not self._worker.link.dead else None

    async def generate(self, request: GenerateRequest) -> Reply:
        """Write one turn; see `Model.generate`."""
        started = asyncio.get_running_loop().time()
        answer = await self._ask("generate", request=request.model_dump(mode="json"))
        return Reply.model_validate({**answer, "seconds": asyncio.get_running_loop().time() - started})

    async def stream(self, request: GenerateRequest, tell: Tell) -> Reply:
        """Write one turn and tell it as it is written; see `Streams.stream`."""
        started = asyncio.get_running_loop().time()
        answer = await self._ask("generate", tell=ToldOnce(tell), request=request.model_dump(mode="json"), stream=True)
        return Reply.model_validate({**answer, "seconds": asyncio.get_running_loop().time() - started})

    async def tokenize(self, pieces: tuple[Piece, ...]) -> tuple[int, ...]:
        """Return the ids of `pieces`; see `Model.tokenize`."""
        answer = await self._ask("tokenize", pieces=[piece.model_dump() for piece in pieces])
        return tuple(answer["ids"])

    async def detokenize(self, ids: tuple[int, ...]) -> str:
        """Return the text of `ids`, special tokens as their markup; broken UTF-8 is replaced."""
        return str((await self._ask("detokenize", ids=list(ids)))["text"])

    async def score(self, ids: tuple[int, ...], start: int) -> tuple[float, ...]:
        """Return log p(ids[i] | ids[:i]) from `start` on; see `Model.score`."""
        return tuple((await self._ask("score", ids=list(ids), start=start))["scores"])

    async def logits(self, ids: tuple[int, ...], path: Path) -> None:
        """Write the logits after each id to the `.npy` file `path`: float32, `(len(ids), vocabulary)`."""
        await self._ask("logits", ids=list(ids), path=str(path))

    async def close(self) -> None:
        """End the worker; safe to call twice. Requests under way raise ModelError."""
        self._closed = True
        async with self._starting:
            worker, self._worker = self._worker, None
            if worker is not None:
                await _end(worker, patience_s=_CLOSE_SECONDS)

    async def _ask(self, op: str, *, tell: ToldOnce | None = None, **fields: Any) -> dict[str, Any]:
        for _ in range(_TRIES):
            worker = await self._ensure()
            with contextlib.suppress(LinkLost):
                return await worker.link.ask(op, tell=tell.again() if tell else None, **fields)
        raise ModelError(f"the model worker died {_TRIES} times over one {op}: {self._path}")

    def release(self, run_id: str) -> None:
        """Say that a run wrote its last turn; see `KeepsRuns.release`."""
        if self._worker is not None:
            self._worker.link.say("release", run_id=run_id)

    async def _ensure(self) -> _Linked:
        async with self._starting:
            if self._closed:
                raise ModelError(f"the model was closed: {self._path}")
            if self._worker is not None and not self._worker.link.dead:
                return self._worker
            if self._worker is not None:
                self.restarts += 1
                await _end(self._worker, patience_s=0)
            self._worker = await self._spawn()
            return self._worker

    async def _spawn(self) -> _Linked:
        worker = await self._open()
        try:
            answer = await worker.link.greeting()
        except LinkLost:
            code = await asyncio.to_thread(worker.process.process.wait)
            await _end(worker, patience_s=0)
            if code in _CRASHES and self._settings.extra_buffers:
                self._settings = _without_special_code(self._settings)
                return await self._spawn()
            raise ModelError(f"the model worker ended with {code} while it loaded {self._path}") from None
        except BaseException:
            await _end(worker, patience_s=0)
            raise
        self.facts = GgufFacts.model_validate(answer["facts"])
        self.begin_id = answer["begin_id"]
        return worker

    async def _open(self) -> _Linked:
        process, self._early = self._early or start_worker(), None
        process.taken = True
        reader, writer = await asyncio.open_connection(sock=process.connection, limit=_READ_BYTES)
        link = Link(reader, writer)
        link.say("load", model=str(self._path), settings=self._settings.as_fields(self._model_hash))
        return _Linked(process, link)


async def _end(worker: _Linked, *, patience_s: float) -> None:
    """Close the worker's socket, wait for its process, kill it after `patience_s`, and give back what it held."""
    worker.link.hang_up()
    process = worker.process.process
    try:
        await asyncio.to_thread(process.wait, patience_s)
    except subprocess.TimeoutExpired:
        process.kill()
        await asyncio.to_thread(process.wait)
    finally:
        await worker.link.closed()
        worker.process.errors.close()


def _without_special_code(settings: WorkerSettings) -> WorkerSettings:
    return WorkerSettings(**{**asdict(settings), "extra_buffers": False, "own_kernels": False})
