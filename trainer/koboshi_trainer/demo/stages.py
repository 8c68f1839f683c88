"""Do each stage of a demo once: its result is a file, and the file is read when the demo is run again.

`DIR/home/runs/demo/NN-stage.json` holds the result, the seconds it took and the hash of the demo's plan; a stage
appears whole or not at all. A folder that holds another plan's demo is refused, because its numbers are not comparable.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from koboshi_runtime.files import replace_file
from koboshi_tools import Frozen, UsageError

from .plan import StageName
from .screen import Screen

Result = TypeVar("Result", bound=Frozen)


class Stages:
    """The finished stages of one demo in `folder`."""

    def __init__(self, folder: Path, demo_hash: str, screen: Screen) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._folder, self._demo_hash, self._screen = folder, demo_hash, screen

    def do(self, stage: StageName, kind: type[Result], make: Callable[[], Result]) -> Result:
        """Return the stage's result, made now if it was not kept. Raises UsageError if another demo is kept here."""
        path = self._path(stage)
        if path.exists():
            self._screen.skip(stage)
            return kind.model_validate(self._read(path)["result"])
        self._screen.begin(stage)
        began = time.monotonic()
        result = make()
        seconds = time.monotonic() - began
        kept = {"demo": self._demo_hash, "seconds": round(seconds, 1), "result": result.model_dump(mode="json")}
        replace_file(path, (json.dumps(kept, indent=1) + "\n").encode())
        self._screen.end(seconds)
        return result

    def seconds(self) -> dict[str, float]:
        """Return what each finished stage took, in order."""
        kept = [(stage, self._path(stage)) for stage in StageName]
        return {stage.value: float(self._read(path)["seconds"]) for stage, path in kept if path.exists()}

    def _path(self, stage: StageName) -> Path:
        return self._folder / f"{list(StageName).index(stage) + 1:02}-{stage.value}.json"

    def _read(self, path: Path) -> dict[str, Any]:
        found: dict[str, object] = json.loads(path.read_bytes())
        if found["demo"] != self._demo_hash:
            raise UsageError(
                f"{path} is of a demo with another plan, pack or seed",
                hint="Give another folder with --dir, or remove this one.",
            )
        return found
