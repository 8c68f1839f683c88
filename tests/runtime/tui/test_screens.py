"""Every screen over the sample home, at both sizes, line by line as it is stored in `tests/golden/tui`.

To write the files anew, on purpose: `python -m tests.runtime.tui.test_screens`. Look at the difference before a commit.
"""

import re
import tempfile
from pathlib import Path

import pytest
from tests.runtime.tui.driving import Driven, drive

from koboshi_runtime.store import Store
from koboshi_runtime.tui.look import Look
from koboshi_runtime.tui.sample import make_sample

GOLDEN = Path(__file__).parents[2] / "golden" / "tui"
SIZES = ((80, 24), (160, 50))

WALK: dict[str, tuple[str, ...]] = {
    "runs": (),
    "run": ("down", "down", "down", "enter", "e", *("down",) * 6),
    "call": ("down", "down"),
    "diff": ("escape", "d"),
    "help": ("escape", "question_mark"),
    "queue": ("escape", "2"),
    "approvals": ("3",),
    "tools": ("4",),
    "models": ("5",),
    "nights": ("6",),
    "policy": ("7", "e", *"sql", "escape"),
}
"""By screen, the keys that lead to it from the one before."""


def screens(home: Path, size: tuple[int, int]) -> dict[str, str]:
    """Return the lines of every screen; the times of the open questions, which are always new, as dashes."""
    found: dict[str, str] = {}

    async def walk(driven: Driven) -> None:
        for name, keys in WALK.items():
            await driven.press(*keys)
            await driven.settle()
            text = driven.text() + "\n"
            found[name] = re.sub(r"\d\d-\d\d \d\d:\d\d", "--:-- --:--", text) if name == "approvals" else text

    made = make_sample(home)
    drive(home, walk, size=size, look=Look(made, Store.open(made.traces), sample=True))
    return found


@pytest.mark.parametrize("size", [SIZES[0], pytest.param(SIZES[1], marks=pytest.mark.slow)], ids=str)
def test_every_screen_is_the_golden_one(tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    # The rules of whoever runs the tests are not the sample's.
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    for name, text in screens(tmp_path / "home", size).items():
        assert text == (GOLDEN / f"{name}-{size[0]}x{size[1]}.txt").read_text(encoding="utf-8"), name


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for width, height in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            for name, text in screens(Path(folder) / "home", (width, height)).items():
                (GOLDEN / f"{name}-{width}x{height}.txt").write_text(text, encoding="utf-8")
