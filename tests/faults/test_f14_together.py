"""F14: a server, two chats, runs, labels and two nights hammer one home at once: all succeed, and the store is whole.

`KOBOSHI_HAMMER_SECONDS` says for how long, default 60. The model is tiny, so that whole nights fit in: each trains on
what the others ran and labelled meanwhile, is judged, and what it promotes goes live under the server's requests. Of
two nights that meet, one leaves cleanly.
"""

import json
import os
import random
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.serving_process import PROGRAM, ServingProcess, environment, serving
from tests.trainer.conftest import write_tiny_model
from tests.trainer.pipeline_place import make_place, with_nights

from koboshi_runtime.records import Purpose
from koboshi_runtime.store import RunFilter, Store

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("KOBOSHI_HAMMER_SECONDS", "60"))


_AT_WORK = ("a night is at work already", "another night is just beginning")


# A night takes a minute or two beside all this, more where other things run as well.
_LONGEST_NIGHT_S = 300.0


class Hammer:
    """Does things over and over in threads, until the time is over and a night has been judged; keeps what failed."""

    def __init__(self, server: ServingProcess) -> None:
        self.server, self.ends_at = server, time.monotonic() + SECONDS
        self.failed: list[str] = []
        self.done: dict[str, int] = {}
        self.nights: Counter[str] = Counter()

    def over_now(self) -> bool:
        late = time.monotonic() - self.ends_at
        return late > _LONGEST_NIGHT_S or (late > 0 and self.judged() > 0)

    def judged(self) -> int:
        """Return how many nights came to a candidate and its gate."""
        return self.nights["promoted"] + self.nights["refused"]

    def strike_with(self, name: str, blow: Callable[[int], str | None]) -> threading.Thread:
        """Strike until the time is over; a blow returns what went wrong, or None."""

        def strike() -> None:
            number = 0
            while not self.over_now():
                try:
                    wrong = blow(number)
                except Exception as error:
                    wrong = repr(error)
                if wrong:
                    self.failed.append(f"{name} {number}: {wrong}")
                number += 1
                self.done[name] = number

        thread = threading.Thread(target=strike)
        thread.start()
        return thread

    def command(self, *arguments: str, said: str | None = None) -> str | None:
        done = self.process(*arguments, said=said)
        return None if done.returncode == 0 else done.stderr

    def process(self, *arguments: str, said: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [PROGRAM, "-C", str(self.server.folder), *arguments]
        given = environment(self.server.home) | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(command, env=given, input=said, capture_output=True, text=True, check=False)

    def ask(self, number: int) -> str | None:
        messages: Any = [{"role": "user", "content": f"Say {number}."}]
        reply = self.server.openai().chat.completions.create(model="current", messages=messages, max_tokens=6)
        return None if reply.choices else "no choice"

    def chat(self, number: int) -> str | None:
        return self.command("chat", "--json", said=f"Name {number} things.\nAnd more?\n/good it was\n")

    def run(self, number: int) -> str | None:
        return self.command("run", f"Count to {number}.", "--json")

    def night(self, number: int) -> str | None:
        done = self.process("nightly", "run", "--json")
        left = done.returncode == 1 and any(each in done.stderr for each in _AT_WORK)
        self.nights["left" if left else str(json.loads(done.stdout or "{}").get("kind"))] += 1
        # 3: the gate refused its candidate, which is a night like any other.
        return None if done.returncode in (0, 3) or left else done.stderr

    def label(self, number: int) -> str | None:
        rows = Store.read_only(self.server.home.traces).runs(RunFilter(limit=50))
        if not rows:
            return None
        row = random.Random(number).choice(rows)
        if number % 5 == 0:
            return self.command("outcome", "set", row.run_id, "success", "--why", str(number))
        body = {"run_id": row.run_id, "label": ("success", "failure")[number % 2], "rationale": str(number)}
        granted = {"authorization": f"Bearer {self.server.token('label')}"}
        answer = httpx.post(f"{self.server.url}/outcomes", json=body, headers=granted, timeout=60)
        return None if answer.status_code == 201 else answer.text


def test_server_chats_runs_labels_and_nights_at_once(tmp_path: Path) -> None:
    place = with_nights(make_place(tmp_path, write_tiny_model(tmp_path / "base.gguf", "llama")))
    with serving(place.home, place.project) as server:
        hammer = Hammer(server)
        blows = {
            "ask": hammer.ask,
            "run": hammer.run,
            "chat": hammer.chat,
            "label": hammer.label,
            "night": hammer.night,
        }
        twice = {f"{name} too": blows[name] for name in ("ask", "chat", "night")}
        for thread in [hammer.strike_with(name, blow) for name, blow in (blows | twice).items()]:
            thread.join()
        print(json.dumps(hammer.done), json.dumps(hammer.nights))
        assert hammer.failed == []
        assert set(hammer.done) == {*blows, *twice}
        assert hammer.judged()
        assert hammer.nights["left"]
        workers = json.loads(server.koboshi("ps", "--json").stdout)["workers"]
        assert len(workers) == 1
    store = Store.read_only(place.home.traces)
    report = store.check()
    assert (report.ok, report.problems) == (True, ())
    assert {job.status for job in store.jobs("nightly")} <= {"done", "refused"}
    rows = store.runs(RunFilter(purpose=Purpose.WORK, limit=None))
    asked = hammer.done["ask"] + hammer.done["ask too"] + hammer.done["run"]
    assert len(rows) == asked + 2 * (hammer.done["chat"] + hammer.done["chat too"])
    assert {row.status for row in rows} == {"finished"}
    assert [store.trajectory(row.run_id).end for row in rows if not store.trajectory(row.run_id).turns] == []
