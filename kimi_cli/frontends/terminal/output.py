"""Writing to the terminal: each update is one write that the terminal shows at once."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import TextIO

from prompt_toolkit.data_structures import Size
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.flush_stdout import flush_stdout
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.utils import get_cwidth

BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
"""Synchronized output (the terminal-wg's spec): a terminal that lacks it ignores them."""


_UNSEEN = "\xad\u061c\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff"
UNSEEN = re.compile(f"[{_UNSEEN}]")
"""Marks of direction, joiners and variation selectors."""
SHORTEN = "\x1b[K"
FIRST_EMOJI = 0x1F000


class OneWriteOutput(Vt100_Output):
    """A terminal that never asks for the cursor's position (the answer can be taken for typed
    keys) and keeps bracketed paste on as long as it is ``attached``, through every redraw."""

    def __init__(self, stdout: TextIO, *, term: str, colour: bool) -> None:
        super().__init__(
            stdout,
            lambda: terminal_size(stdout),
            term=term,
            default_color_depth=None if colour else ColorDepth.DEPTH_1_BIT,
            enable_cpr=False,
        )
        self.clips = True
        """Whether rows that turn out too wide, as the terminal got narrower, are cut or wrapped."""
        self._held = 0
        self._attached = False
        self._draws = False
        self._utf8 = (stdout.encoding or "").lower().replace("-", "") == "utf8"

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """What is written within goes out as one piece at the end."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self.flush()

    def flush(self) -> None:
        if self._held or not self._buffer:
            return
        data = "".join(self._buffer) if self._draws else ""
        self._buffer = []
        self._draws = False
        if not data:
            return
        # A terminal that went away is told by its hang-up, not by each write to it.
        with contextlib.suppress(OSError):
            flush_stdout(self.stdout, f"{BEGIN}{data}{END}")

    def attach(self, modes: str) -> None:
        """Take the terminal: bracketed paste and the given modes on."""
        self._attached = True
        self.write_raw("\x1b[?2004h" + modes)
        self.flush()

    def detach(self, modes: str) -> None:
        """Leave the terminal as it was."""
        self._attached = False
        self.write_raw(modes + "\x1b[?2004l\x1b[?7h\x1b[?25h\x1b[0m")
        self.flush()

    def write(self, data: str) -> None:
        """One cell's text. Where terminals disagree about its width, the cell is emptied first and
        the cursor put behind it by what we count, so that nothing else moves."""
        if data.isascii():
            super().write(data)
            return
        shown = UNSEEN.sub("", data)
        if not self._utf8:
            super().write(self._writable(shown))
            return
        if len(shown) == 1 and ord(shown) < FIRST_EMOJI:
            super().write(shown)
            return
        width = get_cwidth(data)
        if width:
            # Saved twice, as not every terminal keeps what it has restored.
            self.write_raw(f"\x1b7{' ' * width}\x1b8\x1b7")
            super().write(shown)
            self.write_raw(f"\x1b8\x1b[{width}C")

    def _writable(self, text: str) -> str:
        """The text of a cell, or question marks in its place where the encoding lacks it."""
        try:
            text.encode(self.stdout.encoding or "ascii")
        except UnicodeError:
            return "?" * get_cwidth(text)
        return text

    def write_raw(self, data: str) -> None:
        self._draws = True
        super().write_raw(data)

    def erase_down(self) -> None:
        """Empty the screen from here on; the cursor is in the first column. In two steps: tmux
        keeps what stands on a screen that is emptied in one (screen-write.c)."""
        self.write_raw("\x1b[2K\x1b[C\x1b[J\r")

    def erase_end_of_line(self) -> None:
        self.write_raw(SHORTEN)

    def mark(self) -> int:
        """How far the update that is ``held`` is."""
        return len(self._buffer)

    def shortened_since(self, mark: int) -> bool:
        """Whether a row was made shorter since then."""
        return SHORTEN in self._buffer[mark:]

    def drop_since(self, mark: int) -> None:
        """Don't write what came since then."""
        del self._buffer[mark:]

    # An update that changes nothing but these is no update, and is not written.

    def hide_cursor(self) -> None:
        self._buffer.append("\x1b[?25l")

    def show_cursor(self) -> None:
        self._buffer.append("\x1b[?25h")

    def disable_autowrap(self) -> None:
        if self.clips:
            self._buffer.append("\x1b[?7l")

    def enable_autowrap(self) -> None:
        self._buffer.append("\x1b[?7h")

    def reset_attributes(self) -> None:
        self._buffer.append("\x1b[0m")

    def enable_bracketed_paste(self) -> None:
        """On already, from ``attach``."""

    def disable_bracketed_paste(self) -> None:
        """A paste that arrives in the middle of a redraw must not be taken for typing."""


def terminal_size(stdout: TextIO) -> Size:
    """The size in cells; 80 by 24 where the terminal does not say."""
    try:
        found = os.get_terminal_size(stdout.fileno())
    except (OSError, ValueError):
        return Size(rows=24, columns=80)
    # A pseudo-terminal that nobody sized has zeros.
    return Size(rows=found.lines or 24, columns=found.columns or 80)
