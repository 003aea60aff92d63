"""How things look on this terminal: glyphs and colours, as far as it has them."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Theme = Literal["dark", "light", "none"]
ThemeChoice = Literal["auto", "dark", "light", "none"]


@dataclass(frozen=True, slots=True)
class Look:
    """Glyphs of blocks and the colours there are.

    ``theme`` "none" means no colour at all: bold, dim and underline stay. Colours are the sixteen
    of the terminal's own palette, so that they suit its background.
    """

    theme: Theme = "dark"
    user: str = "›"
    tool: str = "●"
    think: str = "✻"
    needs: str = "!"
    ellipsis: str = "…"
    dot: str = "·"
    rule: str = "─"
    full: str = "█"
    empty: str = "░"

    @property
    def colour(self) -> bool:
        return self.theme != "none"

    @property
    def accent(self) -> str:
        """The rich style of what is live."""
        return {"dark": "cyan", "light": "blue", "none": "bold"}[self.theme]

    @property
    def warn(self) -> str:
        """The rich style of what needs the user."""
        return {"dark": "yellow", "light": "magenta", "none": "bold"}[self.theme]

    @property
    def good(self) -> str:
        return "green" if self.colour else ""

    @property
    def bad(self) -> str:
        return "red" if self.colour else "bold"

    @property
    def code_theme(self) -> str:
        """The name of a pygments theme that uses the terminal's palette; rich knows it."""
        return {"dark": "ansi_dark", "light": "ansi_light", "none": ""}[self.theme]


PLAIN_GLYPHS = {
    "user": ">",
    "tool": "*",
    "think": "~",
    "needs": "!",
    "ellipsis": "...",
    "dot": "-",
    "rule": "-",
    "full": "#",
    "empty": ".",
}


def find_look(env: Mapping[str, str], encoding: str | None, choice: ThemeChoice = "auto") -> Look:
    """The look for a terminal with this environment and ``encoding`` of its output.

    NO_COLOR (no-color.org) with any content, and TERM=dumb, mean no colour; COLORFGBG, where the
    terminal sets it, tells a light background."""
    theme: Theme = choice if choice != "auto" else _background(env)
    if env.get("NO_COLOR") or env.get("TERM") == "dumb":
        theme = "none"
    if _is_utf8(encoding):
        return Look(theme)
    return Look(theme, **PLAIN_GLYPHS)


def _background(env: Mapping[str, str]) -> Theme:
    last = env.get("COLORFGBG", "").rpartition(";")[2]
    # Colours 7 and 9 to 15 of the palette are the bright ones (rxvt's convention).
    return "light" if last.isdigit() and int(last) in (7, *range(9, 16)) else "dark"


def _is_utf8(encoding: str | None) -> bool:
    try:
        return codecs.lookup(encoding or "").name == "utf-8"
    except LookupError:
        return False
