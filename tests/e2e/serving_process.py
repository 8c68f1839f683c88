"""`koboshi serve` as a process of its own, on a home with real models."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openai import AsyncOpenAI, OpenAI

from koboshi_runtime.home import Home, open_home
from koboshi_runtime.models.verbs import AddSettings, add_model

PROGRAM = str(Path(sys.executable).parent / "koboshi")
SMALL = "[worker]\nthreads = 1\nbatch_threads = 1\ncontext_tokens = 512\nparallel = 8\n"


@dataclass(frozen=True, slots=True)
class ServingProcess:
    """A server that runs, and the home that it runs on."""

    home: Home
    folder: Path
    process: "subprocess.Popen[str]"
    url: str

    def token(self, scope: str = "run") -> str:
        return (self.home.tokens / scope).read_text(encoding="ascii").strip()

    def openai(self) -> OpenAI:
        return OpenAI(base_url=self.url, api_key=self.token(), max_retries=0, timeout=600)

    def openai_async(self) -> AsyncOpenAI:
        return AsyncOpenAI(base_url=self.url, api_key=self.token(), max_retries=0, timeout=600)

    def koboshi(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return koboshi(self.home, self.folder, *arguments)


def environment(home: Home) -> dict[str, str]:
    """Return the environment of a command on that home."""
    return {**os.environ, "KOBOSHI_HOME": str(home.root), "XDG_CONFIG_HOME": str(home.root / "config")}


def koboshi(home: Home, folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end."""
    command = [PROGRAM, "-C", str(folder), *arguments]
    return subprocess.run(command, env=environment(home), capture_output=True, text=True, timeout=600, check=False)


def make_place(root: Path, model: Path, settings: str = SMALL) -> tuple[Home, Path]:
    """Return a home with `model` in it, and a project that loads it small."""
    home = open_home(path=root / "home")
    add_model(home, str(model), AddSettings(name="smollm2"))
    folder = root / "project"
    folder.mkdir()
    project = '[agent]\nname = "served"\nsystem_prompt = "Answer shortly."\ntools = []\n'
    (folder / "koboshi.toml").write_text(
        f"{project}\n[agent.budgets]\nreply_tokens = 24\n\n{settings}", encoding="utf-8"
    )
    return home, folder


@contextmanager
def serving(home: Home, folder: Path, *arguments: str) -> Iterator[ServingProcess]:
    """Serve for as long as the context lasts; a server that does not end by itself then is killed."""
    process = subprocess.Popen(
        [PROGRAM, "-C", str(folder), "serve", "--port", "0", *arguments],
        env=environment(home),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://\S+/v1", line)
        assert found, line + process.stderr.read()
        yield ServingProcess(home, folder, process, found.group())
    finally:
        process.terminate()
        try:
            process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
