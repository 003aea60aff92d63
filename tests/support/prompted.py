"""A few lines of Python on a terminal, for what has no command of its own."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import pexpect
import pyte

from tests.support.tty import Tty


class Prompted(Tty):
    """A script in this interpreter, on a terminal of its own."""

    def __init__(
        self,
        script: str,
        folder: Path,
        *,
        columns: int = 80,
        rows: int = 24,
        env: Mapping[str, str] | None = None,
    ) -> None:
        environment = {
            "PATH": os.environ.get("PATH", os.defpath),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "TERM": "xterm-256color",
            **(env or {}),
        }
        self._lock = threading.Lock()
        self._screen = pyte.HistoryScreen(columns, rows, history=1000, ratio=0.001)
        self._stream = pyte.ByteStream(self._screen)
        self.raw = b""
        self.process = pexpect.spawn(
            sys.executable,
            ["-c", script],
            env=environment,
            cwd=str(folder),
            dimensions=(rows, columns),
            timeout=None,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
