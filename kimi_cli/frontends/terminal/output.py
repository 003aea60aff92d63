"""Writing to the terminal: each update is one write that the terminal shows at once."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TextIO

from prompt_toolkit.data_structures import Size
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.flush_stdout import flush_stdout
from prompt_toolkit.output.vt100 import Vt100_Output

BEGIN, END = "\x1b[?2026h", "\x1b[?2026l"
"""Synchronized output (the terminal-wg's spec): a terminal that lacks it ignores them."""


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
        self._held = 0
        self._attached = False

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
        data = "".join(self._buffer)
        self._buffer = []
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
