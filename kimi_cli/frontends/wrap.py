"""Wraps text at words while it streams in."""

from __future__ import annotations

import re

from rich.cells import cell_len

_PIECES = re.compile(r"\n|[^\S\n]+|[^\s]+")


class StreamWrap:
    """Turns pieces of a text into lines of at most ``width`` columns, each with ``indent``, the
    first one with ``first``.

    A word is held back until it is known where it ends; ``end`` gives what is left. A word that
    is wider than a line is left to the terminal.
    """

    def __init__(self, width: int, indent: str, first: str = "") -> None:
        self._width = max(width, 20)
        self._indent = indent
        self._next = first or indent
        self._column = 0
        self._word = ""

    def feed(self, text: str) -> str:
        """What can be printed now that ``text`` has come."""
        pieces = _PIECES.findall(self._word + text)
        self._word = pieces.pop() if pieces and not pieces[-1].isspace() else ""
        return "".join(map(self._place, pieces))

    def end(self) -> str:
        word, self._word = self._word, ""
        return self._place(word) if word else ""

    def _place(self, piece: str) -> str:
        if piece == "\n":
            self._column = 0
            return "\n"
        room = self._width - self._column
        if self._column and cell_len(piece) > room:
            # The blanks at which a line is broken are not carried over.
            self._column = 0
            return "\n" if piece.isspace() else "\n" + self._place(piece)
        start = ""
        if not self._column:
            start, self._next = self._next, self._indent
        self._column += cell_len(start + piece)
        return start + piece
