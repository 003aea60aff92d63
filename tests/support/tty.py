"""The interactive `kimi` in a pseudo-terminal, with a screen that can be read."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import pexpect
import pyte

from tests.support.program import PROGRAM, Kimi
from tests.support.server import ScriptedServer

DEADLINE = 30.0
KEYS = {
    "enter": "\r",
    "esc": "\x1b",
    "up": "\x1b[A",
    "down": "\x1b[B",
    "left": "\x1b[D",
    "tab": "\t",
    "shift-tab": "\x1b[Z",
    "alt-enter": "\x1b\r",
    "backspace": "\x7f",
    **{f"ctrl-{letter}": chr(ord(letter) - 96) for letter in "abcdefghijklmnopqrstuvwxyz"},
}
BEGIN, END = b"\x1b[?2026h", b"\x1b[?2026l"
"""Synchronized output: what is between them is one update."""


def updates(data: bytes) -> tuple[bytes, bytes]:
    """The output up to the last update that has not ended, and the rest."""
    begin = data.rfind(BEGIN)
    if begin > data.rfind(END):
        return data[:begin], data[begin:]
    for length in range(len(BEGIN) - 1, 0, -1):
        if data.endswith(BEGIN[:length]):
            return data[:-length], data[-length:]
    return data, b""


class Tty:
    """`kimi` as a person has it: keys go in, the screen and the scrollback can be looked at."""

    def __init__(
        self,
        kimi: Kimi,
        *args: str,
        server: ScriptedServer | None = None,
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
    ) -> None:
        # The screen that pyte keeps does not wrap lines anew on a resize, as the console's.
        environment = {**kimi.environment(server), "TERM": "linux", **(env or {})}
        self._lock = threading.Lock()
        self._screen = pyte.HistoryScreen(columns, rows, history=100_000, ratio=0.0001)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        self.process = pexpect.spawn(
            str(PROGRAM),
            list(args),
            env=environment,
            cwd=str(kimi.cwd),
            dimensions=(rows, columns),
            timeout=None,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.close(force=True)

    def _read(self) -> None:
        waiting = b""
        while True:
            try:
                data = os.read(self.process.child_fd, 65_536)
            except OSError:
                data = b""
            with self._lock:
                self.raw += data
                # As a terminal with synchronized output: an update is seen whole or not at all.
                whole, waiting = updates(waiting + data) if data else (waiting, b"")
                self._stream.feed(whole)
            if not data:
                return

    @property
    def lines(self) -> list[str]:
        """The rows of the screen, without blanks at their ends."""
        with self._lock:
            return [row.rstrip() for row in self._screen.display]

    @property
    def cursor(self) -> tuple[int, int]:
        """Column and row of the cursor."""
        with self._lock:
            return self._screen.cursor.x, self._screen.cursor.y

    @property
    def scrollback(self) -> list[str]:
        """The rows that have left the screen at the top, then those on it."""
        with self._lock:
            gone = ["".join(row[x].data for x in range(self._screen.columns)).rstrip()
                    for row in self._screen.history.top]  # fmt: skip
            return gone + [row.rstrip() for row in self._screen.display]

    @property
    def text(self) -> str:
        """All that was ever on the screen and still is in the scrollback."""
        return "\n".join(self.scrollback)

    @property
    def shown(self) -> str:
        """What is on the screen now."""
        return "\n".join(self.lines)

    def type(self, text: str) -> None:
        os.write(self.process.child_fd, text.encode())

    def press(self, *keys: str) -> None:
        """Press keys by name, or single characters."""
        for key in keys:
            self.type(KEYS.get(key, key))

    def paste(self, text: str) -> None:
        """Paste as a terminal does that marks pastes."""
        self.type(f"\x1b[200~{text}\x1b[201~")

    def submit(self, text: str) -> None:
        """Type a line and press Enter."""
        self.type(text)
        self.wait(text[-20:])
        self.press("enter")

    def wait(self, words: str, deadline: float = DEADLINE) -> None:
        """Wait until the words stand on the screen or in the scrollback."""
        self.until(lambda: words in self.text, f"no {words!r}", deadline)

    def wait_shown(self, words: str, deadline: float = DEADLINE) -> None:
        """Wait until the words stand on the screen itself."""
        self.until(lambda: words in self.shown, f"no {words!r} on the screen", deadline)

    def wait_gone(self, words: str, deadline: float = DEADLINE) -> None:
        self.until(lambda: words not in self.shown, f"{words!r} stays", deadline)

    def until(self, holds: Callable[[], bool], problem: str, deadline: float = DEADLINE) -> None:
        end = time.monotonic() + deadline
        while not holds():
            if time.monotonic() > end or not self._reader.is_alive():
                if holds():
                    return
                alive = self.process.isalive()
                raise AssertionError(f"{problem} (running: {alive}); the screen:\n{self.text}")
            time.sleep(0.01)

    def answer(self, question: str, digit: str) -> None:
        """Answer a question in the live region, as soon as a digit counts: one that comes with the
        question is not taken for an answer."""
        self.wait_shown(question)

        def gone() -> bool:
            if question in self.shown:
                self.press(digit)
                self.nap()
            return question not in self.shown

        self.until(gone, f"{digit} is not taken as the answer")

    def nap(self) -> None:
        """Leave the program a moment, between two tries."""
        time.sleep(0.1)

    def resize(self, columns: int, rows: int) -> None:
        with self._lock:
            self._screen.resize(rows, columns)
        self.process.setwinsize(rows, columns)

    def hang_up(self) -> None:
        """The terminal goes away."""
        self.process.close(force=False)

    def kill(self, number: signal.Signals) -> None:
        self.process.kill(number)

    def end(self, deadline: float = DEADLINE) -> int:
        """Wait for the program to end; its exit code, or minus the signal."""
        self._reader.join(deadline)
        assert not self._reader.is_alive(), f"it does not end; the screen:\n{self.text}"
        self.process.wait()
        status: int | None = self.process.exitstatus
        return status if status is not None else -int(self.process.signalstatus or 0)


def modes_left_on(raw: bytes) -> list[str]:
    """The private modes of the terminal that were switched on last and never off again."""
    last: dict[bytes, bytes] = {}
    for modes, switch in re.findall(rb"\x1b\[\?([0-9;]+)([hl])", raw):
        for mode in modes.split(b";"):
            last[mode] = switch
    # Autowrap and the cursor are on by themselves.
    return [mode.decode() for mode, switch in last.items()
            if (switch == b"h") != (mode in (b"7", b"25"))]  # fmt: skip
