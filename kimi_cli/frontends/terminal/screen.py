"""The scrollback and the live region below it: what is finished is printed once, above."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prompt_toolkit.application import Application, in_terminal
from prompt_toolkit.data_structures import Point, Size
from prompt_toolkit.layout.screen import Screen as Cells

from kimi_cli.frontends.terminal.output import OneWriteOutput

if TYPE_CHECKING:
    from prompt_toolkit.renderer import Renderer


class LiveApplication(Application[Any]):
    """An application that draws only the live region, and knows what a resize does to it."""

    def __init__(
        self, *, output: OneWriteOutput, reflows: bool, modes: tuple[str, str], **options: Any
    ) -> None:
        """``reflows``: the terminal wraps the lines on it anew when it gets narrower. ``modes``
        switch what we need of it on and off."""
        super().__init__(output=output, full_screen=False, erase_when_done=True, **options)
        self.sync = output
        self._reflows = reflows
        self._drawn_at: Size | None = None
        self._modes_on, self._modes_off = modes

    async def run_attached(self) -> int:
        """Run until the end; the result is the exit code. The terminal is left as it was."""
        self.sync.attach(self._modes_on)
        try:
            return int(await self.run_async(handle_sigint=False, set_exception_handler=False) or 0)
        finally:
            self.sync.detach(self._modes_off)

    def print_above(self, lines: Sequence[str]) -> None:
        """Print finished lines (ANSI, none wider than the terminal) above the live region."""
        if not lines:
            return
        with self.sync.held():
            if self._is_running and not self._running_in_terminal:
                self._forget()
            self.sync.write_raw("".join(f"{line}\r\n" for line in lines))
            self._redraw()

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Leave the terminal to another program; the live region comes back after."""
        async with in_terminal():
            self.sync.detach(self._modes_off)
            try:
                yield
            finally:
                self.sync.attach(self._modes_on)

    async def suspend(self) -> None:
        """Stop like any program that gets Ctrl-Z, until the shell lets it go on."""
        async with self.lent():
            os.kill(0, signal.SIGTSTP)

    def redraw_now(self) -> None:
        """Draw the live region anew from its first line, at its smallest height."""
        with self.sync.held():
            self._forget()
            self._redraw()

    def _redraw(self, render_as_done: bool = False) -> None:
        with self.sync.held():
            # A redraw may come before the signal that tells of the new size.
            if self._drawn_at not in (None, self.sync.get_size()):
                self._forget()
            super()._redraw(render_as_done)
            self._drawn_at = self.sync.get_size()

    def _on_resize(self) -> None:
        self.redraw_now()

    def _forget(self) -> None:
        """Erase the live region, as large as the terminal made it, leaving the cursor where it
        began."""
        size, renderer = self.sync.get_size(), self.renderer
        cells, cursor = renderer.last_rendered_screen, _cursor(renderer)
        up = cursor.y
        narrower = self._drawn_at is not None and size.columns < self._drawn_at.columns
        if cells is not None and narrower and self._reflows:
            up = rows_above(cells, cursor, size.columns)
        self.sync.write_raw("\r")
        self.sync.cursor_up(min(up, size.rows - 1))
        self.sync.erase_down()
        self.sync.reset_attributes()
        self.sync.enable_autowrap()
        renderer.reset()
        self._drawn_at = None


def rows_above(cells: Cells, cursor: Point, columns: int) -> int:
    """How many rows lie between the first one of ``cells`` and the cursor once a terminal has
    wrapped them to ``columns``."""
    above = sum(_wrapped(cells, y, columns) for y in range(cursor.y))
    return above + cursor.x // columns


def reflows(env: Mapping[str, str]) -> bool:
    """Whether the terminal wraps lines anew on a resize: nearly all do, but not xterm and the
    Linux console."""
    term = env.get("TERM", "")
    return "XTERM_VERSION" not in env and term not in ("linux", "vt100", "vt220", "dumb")


def _wrapped(cells: Cells, y: int, columns: int) -> int:
    row = cells.data_buffer[y]
    last = max((x for x, cell in row.items() if cell.char.strip()), default=-1)
    rows, used, x = 1, 0, 0
    while x <= last:
        width = row[x].width or 1
        if used + width > columns:
            rows, used = rows + 1, 0
        used += width
        x += width
    return rows


def _cursor(renderer: Renderer) -> Point:
    # The library keeps it to itself; without it nothing can be printed above in one write.
    where: Point = renderer._cursor_pos
    return where
