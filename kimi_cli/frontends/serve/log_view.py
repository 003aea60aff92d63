"""The log of a server, line by line from its end on."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from kimi_cli.frontends.plain import clean
from kimi_cli.serve import state
from kimi_cli.serve.state import Server

BLOCK = 1 << 16
POLL_SECONDS = 0.1
LOCK_SECONDS = 0.5


class Tail:
    """Reads a file that grows. Raises OSError."""

    def __init__(self, path: Path) -> None:
        # Held open: when the server is started anew, the file gets another name.
        self._file = path.open("rb")
        self._part = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def last(self, count: int) -> list[str]:
        """The last `count` whole lines as a terminal would show them; `more` goes on from there."""
        at = end = self._file.seek(0, 2)
        found = b""
        # One more: the first one found may be cut.
        while at and found.count(b"\n") <= count:
            step = min(BLOCK, at)
            at = self._file.seek(at - step)
            found = self._file.read(step) + found
        self._file.seek(end)
        *whole, self._part = found.split(b"\n")
        return [shown(line) for line in whole[-count:]] if count else []

    def more(self) -> list[str]:
        """The whole lines that have come since."""
        if os.fstat(self._file.fileno()).st_size < self._file.tell():
            # It had become too long, and begins anew.
            self._file.seek(0)
            self._part = b""
        *whole, self._part = (self._part + self._file.read()).split(b"\n")
        return [shown(line) for line in whole]

    @property
    def unfinished(self) -> str:
        """What a terminal would show of the line that has no end yet, such as a progress bar."""
        return shown(self._part)

    def rest(self) -> list[str]:
        """The line that has no end, if there is one."""
        part, self._part = self._part, b""
        return [shown(part)] if part.strip() else []


def shown(line: bytes) -> str:
    """What a terminal would show of a line in the end, as text: of a bar its last state, and
    nothing that it would obey."""
    text = line.decode("utf-8", "replace")
    states = [state for state in text.split("\r") if state.strip()]
    return clean(states[-1]) if states else ""


def follow(server: Server, tail: Tail) -> Iterator[list[str]]:
    """The further lines at each moment, also where there are none, until the server has ended."""
    alive, next_look = True, 0.0
    while True:
        lines = tail.more()
        if not lines and not alive:
            yield tail.rest()
            return
        yield lines
        if not lines:
            time.sleep(POLL_SECONDS)
        if time.monotonic() >= next_look:
            found = state.look(server.folder)
            # Under the same name another one may run by now.
            alive = bool(found and found.alive and found.state.id == server.state.id)
            next_look = time.monotonic() + LOCK_SECONDS
