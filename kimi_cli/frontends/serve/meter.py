"""What a server does just now, read again and again."""

from __future__ import annotations

import threading
import time

from kimi_cli.frontends.serve.server_view import Figures, figures
from kimi_cli.serve import client

PAUSE_SECONDS = 2.0


class Meter:
    """Reads a server's figures every two seconds, in a thread: an answer may take its time.
    `latest` is None while there is none."""

    def __init__(self, base_url: str) -> None:
        self.latest: Figures | None = None
        self._base_url = base_url
        self._end = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def stop(self) -> None:
        """Read no more."""
        self._end.set()

    def _read(self) -> None:
        before: dict[str, float] = {}
        at = 0.0
        while not self._end.is_set():
            try:
                after, moment = client.metrics(self._base_url), time.monotonic()
                self.latest = figures(before, after, moment - at)
                before, at = after, moment
            except client.NoAnswer:
                self.latest = None
            self._end.wait(PAUSE_SECONDS)
