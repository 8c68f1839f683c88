"""Where morning reports lie: `reports/night-DATE-ID.json` with every number, beside it `.md` and `.html` for people."""

from pathlib import Path

from pydantic import ValidationError

from koboshi_runtime.files import replace_file
from koboshi_runtime.home import Home
from koboshi_tools import KoboshiError, UsageError

from .html import html
from .report import Morning
from .text import markdown


def report_path(home: Home, morning: Morning) -> Path:
    """Return where the report lies for people."""
    return home.reports / f"night-{morning.began_at[:10]}-{morning.night_id}.md"


def write_morning(home: Home, morning: Morning) -> Path:
    """Write the report as JSON, HTML and Markdown, and return the last one's path; written again it is the same."""
    path = report_path(home, morning)
    replace_file(path.with_suffix(".json"), morning.model_dump_json(indent=1).encode() + b"\n")
    replace_file(path.with_suffix(".html"), html(morning).encode())
    replace_file(path, markdown(morning).encode())
    return path


def read_morning(home: Home, night_id: str | None = None) -> tuple[Path, Morning]:
    """Return the report of the night whose id begins so, or of the last one, with its path.

    Raises UsageError if there is none, or several begin so; KoboshiError if it does not parse.
    """
    found = [path for path in home.reports.glob("night-*.json") if path.stem.split("-")[-1].startswith(night_id or "")]
    if not found:
        named = f" {night_id!r}" if night_id else ""
        raise UsageError(f"there is no report of a night{named}", hint="See: koboshi nightly status")
    if night_id and len(found) > 1:
        raise UsageError(f"{night_id!r} begins {len(found)} nights", hint="Give more characters.")
    read = [_read(path) for path in found]
    last = max(read, key=lambda morning: morning.ended_at)
    return report_path(home, last), last


def read_last(home: Home) -> tuple[Path, Morning] | None:
    """Return the last night's report with its path, or None before any night."""
    return read_morning(home) if any(home.reports.glob("night-*.json")) else None


def _read(path: Path) -> Morning:
    try:
        return Morning.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise KoboshiError(f"{path} is no morning report: {error.errors()[0]['msg']}") from error
