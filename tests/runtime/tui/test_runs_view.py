"""The list of runs: filters, search, live tail, labels by one key and their undo."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.runtime.store_samples import DONE, MODEL, OK, PROFILE, header, label, record
from tests.runtime.tui.driving import Driven, drive

from koboshi_runtime.home import open_home
from koboshi_runtime.records import OutcomeLabel, OutcomeSource
from koboshi_runtime.store import Store

SUCCESS, FAILURE = label(OutcomeLabel.SUCCESS), label(OutcomeLabel.FAILURE)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    opened = Store.open(open_home(path=home).traces)
    record(opened, "aaaa000000000001", header("Count the apples"), outcomes=(SUCCESS,), calls=(("sql", OK),))
    record(opened, "bbbb000000000002", header("Count the pears"), outcomes=(FAILURE,), calls=(("sql", OK),))
    record(opened, "cccc000000000003", header("Weigh the plums"), calls=(("calculator", OK),))
    record(opened, "dddd000000000004", header("Still going"), end=None)
    opened.record_model(MODEL, name="tiny", profile=PROFILE, manifest={}, state="current")
    yield opened
    opened.close()


def test_a_filter_is_chosen_from_a_list_and_cleared(home: Path, store: Store) -> None:
    async def look(driven: Driven) -> None:
        await driven.press("t")
        await driven.press("down", "enter")
        await driven.until(lambda: "plums" in driven.text() and "pears" not in driven.text())
        await driven.press("x")
        await driven.until(lambda: "pears" in driven.text())

    drive(home, look)


def test_the_preview_is_of_the_run_under_the_cursor_and_of_none_in_an_empty_list(home: Path, store: Store) -> None:
    async def look(driven: Driven) -> None:
        await driven.resize(160, 50)
        await driven.until(lambda: "dddd000000000004" in driven.text())
        await driven.press("slash", *"nobody wrote this")
        await driven.until(lambda: "no run is like that" in driven.text() and "dddd000000000004" not in driven.text())
        await driven.resize(80, 24)
        await driven.press("enter", "x")
        await driven.resize(160, 50)
        await driven.until(lambda: "dddd000000000004" in driven.text())
        await driven.press("y")
        await driven.until(lambda: driven.text().count("✓ success") == 2)

    drive(home, look)


def test_words_are_looked_for_while_they_are_typed(home: Path, store: Store) -> None:
    async def look(driven: Driven) -> None:
        await driven.press("slash", *"pears")
        await driven.until(lambda: "apples" not in driven.text() and "Count the pears" in driven.text())
        await driven.press("enter", "escape")
        await driven.until(lambda: "apples" in driven.text())

    drive(home, look)


def test_a_run_that_begins_meanwhile_appears_and_the_cursor_stays_on_its_row(home: Path, store: Store) -> None:
    async def look(driven: Driven) -> None:
        await driven.press("down")
        await asyncio.to_thread(record, store, "eeee000000000005", header("A new one"), end=DONE)
        await driven.until(lambda: "A new one" in driven.text())
        await driven.press("enter")
        assert "Weigh the plums" in driven.lines()[0]

    drive(home, look)


def test_a_run_that_went_out_of_sight_is_shown_before_it_is_labelled(home: Path, store: Store) -> None:
    async def look(driven: Driven) -> None:
        for number in range(30):
            await asyncio.to_thread(record, store, f"z{number:03d}000000000000", header(f"New {number}"), end=DONE)
        await driven.until(lambda: "New 29" in driven.text())
        assert "Still going" not in driven.text()
        await driven.press("y")
        assert "out of sight" in driven.told()[-1]
        assert "Still going" in driven.text()
        await driven.press("n")

    drive(home, look)
    assert store.trajectory("dddd000000000004").outcome is OutcomeLabel.FAILURE
    assert [row.run_id for row in store.runs() if row.outcome is OutcomeLabel.FAILURE][:1] == ["dddd000000000004"]


def test_a_list_that_is_held_stays_as_it_is(home: Path, store: Store) -> None:
    async def look(driven: Driven) -> None:
        await driven.press("l")
        await asyncio.to_thread(record, store, "eeee000000000005", header("A new one"), end=DONE)
        await driven.app._tick().wait()
        assert "‖ held" in driven.text()
        assert "A new one" not in driven.text()

    drive(home, look)


def test_one_key_labels_the_run_and_another_takes_it_back(home: Path, store: Store) -> None:
    async def look(driven: Driven) -> None:
        await driven.press("down", "y")
        assert store.trajectory("cccc000000000003").outcome is OutcomeLabel.SUCCESS
        assert store.label_queue() == []
        await driven.press("z")
        assert store.trajectory("cccc000000000003").outcome is OutcomeLabel.UNKNOWN
        assert [row.run_id for row in store.label_queue()] == ["cccc000000000003"]
        await driven.press("z")
        assert "Nothing was labelled" in driven.told()[-1]

    drive(home, look)


def test_a_label_that_a_check_outranks_says_so(home: Path, store: Store) -> None:
    async def look(driven: Driven) -> None:
        await driven.press("down", "down", "y")
        assert "a check outranks it, failure counts" in driven.told()[-1]

    drive(home, look)
    given = store.trajectory("bbbb000000000002").outcomes
    assert [(each.label, each.source) for each in given][1:] == [(OutcomeLabel.SUCCESS, OutcomeSource.PERSON)]


def test_older_runs_are_read_when_the_cursor_comes_near_them(home: Path, store: Store) -> None:
    for number in range(120):
        record(store, f"z{number:03d}000000000000", header(f"Run number {number}"))

    async def look(driven: Driven) -> None:
        assert "100 runs, more below" in driven.text()
        await driven.press("end")
        await driven.until(lambda: "124 runs" in driven.text())

    drive(home, look)


def test_a_click_does_what_the_key_does(home: Path, store: Store) -> None:
    async def look(driven: Driven) -> None:
        await driven.click("#chip-outcome")
        assert "outcome: Enter takes" in driven.text()
        await driven.press("escape")
        await driven.click("#entry-policy")
        assert "e writes a call" in driven.text()
        await driven.click("#entry-runs")
        await driven.click("#runs-list", line=3)
        await driven.click("#runs-list", line=3)
        assert "Count the pears" in driven.lines()[0]

    drive(home, look)
