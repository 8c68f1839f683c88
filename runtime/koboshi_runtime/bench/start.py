"""How long a shell waits for the first token: `koboshi run` as a new process, its prompt's beginning on disk.

A project whose budget is one token ends with its first: what is measured is the time until it stands on stdout, its run
stored before that. It works in a home of its own that sees the user's models.
"""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from threading import Timer

from koboshi_tools import KoboshiError

from ..home import Home, open_home
from ..templates_init import init_project
from ..trust import pin_new

_ROUNDS = 5
_SECONDS = 120.0
_PROGRAM = "from koboshi_runtime.cli import main; main()"
_BUDGET = re.compile(r"^(max_steps|max_tokens|reply_tokens) = \d+$", re.MULTILINE)


def first_token_s(models: Home, ref: str, pack: str, folder: Path) -> float:
    """Return the median seconds from shell to first token. Raises KoboshiError if `koboshi run` fails.

    A first run, not counted, writes the beginning to disk and brings the model into the page cache.
    """
    home = open_home(path=folder / "home")
    if home.models.exists():
        home.models.rmdir()
    home.models.symlink_to(models.models, target_is_directory=True)
    project = folder / "one-token"
    init_project(project, pack)
    settings = project / "koboshi.toml"
    settings.write_text(_BUDGET.sub(r"\1 = 1", settings.read_text(encoding="utf-8")), encoding="utf-8")
    pin_new(home, project)
    command = [sys.executable, "-c", _PROGRAM, "run", "-C", str(project), "--model", ref, "--json"]
    environment = {**os.environ, "KOBOSHI_HOME": str(home.root)}
    seconds = [_timed([*command, f"Question {number}"], environment) for number in range(_ROUNDS + 1)]
    return median(seconds[1:])


def _timed(command: list[str], environment: dict[str, str]) -> float:
    started = time.perf_counter()
    # Nothing is said on stderr until the run has ended, so that its pipe cannot be full before.
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as running:
        assert running.stdout is not None
        hung = Timer(_SECONDS, running.kill)
        hung.start()
        running.stdout.read(1)
        seconds = time.perf_counter() - started
        _, said = running.communicate()
        hung.cancel()
    if running.returncode != 0:
        last = said.decode("utf-8", "replace").strip().splitlines()[-1:] or ["nothing on stderr"]
        raise KoboshiError(f"koboshi run ended with {running.returncode}: {last[0]}")
    return seconds
