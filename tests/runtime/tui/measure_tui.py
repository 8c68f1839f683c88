"""Measure the terminal interface over a store of 100,000 runs and a million steps.

Run by hand: python -m tests.runtime.tui.measure_tui [FOLDER]. The store is made once in FOLDER, by default a temporary
one. Printed are the seconds until the first page stands, the time of each filter and search, the memory of the process,
and what agents that write lose while somebody looks.
"""

import asyncio
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
from tests.runtime.store_samples import DONE, OK, WORDS, header, label, record
from textual import events

from koboshi_runtime.home import open_home
from koboshi_runtime.ids import prompt_hash
from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.store import RunFilter, Store
from koboshi_runtime.tui.look import PAGE, Look

RUNS, STEPS_A_RUN, MODELS = 100_000, 10, 3
TOOLS = ("sql", "calculator", "files_read", "files_write", "http_get", "docs")
_WRITES, _ROUNDS = 1_000, 9


def fill(path: Path) -> None:
    """Make the store by plain SQL, with every trigger and index as it is used."""
    with closing(Store.open(path)) as store:
        record(store, "first", header("The first"), outcomes=(label(OutcomeLabel.SUCCESS),), calls=(("sql", OK),))
    rng = random.Random(5)
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA synchronous = OFF")
        run, step = (dict(db.execute(f"SELECT * FROM {table} LIMIT 1").fetchone()) for table in ("runs", "steps"))
        for number in range(MODELS):
            db.execute(
                "INSERT INTO models VALUES (?, ?, '{}', '{}', 'retired', '2026', '2026')",
                (f"sha256:{number:064x}", f"model-{number}"),
            )
        for start in range(0, RUNS, 2_000):
            with db:
                for number in range(start, start + 2_000):
                    _add_run(db, rng, number, run, step)


def _add_run(
    db: sqlite3.Connection, rng: random.Random, number: int, run: dict[str, Any], step: dict[str, Any]
) -> None:
    run_id = f"{rng.getrandbits(80):020x}"[:16]
    prompt = f"{_words(rng, 12)} {number}"
    _insert(
        db,
        "runs",
        run
        | {
            "id": None,
            "run_id": run_id,
            "prompt": prompt,
            "prompt_hash": prompt_hash(prompt),
            "answer": _words(rng, 4),
            "model_hash": f"sha256:{number * MODELS // RUNS:064x}",
            "purpose": rng.choice(("work", "work", "rollout", "eval")),
            "status": "failed" if number % 50 == 0 else "finished",
        },
    )
    for index in range(STEPS_A_RUN):
        reply = _words(rng, 25) + (" zebra" if number % 5_000 == 17 and index == 3 else "")
        _insert(db, "steps", step | {"step_id": None, "run_id": run_id, "step_index": index, "reply": reply})
        if index < 3:
            db.execute(
                "INSERT INTO tool_calls (run_id, step_index, call_index, tool, arguments, tool_version, effect, "
                "idempotent, idempotency_key, intent_at, transport, tool_verdict, output, seconds, truncated) "
                "VALUES (?, ?, 0, ?, ?, '1', 'read', 1, ?, '2026-11-27', 'ok', 'ok', ?, 0.1, 0)",
                (run_id, index, _tool(rng, number), _words(rng, 8), f"{run_id}/{index}", _words(rng, 15)),
            )
    if number % 10:
        word = "success" if rng.random() < 0.6 else "failure"
        db.execute(
            "INSERT INTO outcomes (run_id, label, source, who, rationale, created_at) "
            "VALUES (?, ?, ?, 'x', '', '2026')",
            (run_id, word, "checker" if number % 3 else "person"),
        )


def _insert(db: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    db.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", tuple(row.values()))


def _words(rng: random.Random, count: int) -> str:
    return " ".join(rng.choice(WORDS) + (str(rng.randrange(1000)) if rng.random() < 0.4 else "") for _ in range(count))


def _tool(rng: random.Random, number: int) -> str:
    return "docs" if number % 3_000 == 7 else rng.choice(TOOLS[:-1])


FILTERS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "tool sql": {"tool": "sql"},
    "a rare tool": {"tool": "docs"},
    "failure": {"outcome": "failure"},
    "unknown": {"outcome": "unknown"},
    "failed": {"status": "failed"},
    "running, none there": {"status": "running"},
    "the oldest model": {"model": "model-0"},
    "eval": {"purpose": "eval"},
    "five at once": {"tool": "sql", "outcome": "failure", "status": "failed", "model": "model-1", "purpose": "eval"},
    "a rare tool and no match": {"tool": "docs", "status": "running", "outcome": "unknown"},
    "a rare word": {"text": "zebra"},
    "a common word": {"text": "order"},
    "two common words": {"text": "order customer"},
    "a common word and failure": {"text": "order", "outcome": "failure"},
    "a word that is nowhere": {"text": "xylophone"},
}


def measure_queries(look: Look) -> Iterator[tuple[str, float, int]]:
    """Yield the milliseconds of each filter, the median of some, and how many runs it found."""
    for name, wanted in FILTERS.items():
        times, found = [], 0
        for _ in range(_ROUNDS):
            began = time.perf_counter()
            found = len(look.runs(RunFilter(limit=PAGE, **wanted)).rows)
            times.append(1000 * (time.perf_counter() - began))
        yield name, statistics.median(times), found


async def measure_screen(home: Path) -> dict[str, float]:
    """Return seconds until the first page stands, and milliseconds from a typed word to its lines on the screen."""
    from tests.runtime.tui.driving import Driven, looking_at

    from koboshi_runtime.tui.app import KoboshiApp

    began = time.perf_counter()
    app = KoboshiApp(looking_at(home))
    async with app.run_test(size=(160, 50)) as pilot:
        driven = Driven(app, pilot)
        await driven.until(lambda: "runs, more below" in driven.text())
        found = {"first page, s": time.perf_counter() - began}
        await pilot.press("slash", *"zebr")
        await driven.until(lambda: "no run is like that" in driven.text())
        began = time.perf_counter()
        driven.app.post_message(events.Key("a", "a"))
        while "20 runs" not in driven.text():
            await asyncio.sleep(0.005)
        found["from the last letter of a word to its runs, ms (80 of them waiting for a next)"] = 1000 * (
            time.perf_counter() - began
        )
        for key in ("escape", "2", "3", "4", "5", "6", "7", "1"):
            await driven.press(key)
        found["memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    app.look.store.close()
    return found


def measure_start(home: Path) -> tuple[float, float]:
    """Return seconds and processor seconds from the start of a process until the first page stands."""
    code = (
        "import asyncio, sys; from pathlib import Path; from tests.runtime.tui.measure_tui import first_page;"
        "asyncio.run(first_page(Path(sys.argv[1])))"
    )
    times = []
    for _ in range(3):
        began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code, str(home)], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        times.append((time.perf_counter() - began, used))
    return min(times)


async def first_page(home: Path) -> None:
    """Show the first page and leave."""
    from tests.runtime.tui.driving import Driven, looking_at

    from koboshi_runtime.tui.app import KoboshiApp

    app = KoboshiApp(looking_at(home))
    async with app.run_test(size=(80, 24)) as pilot:
        driven = Driven(app, pilot)
        while "runs, more below" not in driven.text():
            await asyncio.sleep(0.005)


def write_runs(path: Path) -> float:
    """Return the seconds that an agent takes to record some runs, each of them durable."""
    with closing(Store.open(path)) as store:
        began = time.perf_counter()
        for number in range(_WRITES):
            run_id = f"w{random.getrandbits(60):015x}"
            record(store, run_id, header(f"Written while looked at {number}"), calls=(("sql", OK),), end=DONE)
        return time.perf_counter() - began


def measure_writers(home: Path) -> tuple[float, float, float]:
    """Return the seconds of a writer alone and beside an open interface, and the part of a processor that that took.

    All are medians of rounds that take turns.
    """
    path = open_home(path=home).traces
    alone, beside, shares = [], [], []
    for _ in range(_ROUNDS):
        alone.append(write_runs(path))
        shown = subprocess.Popen([sys.executable, "-m", "tests.runtime.tui.measure_tui", "--show", str(home)])
        time.sleep(3)
        watched = psutil.Process(shown.pid)
        before = watched.cpu_times()
        beside.append(write_runs(path))
        after = watched.cpu_times()
        shares.append((after.user + after.system - before.user - before.system) / beside[-1])
        shown.terminate()
        shown.wait()
    return statistics.median(alone), statistics.median(beside), statistics.median(shares)


async def show(home: Path) -> None:
    """Show the list until the process is ended."""
    from tests.runtime.tui.driving import looking_at

    from koboshi_runtime.tui.app import KoboshiApp

    async with KoboshiApp(looking_at(home)).run_test(size=(160, 50)):
        await asyncio.sleep(600)


def main(folder: Path) -> None:
    """Print the figures."""
    home = open_home(path=folder / "home")
    if not (folder / "filled").exists():
        fill(home.traces)
        (folder / "filled").touch()
    with closing(Store.open(home.traces)) as store:
        for name, milliseconds, found in measure_queries(Look(home, store)):
            print(f"{milliseconds:8.1f} ms  {name} ({found} on the page)")
    seconds, used = measure_start(home.root)
    print(f"{seconds:8.2f} s   from the start of the process to the first page, {used:.2f} s of processor time")
    for name, value in asyncio.run(measure_screen(home.root)).items():
        print(f"{value:8.2f}     {name}")
    alone, beside, share = measure_writers(home.root)
    print(
        f"{alone:8.2f} s   {_WRITES} runs written alone, {beside:.2f} s beside the interface: {beside / alone - 1:+.1%}"
    )
    print(f"{share:8.1%}     of a processor that the interface took meanwhile")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--show"]:
        asyncio.run(show(Path(sys.argv[2])))
    elif len(sys.argv) > 1:
        Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as name:
            main(Path(name))
