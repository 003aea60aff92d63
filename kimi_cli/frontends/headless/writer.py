"""Standard output that never holds up the turn: a thread writes, the turn goes on."""

from __future__ import annotations

import os
import queue
import select
import threading
from collections.abc import Callable

PIECE = 4096


class Writer:
    """Writes lines to a file descriptor in order, from a thread of its own.

    ``on_error`` is called once, in that thread, when the reader is gone or the disk is full; what
    comes afterwards is dropped.
    """

    def __init__(self, fd: int, on_error: Callable[[OSError], None]) -> None:
        self._fd = fd
        self._on_error = on_error
        self._written = 0
        self._queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="stdout", daemon=True)
        self._thread.start()

    def write(self, text: str) -> None:
        self._queue.put(text.encode("utf-8", "replace"))

    def close(self, timeout: float) -> bool:
        """Wait for everything to be written; whether it was. Gives up when the reader has taken
        nothing for ``timeout`` seconds."""
        self._queue.put(None)
        while True:
            before = self._written
            self._thread.join(timeout)
            if not self._thread.is_alive():
                return True
            if self._written == before:
                return False

    def _run(self) -> None:
        broken = False
        while (data := self._queue.get()) is not None:
            if broken:
                continue
            try:
                view = memoryview(data)
                while view:
                    try:
                        # In pieces: one large write to a slow reader would show no progress.
                        count = os.write(self._fd, view[:PIECE])
                        self._written += count
                        view = view[count:]
                    except BlockingIOError:
                        # Non-blocking for our parent's sake (Node does that), not for ours.
                        select.select([], [self._fd], [])
            except OSError as error:
                broken = True
                self._on_error(error)
