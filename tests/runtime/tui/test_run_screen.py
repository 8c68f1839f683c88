"""One run whole: the tree, and the text of the line under the cursor."""

import math
from pathlib import Path

import pytest
from rich.style import Style
from tests.runtime.store_samples import OK, header, label, record, reply
from tests.runtime.tui.driving import Driven, drive

from koboshi_runtime.home import open_home
from koboshi_runtime.model import Reply
from koboshi_runtime.records import OutcomeLabel
from koboshi_runtime.store import Store
from koboshi_runtime.tui.theme import DARK, palette_of
from koboshi_runtime.tui.tokens import doubt, reply_text, token_texts

STYLES = palette_of(DARK)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    store = Store.open(open_home(path=tmp_path / "home").traces)
    success = label(OutcomeLabel.SUCCESS)
    record(store, "aaaa000000000001", header("Count the apples"), outcomes=(success,), calls=(("sql", OK),))
    store.close()
    return tmp_path / "home"


def test_a_run_can_be_labelled_where_it_is_read(home: Path) -> None:
    async def look(driven: Driven) -> None:
        await driven.press("enter", "n")
        await driven.until(lambda: "✗ failure by person" in driven.text())
        await driven.press("z")
        await driven.until(lambda: "✗ failure by person" not in driven.text())

    drive(home, look, size=(80, 40))


def _reply(probabilities: list[float], text: str) -> Reply:
    logprobs = tuple(math.log(each) for each in probabilities)
    return reply(text, ids=tuple(range(len(logprobs)))).model_copy(
        update={"raw_logprobs": logprobs, "sampled": (False, *(True,) * (len(logprobs) - 1))}
    )


def test_doubt_shows_in_underlines_and_words_and_not_only_in_colour() -> None:
    pieces = {0: b"It", 1: b" is", 2: b" 7", 3: b" or", 4: b" 8"}
    shown = reply_text(_reply([1.0, 0.95, 0.7, 0.3, 0.05], "It is 7 or 8"), pieces, STYLES)
    assert shown.plain.startswith("It is 7 or 8")
    spans = [(shown.plain[span.start : span.end], span.style) for span in shown.spans if span.end <= 12]
    styles = {text: style for text, style in spans if isinstance(style, Style)}
    assert styles[" 7"].italic
    assert styles[" or"].underline
    assert styles[" 8"].reverse
    assert "  5.0% █░░░░░░░░░ token 4: ' 8'" in shown.plain


def test_without_the_vocabulary_the_probabilities_stand_in_order() -> None:
    shown = reply_text(_reply([1.0, 0.95, 0.3], "whatever"), None, STYLES)
    assert shown.plain.endswith("█▇▃") or shown.plain.endswith("██▃")


def test_a_reply_that_nobody_sampled_is_shown_plain() -> None:
    played = reply("Played.", ids=(1, 2)).model_copy(update={"raw_logprobs": (math.nan, math.nan)})
    assert reply_text(played, None, STYLES).plain == "Played."


def test_a_character_made_of_two_tokens_stands_at_the_second() -> None:
    assert token_texts([1, 2, 3], {1: b"\xc3", 2: b"\xa9", 3: b"!"}) == ["", "é", "!"]


@pytest.mark.parametrize(("probability", "level"), [(1.0, 0), (0.9, 0), (0.6, 1), (0.5, 1), (0.2, 2), (0.01, 3)])
def test_doubt_has_four_levels(probability: float, level: int) -> None:
    assert doubt(probability) == level
