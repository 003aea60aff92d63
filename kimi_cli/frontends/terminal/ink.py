"""Lines of our own for the live region: plain pieces with a style, fitted to a width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from kimi_cli.frontends.plain import fit
from kimi_cli.frontends.terminal.look import Look

Style = Literal["", "dim", "bold", "accent", "warn", "good", "bad", "mark"]
RESET = "\x1b[0m"
_ASCII = str.maketrans("·…─│↑↓⏎›●✻█░", "-.-|^v/>*~#.")
"""What our own words use beyond ASCII, for terminals without UTF-8; one character each, so that
widths stay."""
_CODES = {
    "cyan": "36",
    "blue": "34",
    "yellow": "33",
    "magenta": "35",
    "green": "32",
    "red": "31",
    "bold": "1",
    "dim": "2",
    "mark": "4",
}


class Ink:
    """Styles as escape sequences of a look; ``Ink(look)("text", "dim")``."""

    def __init__(self, look: Look) -> None:
        self.look = look
        self._utf8 = look.dot == "·"

    def __call__(self, text: str, style: Style = "") -> str:
        if not self._utf8:
            text = text.translate(_ASCII)
        code = _CODES.get(self._name(style), "")
        return f"\x1b[{code}m{text}{RESET}" if code and text else text

    def line(self, pieces: Sequence[tuple[str, Style]], width: int) -> str:
        """The pieces one after the other, cut where the line is full."""
        out, left = "", width
        for text, style in pieces:
            shown = fit(text, left)
            out += self(shown, style)
            left -= cells(shown)
            if left <= 0 or shown != text:
                break
        return out

    def _name(self, style: Style) -> str:
        look = self.look
        named = {"accent": look.accent, "warn": look.warn, "good": look.good, "bad": look.bad}
        return named.get(style, style)


def cells(text: str) -> int:
    """How many columns the text takes."""
    from rich.cells import cell_len

    return cell_len(text)


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most ``width`` columns, broken anywhere; its own line ends stay."""
    from rich.cells import chop_cells

    lines: list[str] = []
    for line in text.split("\n"):
        lines += chop_cells(line, max(width, 2)) if line else [""]
    return lines
