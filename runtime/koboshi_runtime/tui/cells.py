"""What stands in a cell or a line: values as Rich texts, each made safe before it is one.

Text is the only thing given to a widget: Textual reads markup in a plain string. What a model, a tool or a task wrote
goes through `text.plain`, so it can neither act on the terminal nor become a style, a link or another line.
"""

from rich.style import Style
from rich.text import Text

from ..ids import SHORT_ID
from ..records import OutcomeLabel, RunStatus
from ..store.rows import RunRow
from ..text import plain
from .theme import Palette

_SIGNS: dict[str, str] = {
    OutcomeLabel.SUCCESS: "✓",
    OutcomeLabel.FAILURE: "✗",
    OutcomeLabel.UNKNOWN: "?",
    RunStatus.RUNNING: "▸",
    RunStatus.INTERRUPTED: "‖",
}


def line(text: str, width: int | None = None, style: Style | str = "") -> Text:
    """Return `text` on one line, cut to `width` characters, safe to show."""
    # A text of megabytes is not worth splitting for the beginning that is shown.
    if width is not None:
        text = text[: 4 * width + 64]
    return Text(plain(" ".join(text.split()), width=width), style=style, no_wrap=True)


def block(text: str, most: int, style: Style | str = "") -> Text:
    """Return at most `most` characters of `text` with its lines, safe to show, and say how much is left out."""
    shown = Text(plain(text[:most], keep_lines=True), style=style)
    if len(text) > most:
        shown.append(f"\n… {len(text) - most:,} more characters; `koboshi traces show RUN --full` shows all", "italic")
    return shown


def verdict(word: str, palette: Palette) -> Text:
    """Return an outcome or a status with its sign."""
    styles: dict[str, Style] = {
        OutcomeLabel.SUCCESS: palette.good,
        OutcomeLabel.FAILURE: palette.bad,
        OutcomeLabel.UNKNOWN: palette.warn,
        RunStatus.RUNNING: palette.name,
    }
    return Text(f"{_SIGNS.get(word, '·')} {word}", style=styles.get(word, palette.quiet), no_wrap=True)


def outcome_of(row: RunRow) -> str:
    """Return the word that says most of a run: its outcome once it has ended, else its status."""
    return row.outcome if row.end_reason else row.status


def short(run_id: str) -> str:
    """Return the beginning of an id, as people type it."""
    return plain(run_id[:SHORT_ID])


def clock(at: str) -> str:
    """Return day and time of an ISO time, in UTC."""
    return plain(at[5:16].replace("T", " "))


def short_hash(named: str) -> str:
    """Return the beginning of a hash, without the name of its algorithm."""
    return plain(named).removeprefix("sha256:")[:12]


def many(count: int, what: str) -> str:
    """Return how many there are of something, in the number it takes."""
    return f"{count} {what}{'' if count == 1 else 's'}"
