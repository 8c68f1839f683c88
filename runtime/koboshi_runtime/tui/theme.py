"""How the screens look: a dark and a light theme, and the styles of words that stand in a text.

No meaning is in a colour alone: an outcome has its sign and its word, an unsure token its underline.
"""

from dataclasses import dataclass

from rich.style import Style
from textual.theme import Theme

DARK, LIGHT = "koboshi-dark", "koboshi-light"

THEMES = (
    Theme(
        name=DARK,
        primary="#e2694f",
        secondary="#7fb4c9",
        accent="#e2694f",
        success="#74c08f",
        warning="#e3b45f",
        error="#ef7d73",
        foreground="#e6e1d8",
        background="#15161a",
        surface="#1b1d22",
        panel="#26292f",
        variables={
            "footer-key-foreground": "#e3b45f",
            "border": "#4a4e57",
            "scrollbar": "#3a3e46",
            "scrollbar-background": "#15161a",
        },
    ),
    Theme(
        name=LIGHT,
        primary="#b23a22",
        secondary="#2b6478",
        accent="#b23a22",
        success="#226b3c",
        warning="#8a5a00",
        error="#b3261e",
        foreground="#24221f",
        background="#f7f4ee",
        surface="#efebe3",
        panel="#e2dcd1",
        dark=False,
        variables={
            "footer-key-foreground": "#8a3a22",
            "border": "#a59c8d",
            "scrollbar": "#c3baab",
            "scrollbar-background": "#f7f4ee",
        },
    ),
)


@dataclass(frozen=True, slots=True)
class Palette:
    """Styles of words in running text, of one theme; `doubt` are those of a token's probability, the surest first."""

    good: Style
    bad: Style
    warn: Style
    quiet: Style
    strong: Style
    name: Style
    added: Style
    removed: Style
    doubt: tuple[Style, Style, Style, Style]
    forced: Style


def _palette(theme: Theme, quiet: str, doubt: tuple[str, str, str], diff: tuple[str, str]) -> Palette:
    return Palette(
        good=Style(color=theme.success),
        bad=Style(color=theme.error),
        warn=Style(color=theme.warning),
        quiet=Style(color=quiet),
        strong=Style(bold=True),
        name=Style(color=theme.secondary),
        added=Style(bgcolor=diff[0]),
        removed=Style(bgcolor=diff[1]),
        doubt=(
            Style(),
            Style(color=doubt[0], italic=True),
            Style(color=doubt[1], underline=True),
            Style(color=doubt[2], underline=True, bold=True, reverse=True),
        ),
        forced=Style(color=quiet),
    )


PALETTES = {
    DARK: _palette(THEMES[0], "#8f9299", ("#e3d08a", "#f0a35e", "#f07a6a"), ("#1f3a2b", "#44262a")),
    LIGHT: _palette(THEMES[1], "#6f6a61", ("#6b5a00", "#a04a00", "#b3261e"), ("#cfe8d5", "#f3d3cf")),
}


def palette_of(theme: str) -> Palette:
    """Return the styles of a theme, the dark one's where it is none of ours."""
    return PALETTES.get(theme, PALETTES[DARK])
