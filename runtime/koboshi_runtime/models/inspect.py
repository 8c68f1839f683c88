"""Read the facts and the vocabulary of a GGUF file, and quantise one, in a child process with limits.

A hostile file ends the child only. Limits of inspection: 20 s of processor time and 8 GB of address space (a
memory-mapped 7B file needs its size). Not covered: what llama.cpp does when the file is loaded to run; that happens in
the model worker.
"""

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

from koboshi_tools import KoboshiError, UsageError

from ..worker.facts import GgufFacts

__all__ = ["GgufFacts", "inspect_gguf", "list_pieces", "quantise"]

_CPU_SECONDS = 20
_ADDRESS_BYTES = 8 << 30
_QUANTISE_SECONDS = 6 * 3600


def inspect_gguf(path: Path) -> GgufFacts:
    """Return the facts in the header of `path`. Raises UsageError if it is not a GGUF model that llama.cpp reads."""
    return GgufFacts.model_validate(_read("inspect", path)["facts"])


def list_pieces(path: Path) -> list[str]:
    """Return what each token of `path` stands for, base64 of its bytes, in the order of ids. Raises UsageError."""
    found: list[str] = _read("pieces", path)["pieces"]
    return found


def quantise(source: Path, target: Path, kind: str, *, threads: int = 2) -> None:
    """Write `source` as `kind` (q8_0, q6_k, …) to `target`. Raises KoboshiError and may leave a partial target."""
    answer = _child(["quantise", str(source), str(target), kind, str(threads)], timeout_s=_QUANTISE_SECONDS)
    if not answer["ok"]:
        raise KoboshiError(answer["error"])


def _read(what: str, path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UsageError(f"no model file at {path}", hint="give the path of a .gguf file")
    answer = _child([what, str(path)], timeout_s=2 * _CPU_SECONDS, limited=True)
    if not answer["ok"]:
        raise UsageError(answer["error"], hint="give a complete .gguf file of a text model")
    return answer


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_SECONDS, _CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_BYTES, _ADDRESS_BYTES))


def _child(arguments: list[str], *, timeout_s: float, limited: bool = False) -> dict[str, Any]:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "koboshi_runtime.worker", *arguments],
            capture_output=True,
            timeout=timeout_s,
            preexec_fn=_limit if limited else None,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {
            "ok": False,
            "error": f"{arguments[1]}: llama.cpp took longer than {timeout_s:.0f} s to {arguments[0]} it",
        }
    lines = done.stdout.decode("utf-8", "replace").strip().splitlines()
    if done.returncode != 0 or not lines:
        return {
            "ok": False,
            "error": f"{arguments[1]}: llama.cpp ended with {done.returncode} while it {arguments[0]}s it",
        }
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer
