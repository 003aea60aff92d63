"""``python -m tests.support.pictures [NAME...]``: pictures of the main screens, from real runs.

Writes docs/pictures/NAME.png. Needs `rsvg-convert` (Debian: librsvg2-bin) and the font DejaVu Sans
Mono (fonts-dejavu-core). For a light background: ``--light``; into another folder: ``--to FOLDER``.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

import pyte
from wcwidth import wcwidth

from tests.support.screens import SCENES, play
from tests.support.server import ScriptedServer

PICTURES = ("turn", "working", "network", "diff", "failed")
FOLDER = Path(__file__).parents[2] / "docs" / "pictures"
CELL = (8.43, 18)
SIZE = 14
MARGIN = 14
DARK = {
    "back": "#1c1e22",
    "default": "#d6d8dc",
    "red": "#e06c6c",
    "green": "#82c07a",
    "brown": "#d8b465",
    "blue": "#6ea4e6",
    "magenta": "#c08ad8",
    "cyan": "#5fc0c6",
}
LIGHT = {
    "back": "#fbfbf9",
    "default": "#24272c",
    "red": "#b3261e",
    "green": "#2d7a2f",
    "brown": "#8a6500",
    "blue": "#1d5fb8",
    "magenta": "#8a2fa3",
    "cyan": "#0f7c83",
}


class Faint(pyte.HistoryScreen):
    """Keeps faint text, which pyte does not know, as blinking, which nothing of ours does."""

    def select_graphic_rendition(self, *attributes: int, **options: Any) -> None:
        super().select_graphic_rendition(*(5 if a == 2 else a for a in attributes), **options)


def svg(screen: pyte.Screen, colours: dict[str, str]) -> str:
    """The rows that hold anything, and the cursor."""
    used = [y for y in range(screen.lines) if "".join(c.data for c in cells(screen, y)).strip()]
    first, last = used[0], max(used[-1], screen.cursor.y)
    width = screen.columns * CELL[0] + 2 * MARGIN
    height = (last - first + 1) * CELL[1] + 2 * MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}">'
        f'<rect width="100%" height="100%" rx="6" fill="{colours["back"]}"/>'
        f'<g font-family="DejaVu Sans Mono, Noto Sans Mono CJK SC" font-size="{SIZE}">'
    ]
    for y in range(first, last + 1):
        for x, cell in enumerate(cells(screen, y)):
            if cell.data.strip():
                out.append(glyph(cell, x, y - first, colours))
    left = MARGIN + screen.cursor.x * CELL[0]
    top = MARGIN + (screen.cursor.y - first) * CELL[1]
    out.append(
        f'<rect x="{left:.1f}" y="{top + 2}" width="2" height="15" fill="{colours["default"]}"/>'
    )
    return "".join(out) + "</g></svg>"


def cells(screen: pyte.Screen, y: int) -> Iterable[pyte.screens.Char]:
    return [screen.buffer[y][x] for x in range(screen.columns)]


def glyph(cell: pyte.screens.Char, x: int, y: int, colours: dict[str, str]) -> str:
    left, top = MARGIN + x * CELL[0], MARGIN + y * CELL[1]
    style = f'fill="{colours.get(cell.fg, colours["default"])}"'
    style += ' font-weight="bold"' * cell.bold + ' fill-opacity="0.6"' * cell.blink
    style += ' font-style="italic"' * cell.italics
    if cell.data == "─":
        return f'<rect x="{left:.1f}" y="{top + 8}" width="{CELL[0]:.1f}" height="1.2" {style}/>'
    wide = wcwidth(cell.data[0]) or 1
    under = ""
    if cell.underscore:
        size = CELL[0] * wide
        under = f'<rect x="{left:.1f}" y="{top + 16}" width="{size:.1f}" height="1" {style}/>'
    return f'<text x="{left:.1f}" y="{top + 13.5}" {style}>{escape(cell.data)}</text>{under}'


def picture(name: str, folder: Path, light: bool) -> Path:
    """Run the scene and write its picture; returns where."""
    env = {"COLORFGBG": "0;15" if light else "15;0"}
    with tempfile.TemporaryDirectory(prefix="kimi-") as place, ScriptedServer() as server:
        terminal = play(name, Path(place), server, env=env)
        screen = redrawn(name, terminal.raw)
        terminal.process.close(force=True)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.png"
    drawn = svg(screen, LIGHT if light else DARK).encode()
    command = ["rsvg-convert", "--zoom", "1", "-o", str(path)]
    subprocess.run(command, input=drawn, check=True)
    return path


def redrawn(name: str, raw: bytes) -> pyte.Screen:
    """The scene's screen with all the styles."""
    scene = SCENES[name]
    screen = Faint(scene.columns, scene.rows, history=1000, ratio=0.0001)
    pyte.ByteStream(screen).feed(raw)
    return screen


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", default=PICTURES)
    parser.add_argument("--light", action="store_true")
    parser.add_argument("--to", type=Path, default=FOLDER)
    options = parser.parse_args()
    for name in options.names:
        print(picture(name, options.to, options.light))


if __name__ == "__main__":
    main()
