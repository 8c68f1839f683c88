"""Write the pictures of the terminal interface: `make shots`. Each is what Textual draws over the sample home, as SVG.

The fonts that Textual's SVG would load from the network are left out: whoever looks at a page loads nothing else.
"""

import asyncio
import re
import tempfile
from pathlib import Path
from typing import NamedTuple

from koboshi_runtime.store import Store
from koboshi_runtime.tui.app import KoboshiApp
from koboshi_runtime.tui.look import Look
from koboshi_runtime.tui.sample import make_sample

IMAGES = Path(__file__).parent / "images"


class Shot(NamedTuple):
    """One picture: its size in cells, and the keys that lead to it from the first screen."""

    size: tuple[int, int]
    keys: str
    light: bool = False


SHOTS = {
    "runs": Shot((160, 40), "down down down"),
    "runs-80x24": Shot((80, 24), ""),
    "runs-light": Shot((120, 30), "o down down enter", light=True),
    "run": Shot((120, 32), "down enter e " + "down " * 6),
    "diff": Shot((120, 24), "down down down d"),
    "queue": Shot((120, 32), "2"),
    "tools": Shot((120, 32), "4 down down down down"),
    "models": Shot((120, 36), "5"),
    "nights": Shot((120, 46), "6"),
    "policy": Shot((100, 24), "7 e s q l escape"),
    "help": Shot((100, 36), "question_mark"),
}


async def take(shot: Shot, look: Look) -> str:
    """Return the picture of one screen as SVG."""
    app = KoboshiApp(look, light=shot.light)
    async with app.run_test(size=shot.size) as pilot:
        await pilot.pause(0.3)
        for key in shot.keys.split():
            await pilot.press(key)
            await pilot.pause(0.2)
        await pilot.pause(0.5)
        drawn = app.export_screenshot(title="koboshi tui --sample")
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)


def main() -> None:
    """Write every picture."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        home = make_sample(Path(folder) / "home")
        for name, shot in SHOTS.items():
            look = Look(home, Store.open(home.traces), sample=True)
            (IMAGES / f"{name}.svg").write_text(asyncio.run(take(shot, look)), encoding="utf-8")
            look.store.close()


if __name__ == "__main__":
    main()
