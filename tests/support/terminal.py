"""The program on a pseudo-terminal, as a person has it."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import termios
import threading
import time

from tests.support.program import PROGRAM, Kimi
from tests.support.server import ScriptedServer


class Terminal:
    """The program on a terminal: stdin, stderr and, unless told otherwise, stdout."""

    def __init__(
        self,
        kimi: Kimi,
        *args: str,
        server: ScriptedServer | None = None,
        columns: int = 80,
        stdout: bool = True,
    ) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self._process = subprocess.Popen(
            [str(PROGRAM), *args],
            stdin=slave,
            stdout=slave if stdout else subprocess.DEVNULL,
            stderr=slave,
            env=kimi.environment(server),
            cwd=kimi.cwd,
            start_new_session=True,
        )
        os.close(slave)
        self._read = b""
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        try:
            while data := os.read(self._master, 65_536):
                self._read += data
        except OSError:  # how Linux says that nobody has the other end open
            return

    @property
    def screen(self) -> str:
        return self._read.decode(errors="replace").replace("\r\n", "\n")

    def until(self, words: str, deadline: float = 30.0) -> None:
        """Wait until the words stand on the screen."""
        end = time.monotonic() + deadline
        while words not in self.screen:
            if self._process.poll() is not None or time.monotonic() > end:
                self._process.kill()
                raise AssertionError(f"no {words!r} on the screen:\n{self.screen}")
            time.sleep(0.01)

    def type(self, words: str) -> None:
        os.write(self._master, words.encode())

    def end(self) -> int:
        code = self._process.wait(60)
        self._thread.join(5)
        os.close(self._master)
        return code
