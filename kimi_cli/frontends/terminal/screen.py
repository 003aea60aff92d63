"""The scrollback and the live region below it: what is finished is printed once, above."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from prompt_toolkit.application import Application, in_terminal
from prompt_toolkit.data_structures import Point, Size
from prompt_toolkit.layout.screen import Screen as Cells

from kimi_cli.frontends.terminal.output import OneWriteOutput

if TYPE_CHECKING:
    from prompt_toolkit.renderer import Renderer


SETTLING = 0.5
"""Seconds without another resize after which the whole live region is drawn again. tmux tells of
further ones a quarter of a second late (RESIZE_TIMER in its source)."""

Reflow = Literal["no", "text", "cells"]
Drawn = tuple[Cells | None, Point]
"""What stands in the live region and where in it the cursor is."""


class LiveApplication(Application[Any]):
    """An application that draws only the live region, and knows what a resize does to it.

    A window that is dragged changes its size many times, and a program hears of each too late: what
    it draws meanwhile is for a size that is no more, and lands somewhere else. So from the first
    change on only the prompt's sign is on the screen, which no terminal wraps, and what is finished
    waits; a moment after the last change all comes back."""

    def __init__(
        self,
        *,
        output: OneWriteOutput,
        reflows: Reflow,
        modes: tuple[str, str],
        sign: str = "",
        **options: Any,
    ) -> None:
        """``reflows``: how the terminal wraps the lines on it when it gets narrower. ``modes``
        switch what we need of it on and off. ``sign`` is what stands before the input."""
        super().__init__(output=output, full_screen=False, erase_when_done=True, **options)
        self.sync = output
        self._reflows = reflows
        # What is on its way to the terminal while it gets narrower comes to lie as if it had been
        # there before, and is found again. Where widths are less certain, no row may ever wrap.
        output.clips = reflows != "cells"
        self._drawn_at: Size | None = None
        self._modes_on, self._modes_off = modes
        self._sign = sign
        self._waiting: list[str] = []
        self._lent = False
        self._settling: asyncio.TimerHandle | None = None

    async def run_attached(self) -> int:
        """Run until the end; the result is the exit code. The terminal is left as it was."""
        self.sync.attach(self._modes_on)
        try:
            return int(await self.run_async(handle_sigint=False, set_exception_handler=False) or 0)
        finally:
            self._settle()
            self.sync.detach(self._modes_off)

    def print_above(self, lines: Sequence[str]) -> None:
        """Print finished lines (ANSI, none wider than the terminal) above the live region."""
        if not lines:
            return
        if self._resized():
            self._shrink()
        if self._settling or self._lent:
            self._waiting += lines
            return
        with self.sync.held():
            if self._drawing:
                self._forget()
            self._write(lines)
            self._redraw()

    @contextlib.asynccontextmanager
    async def lent(self) -> AsyncIterator[None]:
        """Leave the terminal to another program; the live region comes back after."""
        self._settle()
        async with in_terminal():
            self.sync.detach(self._modes_off)
            self._lent = True
            try:
                yield
            finally:
                self._lent = False
                self.sync.attach(self._modes_on)
                waiting, self._waiting = self._waiting, []
                self._write(waiting)

    async def suspend(self) -> None:
        """Stop like any program that gets Ctrl-Z, until the shell lets it go on."""
        async with self.lent():
            os.kill(0, signal.SIGTSTP)

    def redraw_now(self) -> None:
        """Draw the live region anew from its first line, at its smallest height."""
        if self._settling:
            return
        with self.sync.held():
            self._forget()
            self._redraw()

    @property
    def _drawing(self) -> bool:
        """Whether the live region is ours to draw."""
        return self._is_running and not self._running_in_terminal

    def _redraw(self, render_as_done: bool = False) -> None:
        if render_as_done:
            self._settle(redraw=False)
        elif self._resized():
            # A redraw may come before the signal that tells of the new size.
            self._shrink()
        if self._settling:
            return
        with self.sync.held():
            before = _drawn(self.renderer)
            written = self.sync.mark()
            super()._redraw(render_as_done)
            if self._reflows == "cells" and self.sync.shortened_since(written):
                # tmux wraps a row by what has ever stood in it, blanks or not, until it is emptied
                # whole (cellused in its grid.c): all are, so that we know their lengths.
                self.sync.drop_since(written)
                self._forget(before)
                super()._redraw(render_as_done)
            self._drawn_at = self.sync.get_size()

    def _on_resize(self) -> None:
        # Also where the size is the one drawn for: a redraw may have seen it first.
        if self._drawing:
            self._shrink()

    def _resized(self) -> bool:
        return self._drawing and self._drawn_at not in (None, self.sync.get_size())

    def _shrink(self) -> None:
        """The size has changed: leave the prompt's sign alone on the screen for now."""
        with self.sync.held():
            self._forget()
            self.sync.write_raw(self._sign)
            self.sync.show_cursor()
        if self._settling:
            self._settling.cancel()
        self._drawn_at = self.sync.get_size()
        self._settling = asyncio.get_running_loop().call_later(SETTLING, self._settle)

    def _settle(self, redraw: bool = True) -> None:
        """The size stays: print what has waited, and draw the live region."""
        if not self._settling:
            return
        self._settling.cancel()
        self._settling = None
        lines, self._waiting = self._waiting, []
        with self.sync.held():
            self._forget()
            self._write(lines)
            if redraw:
                self._redraw()

    def _write(self, lines: Sequence[str]) -> None:
        self.sync.write_raw("".join(f"{line}\r\n" for line in lines))

    def _forget(self, drawn: Drawn | None = None) -> None:
        """Erase the live region as it was ``drawn`` last and as large as the terminal made it,
        leaving the cursor where it began."""
        size, renderer = self.sync.get_size(), self.renderer
        cells, cursor = drawn or _drawn(renderer)
        up = cursor.y
        narrower = self._drawn_at is not None and size.columns < self._drawn_at.columns
        if cells is not None and narrower and self._reflows != "no":
            up = rows_above(cells, cursor, size.columns)
        self.sync.write_raw("\r")
        # What a terminal has pushed out at its top, because the region got taller than it, is out
        # of reach: better a piece of it above than a line of the session erased.
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


def reflows(env: Mapping[str, str]) -> Reflow:
    """What the terminal wraps anew when it gets narrower: nearly all do it with the text on a line,
    tmux with all cells ever used; xterm, GNU screen and the Linux console do nothing.

    One of which nothing is known counts as wrapping. Where that is wrong, its next lines above the
    live region are lost; the other way about, all the others would keep copies of rows there.
    """
    term = env.get("TERM", "")
    if "XTERM_VERSION" in env or "STY" in env or term in ("linux", "vt100", "vt220", "dumb"):
        return "no"
    return "cells" if term.startswith(("tmux", "screen")) or "TMUX" in env else "text"


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


def _drawn(renderer: Renderer) -> Drawn:
    # The library keeps the cursor to itself; without it nothing can be printed above in one write.
    cursor: Point = renderer._cursor_pos
    return renderer.last_rendered_screen, cursor
