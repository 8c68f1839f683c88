"""F21: two hundred payloads in prompts, arguments, replies and outputs: none acts where the command line shows them."""

import asyncio
import os
import pty
import re
import subprocess
import sys
import unicodedata
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.runtime.payload_makers import PAYLOADS
from tests.runtime.run_makers import calls, runner, task
from tests.runtime.store_samples import DONE, PROFILE, header, intent, turn

from koboshi_policies.decision import Decision, Verdict
from koboshi_runtime.cli import main
from koboshi_runtime.home import open_home
from koboshi_runtime.ids import utc_now
from koboshi_runtime.models.manifest import ModelManifest, Parents
from koboshi_runtime.models.registry import Registry
from koboshi_runtime.records import Outcome, OutcomeLabel, OutcomeSource
from koboshi_runtime.store import RunRecorder, Store
from koboshi_runtime.text import plain
from koboshi_tools import ToolCall, ToolResult, Transport, hash_bytes
from koboshi_trainer.blocks import Block, markdown_of
from koboshi_trainer.demo.report_runs import side_by_side

_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("f21")
    home = open_home(path=folder / "home")
    with closing(Store.open(home.traces)) as store:
        for number, payload in enumerate(PAYLOADS):
            _record(store, f"run{number:013}", payload)
        played = runner(folder, store, [calls(("ask_note", {"text": PAYLOADS[0]})), "done"])
        asyncio.run(played.run(task("waits", prompt=PAYLOADS[1])))
    return home.root


def _record(store: Store, run_id: str, payload: str) -> None:
    """Record a run that holds the payload wherever a person, a model, a tool or a rule can write."""
    recorder = RunRecorder(store, run_id)
    recorder.start(header(f"asked {payload}", task_id=payload[:40]))
    written = turn().reply.model_copy(update={"text": f"said {payload}"})
    recorder.turn(turn(written=written).model_copy(update={"error": payload}))
    call = ToolCall(name="look", arguments={payload or "k": payload})
    decided = Decision(verdict=Verdict.ALLOW, reason=payload, rule=payload, file=payload, line=1)
    recorder.intent(intent(f"{run_id}:0").model_copy(update={"call": call, "decision": decided}))
    recorder.result(f"{run_id}:0", ToolResult(transport=Transport.OK, output=f"gave {payload}"))
    recorder.outcome(Outcome(label=OutcomeLabel.UNKNOWN, source=OutcomeSource.WEAK, who=payload, rationale=payload))
    recorder.end(DONE.model_copy(update={"answer": payload, "error": payload}))
    asyncio.run(recorder.commit())


def _acting(text: str) -> list[str]:
    """Return the characters that a terminal could act on, or an eye could not see."""
    return sorted({c for c in text if unicodedata.category(c) in _UNSAFE and c not in "\n\t"})


def _shown(home: Path, *arguments: str) -> str:
    done = CliRunner(env={"KOBOSHI_HOME": str(home)}).invoke(main, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.stdout + done.stderr


def test_there_are_two_hundred_different_payloads() -> None:
    assert len(set(PAYLOADS)) == 200
    assert sum(bool(_acting(payload)) for payload in PAYLOADS) > 100


@pytest.mark.parametrize(
    "arguments",
    [
        ("traces", "list", "--limit", "300"),
        ("traces", "search", "asked", "--limit", "300"),
        ("traces", "search", "gave", "--limit", "300", "--json"),
        ("traces", "diff", "run0000000000000", "run0000000000018"),
        ("outcome", "queue", "--limit", "300"),
        ("approvals", "list"),
        ("policy", "replay"),
        ("traces", "export"),
        ("traces", "export", "--format", "atif"),
        ("traces", "list", "--limit", "300", "--json"),
    ],
    ids=" ".join,
)
def test_no_list_shows_a_payload_raw(home: Path, arguments: tuple[str, ...]) -> None:
    shown = _shown(home, *arguments)
    assert _acting(shown) == []
    assert "\nrun aaaaaaaa" not in shown


def test_no_run_shows_a_payload_raw_whole_or_explained(home: Path) -> None:
    for number in range(0, len(PAYLOADS), 8):
        shown = _shown(home, "traces", "show", f"run{number:013}", "--full")
        shown += _shown(home, "why", f"run{number:013}")
        assert _acting(shown) == [], PAYLOADS[number]


@pytest.mark.parametrize("payload", PAYLOADS[::8])
def test_no_error_quotes_a_payload_raw(home: Path, payload: str) -> None:
    name = payload.replace("\0", "") or "x"
    shown = _shown(home, "traces", "show", name) + _shown(home, "traces", "list", "--outcome", name)
    assert _acting(shown) == []


def test_no_list_of_models_shows_a_name_from_a_file_raw(tmp_path: Path) -> None:
    home = open_home(path=tmp_path / "home")
    named = [payload for payload in PAYLOADS[::10] if "\udcff" not in payload]
    for number, payload in enumerate(named):
        (file := tmp_path / "model").write_bytes(b"%d" % number)
        manifest = ModelManifest(
            model_hash=hash_bytes(file.read_bytes()),
            name=payload,
            architecture=payload,
            quantization=payload,
            bytes=file.stat().st_size,
            context_tokens=64,
            source=payload,
            created_at=utc_now(),
            profile=PROFILE,
            parents=Parents(),
        )
        Registry(home).register(file, manifest)
    for verb in (["models", "list"], ["models", "show"], ["doctor"], ["ps"]):
        shown = _shown(home.root, *verb)
        assert (_acting(shown), len(shown) > 20) == ([], True), verb


def test_a_report_makes_no_element_and_no_link_of_a_payload(home: Path) -> None:
    with closing(Store.read_only(home / "traces.db")) as store:
        runs = [store.trajectory(f"run{number:013}") for number in range(len(PAYLOADS))]
    for run in runs:
        (shown,) = side_by_side({"base": [run]})
        lines = (plain(shown.prompt), *(plain(call) for call in shown.runs["base"].calls))
        page = markdown_of(
            plain(run.header.prompt), [Block(plain(run.header.prompt), text=(plain(run.header.prompt),), code=lines)]
        )
        assert _acting(page) == []
        # Indented lines are code in Markdown; outside of them no tag and no link can begin.
        outside = [line for line in page.splitlines() if not line.startswith("    ")]
        assert [line for line in outside if "<" in line or re.search(r"(?<!\\)\[", line)] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments", [("traces", "list", "--limit", "300"), ("outcome", "queue"), ("approvals", "list")]
)
def test_on_a_terminal_markup_stays_text_and_only_our_own_styles_are_sent(
    home: Path, arguments: tuple[str, ...]
) -> None:
    leading, following = pty.openpty()
    environment = os.environ | {"KOBOSHI_HOME": str(home), "TERM": "xterm-256color", "COLUMNS": "300"}
    command = [sys.executable, "-c", "from koboshi_runtime.cli import main; main()", *arguments]
    with subprocess.Popen(command, stdout=following, stderr=subprocess.DEVNULL, env=environment) as process:
        os.close(following)
        shown = b""
        while True:
            try:
                piece = os.read(leading, 65536)
            except OSError:
                break
            shown += piece
        assert process.wait() == 0
    os.close(leading)
    text = shown.decode().replace("\r\n", "\n")
    assert _acting(_STYLE.sub("", text)) == []
    assert not {"38;5;201", "31m"} & set(_STYLE.findall(text))
    if arguments[1] == "list" and arguments[0] == "traces":
        assert "[bold magenta]loud[/]" in text
        assert ":bomb:" in text
