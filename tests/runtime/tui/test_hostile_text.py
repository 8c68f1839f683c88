"""F21: nothing that a model, a tool or a task wrote acts on the terminal, becomes a style or a link, or runs."""

import unicodedata
from pathlib import Path

import pytest
from rich.text import Text
from tests.runtime.store_samples import ALLOWED, DONE, PROFILE, header, intent, reply
from tests.runtime.tui.driving import Driven, drive
from tests.runtime.tui.payloads import PAYLOADS

from koboshi_policies import Verdict
from koboshi_runtime.approvals import question
from koboshi_runtime.home import open_home
from koboshi_runtime.records import Outcome, OutcomeLabel, OutcomeSource, Segment, SegmentKind, TurnKind, TurnRecord
from koboshi_runtime.store import JobStatus, RunRecorder, Store
from koboshi_runtime.tui.cells import block, line
from koboshi_runtime.tui.run_nodes import Node, overview, run_nodes
from koboshi_runtime.tui.theme import DARK, palette_of
from koboshi_tools import ToolCall, ToolResult, ToolVerdict, Transport

STYLES = palette_of(DARK)
ACTIVE = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with every payload in a prompt, an answer, a reply, arguments, an output, a reason and a rationale."""
    folder = tmp_path_factory.mktemp("hostile") / "home"
    store = Store.open(open_home(path=folder).traces)
    for number, payload in enumerate(PAYLOADS):
        _record(store, f"{number:016d}", payload)
    store.record_model("sha256:" + "ab" * 32, name=PAYLOADS[8], profile=PROFILE, manifest={}, state="current")
    job = store.start_job("nightly", {"night_id": "n"})
    hostile = {"reasons": list(PAYLOADS[:25]), "candidate": PAYLOADS[10], "kind": "refused", "hint": PAYLOADS[9]}
    verdict = {"accepted": False, "reasons": [{"text": payload} for payload in PAYLOADS[:25]]}
    store.finish_job(job, JobStatus.REFUSED, hostile | {"verdict": verdict})
    store.close()
    return folder


def _record(store: Store, run_id: str, payload: str) -> None:
    recorder = RunRecorder(store, run_id)
    recorder.start(header(payload, task_id=payload).model_copy(update={"project": payload, "system": payload}))
    segment = Segment(kind=SegmentKind.TOOL, ids=(1,), text=payload)
    recorder.turn(TurnRecord(index=0, segments=(segment,), reply=reply(payload), kind=TurnKind.INVALID, error=payload))
    decision = ALLOWED.model_copy(update={"verdict": Verdict.ASK, "reason": payload, "rule": payload, "file": payload})
    call = ToolCall(name=payload[:60], arguments={payload: payload})
    asked = intent(f"{run_id}/0", decision=decision).model_copy(update={"call": call})
    recorder.intent(asked)
    result = ToolResult(transport=Transport.OK, output=payload, verdict=ToolVerdict.ERROR)
    recorder.result(asked.idempotency_key, result)
    recorder.outcome(Outcome(label=OutcomeLabel.UNKNOWN, source=OutcomeSource.EVENT, who=payload, rationale=payload))
    recorder.add(question(run_id, asked, "sha256:01", attended=True))
    recorder.end(DONE.model_copy(update={"answer": payload, "error": payload}))
    store.submit(recorder.buffered())


def _acts(text: str) -> list[str]:
    return [character for character in text if character != "\n" and unicodedata.category(character) in ACTIVE]


def _check(shown: Text) -> None:
    assert _acts(shown.plain) == []
    styles = [shown.style, *(span.style for span in shown.spans)]
    # A style made of a text would be a string; ours are values, and none has a link or an action.
    assert [style for style in styles if style and (isinstance(style, str) or style.link or style.meta)] == []


def _all_nodes(nodes: tuple[Node, ...]) -> list[Node]:
    return [each for node in nodes for each in (node, *_all_nodes(node.children))]


@pytest.mark.slow
def test_every_text_about_a_run_is_plain_whatever_it_holds(home: Path) -> None:
    store = Store.read_only(home / "traces.db")
    for trajectory in store.iter_trajectories():
        _check(overview(trajectory, STYLES))
        for node in _all_nodes(run_nodes(trajectory, STYLES)):
            _check(node.title)
            _check(node.detail(None))
            _check(node.detail({11: trajectory.header.prompt.encode(), 12: b"\x1b[2J", 2: b"\xe2\x80\xae"}))


@pytest.mark.parametrize("payload", PAYLOADS[:25])
def test_a_cell_shows_a_payload_as_escapes_on_one_line(payload: str) -> None:
    _check(line(payload, 30))
    _check(block(payload, 1000))
    assert "\n" not in line(payload).plain


@pytest.mark.slow
def test_no_screen_lets_a_payload_act(home: Path) -> None:
    async def look(driven: Driven) -> None:
        for keys in (
            *(("end",) for _ in range(3)),
            ("home", "enter", "e"),
            *(("down",) for _ in range(12)),
            ("escape", "space", "down", "d"),
            ("escape", "2"),
            *(("down",) for _ in range(8)),
            ("3", "down", "down"),
            ("y",),
            ("4", "down", "down"),
            ("6",),
            ("1", "m"),
            ("escape", "t"),
            ("escape", "question_mark"),
            ("escape",),
        ):
            await driven.press(*keys)
            _check_screen(driven)
        assert driven.app.is_running
        assert "[bold red]markup" in "".join(driven.seen)

    drive(home, look, size=(160, 50))


def _check_screen(driven: Driven) -> None:
    for strip in driven.app.screen._compositor.render_strips():
        driven.seen.append(strip.text)
        assert _acts(strip.text) == []
        for segment in strip:
            assert segment.style is None or segment.style.link is None
            actions = (segment.style.meta if segment.style else {}).get("@click")
            assert actions is None
