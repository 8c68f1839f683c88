"""The morning report: its headline for each kind of night, and that no text in it acts, in any of its forms."""

import io
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest
from rich.console import Console

from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.statistics import TaskResult, ToolUse
from koboshi_trainer.gate.judge import judge_gate
from koboshi_trainer.gate.values import GateBudget, GateVerdict
from koboshi_trainer.morning.html import html
from koboshi_trainer.morning.plots import bars, curve
from koboshi_trainer.morning.report import Cost, Kind, Learnt, Morning
from koboshi_trainer.morning.text import markdown, print_morning
from koboshi_trainer.night.readiness import Readiness

HOSTILE = "<img src=x onerror=alert(1)>\x1b[2J\u202e[link](javascript:alert(1))&\"'"
_ALLOWED = set(
    "html head meta title style body h1 h2 p table tr th td pre figure figcaption svg text rect path polyline".split()
)


def _verdict(before: int, after: int, tool: str = "sql") -> GateVerdict:
    """Return the verdict of a gate of 100 tasks, of which so many succeeded on either side."""

    def side(good: int) -> list[TaskResult]:
        labels = [OutcomeLabel.SUCCESS] * good + [OutcomeLabel.FAILURE] * (100 - good)
        return [
            TaskResult(task_id=f"t{n}", seed=0, outcome=label, tools=(ToolUse(name=tool, calls=1),), calls_begun=1)
            for n, label in enumerate(labels)
        ]

    return judge_gate(side(before), side(after), GateBudget(grant_id="g", alpha=0.01))


def _morning(kind: Kind = Kind.PROMOTED, text: str = "shop", **fields: object) -> Morning:
    learnt = Learnt(
        method="nat",
        rows={"success": 40, "failure": 25},
        failure_classes={"wrong_answer": 25},
        tools={text: 65},
        demonstrations=0,
        left_out={text: 3},
        optimizer_steps=3,
        tokens=9000,
        losses=(1.2, 0.8, 0.5),
        held_out_before={text: 1.0},
        held_out_after={text: 0.5},
    )
    ready = Readiness(labelled=65, needed=60, newer=0, needed_new=20, unlabelled=30)
    values: dict[str, object] = {
        "night_id": "n1",
        "project": text,
        "began_at": "2026-01-02T03:00:00.000+00:00",
        "ended_at": "2026-01-02T04:00:00.000+00:00",
        "kind": kind,
        "live": text,
        "candidate": text,
        "tried": {},
        "labels": ready,
        "learnt": learnt,
        "cost": Cost(seconds={"fit": 60.0, "gate": 30.0}, processor_s=80.0, peak_memory_mb=900.0),
        "disk": {"models": 5_000_000},
    }
    return Morning.model_validate(values | fields)


def _printed(morning: Morning) -> str:
    stream = io.StringIO()
    print_morning(morning, Console(file=stream, width=80))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("fields", "headline"),
    [
        (
            {"kind": Kind.PROMOTED, "verdict": _verdict(61, 80)},
            "Got up wiser: 61 → 80 % on 100 unseen tasks; undo: `koboshi models rollback`",
        ),
        (
            {"kind": Kind.PROMOTED, "verdict": _verdict(61, 80), "refused_before": 2},
            "Got up wiser: 61 → 80 % on 100 unseen tasks; refused 2 before it; undo: `koboshi models rollback`",
        ),
        (
            {"kind": Kind.REFUSED, "verdict": _verdict(61, 60), "reasons": ("the candidate is not better",)},
            "Stayed as it was: 61 → 60 % on 100 unseen tasks; refused shop: the candidate is not better",
        ),
        ({"kind": Kind.NOTHING, "reasons": ("37 labelled",)}, "Nothing to do: 37 labelled"),
        ({"kind": Kind.FAILED, "reasons": ("no memory", "more")}, "The night failed: no memory"),
        (
            {"kind": Kind.NOTHING, "reasons": ("too few",), "watch": "went back from b to a: worse", "went_back": True},
            "Nothing to do: too few; the watch went back from b to a: worse",
        ),
    ],
)
def test_the_headline_says_what_became_of_the_night(fields: dict[str, object], headline: str) -> None:
    morning = _morning(**fields)  # type: ignore[arg-type]
    assert morning.headline == headline
    assert _printed(morning).startswith(headline)
    assert markdown(morning).startswith(f"# {headline}")


def test_every_form_says_success_by_tool_cost_and_disk() -> None:
    morning = _morning(verdict=_verdict(61, 80))
    for text in (_printed(morning), markdown(morning), html(morning)):
        assert all(part in text for part in ("61.0 %", "80.0 %", "sql", "1.5 min", "5.0 MB", "40 success"))


class _Elements(HTMLParser):
    """Collects what a browser would make of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def test_no_text_of_a_report_acts_in_any_form() -> None:
    hostile = {"watch": HOSTILE, "notes": (HOSTILE,), "hint": HOSTILE, "verdict": _verdict(61, 60, tool=HOSTILE)}
    morning = _morning(Kind.REFUSED, HOSTILE, reasons=(HOSTILE,), **hostile)
    page = _Elements()
    page.feed(html(morning))
    assert page.tags <= _ALLOWED
    assert not {name for name in page.attributes if name.startswith("on") or name in {"href", "src", "style"}}
    shown = markdown(morning)
    outside = "\n".join(line for line in shown.splitlines() if not line.startswith("    "))
    assert "<img" not in outside
    assert "[link](" not in outside.replace("\\[", "")
    for text in (_printed(morning), shown, html(morning)):
        assert not {"\x1b", "\u202e"} & set(text)


def test_the_page_forbids_itself_to_load_anything() -> None:
    assert "default-src 'none'" in html(_morning())
    assert "http" not in html(_morning()).replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_plots_are_well_formed_and_hold_every_name_and_value() -> None:
    drawn = ElementTree.fromstring(bars([("a & b", 0.0, 1.0), (HOSTILE, 0.5, 0.25)]))
    texts = [element.text for element in drawn.iter() if element.text]
    assert texts[:3] == ["a & b", "0 %", "100 %"]
    assert len(ElementTree.fromstring(curve([1.0] * 1000))) > 0
    assert "nan" not in curve([2.0])
