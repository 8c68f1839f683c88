"""`python -m koboshi_runtime.worker`: what is done with llama.cpp in a process of its own, which may die of it.

    python -m koboshi_runtime.worker serve FD
    python -m koboshi_runtime.worker inspect MODEL
    python -m koboshi_runtime.worker pieces MODEL
    python -m koboshi_runtime.worker pace MODEL SETTINGS_JSON
    python -m koboshi_runtime.worker agree MODEL SETTINGS_JSON REFERENCE TEXT_FILE
    python -m koboshi_runtime.worker quantise SOURCE TARGET KIND THREADS

`serve` answers on a socket (`serving.py`); the others print one JSON object, `{"ok": false, "error"}` where they fail.
"""

import base64
import dataclasses
import json
import os
import sys
from pathlib import Path
from typing import Any

from koboshi_tools import KoboshiError

from ..llama import Engine, Vocabulary, load_vocabulary, metadata, quantise, start_backend
from .agreement import agreement
from .inspection import facts_of
from .pace import pace
from .serving import serve, settings_of


def _pace(model: Path, settings_json: str) -> dict[str, Any]:
    return {"pace": pace(Engine(model, settings_of(json.loads(settings_json)))).model_dump()}


def _agree(model: Path, settings_json: str, reference: Path, text: Path) -> dict[str, Any]:
    settings = dataclasses.replace(settings_of(json.loads(settings_json)), parallel=1)
    found = agreement(
        Engine(model, settings),
        Engine(reference, dataclasses.replace(settings, adapter=None, flash_attention=False, cell_type="f16")),
        text.read_text(encoding="utf-8"),
    )
    return {"agreement": found.model_dump()}


def _inspect(model: Path) -> dict[str, Any]:
    handle = load_vocabulary(model)
    return {"facts": facts_of(metadata(handle), Vocabulary(handle)).model_dump(mode="json")}


def _pieces(model: Path) -> dict[str, Any]:
    vocabulary = Vocabulary(load_vocabulary(model))
    return {"pieces": [base64.b64encode(vocabulary.piece(token)).decode() for token in range(vocabulary.size)]}


def _quantise(source: Path, target: Path, kind: str, threads: int) -> dict[str, Any]:
    quantise(source, target, kind, threads=threads)
    return {}


def _do(arguments: list[str]) -> dict[str, Any]:
    match arguments:
        case ["pace", model, settings]:
            return _pace(Path(model), settings)
        case ["agree", model, settings, reference, text]:
            return _agree(Path(model), settings, Path(reference), Path(text))
        case ["inspect", model]:
            return _inspect(Path(model))
        case ["pieces", model]:
            return _pieces(Path(model))
        case ["quantise", source, target, kind, threads]:
            return _quantise(Path(source), Path(target), kind, int(threads))
        case _:
            sys.exit(__doc__)


def main(arguments: list[str]) -> None:
    """Do what the first argument says."""
    start_backend()
    if arguments[:1] == ["serve"]:
        serve(int(arguments[1]))
        return
    try:
        found = {"ok": True, **_do(arguments)}
    except KoboshiError as error:
        found = {"ok": False, "error": str(error)}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
    # llama.cpp's own threads and static destructors have nothing to save, and some builds crash in them.
    sys.stdout.flush()
    os._exit(0)
