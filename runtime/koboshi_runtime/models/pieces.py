"""The bytes that each token of a model stands for, read from its file once, by a child process with limits.

They are kept beside the model as `pieces.json`, base64 in the order of ids, and are made anew where they are missing.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path

from koboshi_tools import KoboshiError

from ..files import replace_file
from ..home import Home
from .inspect import list_pieces
from .registry import Registry

_FILE = "pieces.json"


def pieces_of(home: Home, model_hash: str) -> Mapping[int, bytes] | None:
    """Return the pieces of a model by id; None where the home has neither its file nor what was read from it.

    Raises KoboshiError where the file cannot be read as a model.
    """
    folder = home.models / model_hash.removeprefix("sha256:")
    kept, model = folder / _FILE, folder / "model.gguf"
    if kept.is_file():
        return _decoded(kept)
    if not model.is_file():
        # An adapter has the vocabulary of the file that it is applied to.
        entries = Registry(home).list()
        model = next((each.path for each in entries if each.manifest.model_hash == model_hash), model)
    if not model.is_file():
        return None
    replace_file(kept, json.dumps(list_pieces(model)).encode())
    return _decoded(kept)


def _decoded(path: Path) -> Mapping[int, bytes]:
    try:
        found = json.loads(path.read_bytes())
        return {token: base64.b64decode(piece) for token, piece in enumerate(found)}
    except (ValueError, TypeError) as error:
        raise KoboshiError(f"{path} does not parse: {error}", hint=f"Remove {path}; it is made anew.") from error
