"""The one piece of work that a session does at a time, and how it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from kimi_cli.protocol.stops import StopReason

T = TypeVar("T")


class Attended:
    """``stopped`` is why the work was interrupted, None when it was not."""

    def __init__(self) -> None:
        self.stopped: StopReason | None = None
        self._task: asyncio.Task[Any] | None = None
        self._early: StopReason | None = None
        self._begun = False

    @property
    def busy(self) -> bool:
        return self._task is not None and not self._task.done()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work that an interrupt may cancel. When we are cancelled ourselves, it ends
        before we do."""
        self.stopped, self._early = self._early, None
        self._begun = False
        task = self._task = asyncio.create_task(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            raise
        finally:
            self._task = None

    def begin(self) -> None:
        """The work can be cancelled from here: a task that is cancelled before its first line
        never runs a handler."""
        self._begun = True

    def check(self) -> None:
        """Raise CancelledError when the interrupt came before the work could be cancelled."""
        if self.stopped:
            raise asyncio.CancelledError

    def end(self) -> None:
        """What follows must not be cancelled any more."""
        self._begun = False

    def stop(self, reason: StopReason) -> None:
        """Interrupt the work; nothing happens when there is none."""
        if self.busy and self.stopped is None:
            self.stopped = reason
            if self._begun and self._task:
                self._task.cancel()

    def stop_next(self, reason: StopReason) -> None:
        """Interrupt the next work as soon as it has begun."""
        self._early = reason
