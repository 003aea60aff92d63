"""What a stored session is opened with is written only when something follows."""

from __future__ import annotations

from pathlib import Path

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Instructions,
    ModeChanged,
    ModelChanged,
    Repair,
    SessionResumed,
)
from kimi_cli.store.log import Log

OPENING = SessionResumed | ModelChanged | ModeChanged | Instructions | Repair
"""None of them does anything by itself, and the next process says them again."""


class OpeningLog:
    """A log that keeps events of an opening back until another one comes: a session that was only
    looked at is not changed, and does not become the project's last."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._begun = False
        self._waiting: list[Event] = []

    @property
    def id(self) -> str:
        return self._log.id

    @property
    def path(self) -> Path:
        return self._log.path

    @property
    def outputs(self) -> Path:
        return self._log.outputs

    @property
    def blobs(self) -> Path:
        return self._log.blobs

    def append(self, event: Event) -> None:
        """Write what waits and then the event, or let it wait as well. Raises StoreError, and then
        nothing of the event is in the file; what waits is tried again with the next one."""
        if not self._begun and isinstance(event, OPENING):
            self._waiting.append(event)
            return
        self._begun = True
        while self._waiting:
            self._log.append(self._waiting[0])
            del self._waiting[0]
        self._log.append(event)

    async def sync(self) -> None:
        await self._log.sync()

    def close(self) -> None:
        self._log.close()

    def discard(self) -> None:
        self._log.discard()
