"""Writes lines to a stream: for good, and on a terminal a few below that are drawn anew."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterable, Mapping
from typing import TextIO

from kimi_cli.frontends.serve.spans import Line, columns_of, cut, painted

WIDEST, UNKNOWN = 100, 80
UP, ERASE_DOWN = "\x1b[{}A", "\x1b[J"
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"


class Pane:
    """Lines on a stream. `live` says whether it is a terminal where lines can be drawn anew, and
    `width` how wide lines may be (None: nothing is broken, it is no terminal)."""

    def __init__(self, stream: TextIO, env: Mapping[str, str]) -> None:
        self._stream = stream
        self._terminal = stream.isatty()
        self.live = self._terminal and env.get("TERM") != "dumb"
        # Any content counts (no-color.org).
        self.colour = self.live and not env.get("NO_COLOR")
        self._utf8 = _is_utf8(stream.encoding)
        self._drawn: list[Line] = []
        self._hidden = False

    @property
    def width(self) -> int | None:
        """The terminal's columns now, as far as they are good to read."""
        return min(self._columns(), WIDEST) if self._terminal else None

    def say(self, lines: Iterable[Line]) -> None:
        """Write lines that stay; what is live goes on below them."""
        self._write(list(lines), self._drawn)

    def draw(self, lines: Iterable[Line]) -> None:
        """Replace the live lines; nothing where there can be none."""
        if self.live:
            columns = self._columns()
            new = [cut(line, columns - 1) for line in lines]
            if new != self._drawn:
                self._write([], new)

    def close(self) -> None:
        """Take the live lines away, and give the cursor back."""
        if self.live and (self._drawn or self._hidden):
            self._write([], [])
            self._put(SHOW)
            self._hidden = False

    def _write(self, lasting: list[Line], live: list[Line]) -> None:
        """One write, so that no half of it is ever seen."""
        text = self._back()
        text += "".join(f"{self._paint(line)}\n" for line in lasting)
        if live and not self._hidden:
            text, self._hidden = HIDE + text, True
        text += "\n".join(map(self._paint, live))
        self._drawn = live
        if text:
            self._put(text)

    def _back(self) -> str:
        """To the start of what is live now, and erase it."""
        if not self._drawn:
            return ""
        columns = self._columns()
        # A terminal that became narrower has wrapped what was there.
        rows = sum(max(-(-columns_of(line) // columns), 1) for line in self._drawn)
        return "\r" + (UP.format(rows - 1) if rows > 1 else "") + ERASE_DOWN

    def _paint(self, line: Line) -> str:
        return painted(line, colour=self.colour, utf8=self._utf8)

    def _columns(self) -> int:
        try:
            return os.get_terminal_size(self._stream.fileno()).columns or UNKNOWN
        except (OSError, ValueError):
            return UNKNOWN

    def _put(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _is_utf8(encoding: str | None) -> bool:
    try:
        return codecs.lookup(encoding or "").name == "utf-8"
    except LookupError:
        return False
