"""The session behind the screen: opened while the user types already, then turn after turn."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import TurnEnded, TurnStarted
from kimi_cli.protocol.operations import Say
from kimi_cli.protocol.stops import StopReason

if TYPE_CHECKING:
    from kimi_cli.agent import Opened, Session


class Front(Protocol):
    """What the work tells the screen."""

    def heard(self, event: Event) -> None:
        """An event of the session, as it comes."""
        ...

    def opened(self, opened: Opened) -> None:
        """A session is there."""
        ...

    def came_back(self, texts: list[str]) -> None:
        """Messages that will not be sent by themselves: the user decides about them."""
        ...

    def stops_itself(self) -> bool:
        """Whether what runs is the user's own command, which an interrupt ends."""
        ...

    def job_done(self) -> None:
        """Nothing runs any more, or the next thing is about to."""
        ...

    def failed(self, problem: Exception) -> None:
        """Something that the user asked for could not be done."""
        ...


Job = Callable[["Session"], Awaitable[None]]
Meaning = Callable[[str], Awaitable[Say | Job]]


class Work:
    """Does one thing at a time, in the order it was asked for. ``queue`` holds what the user
    typed and is not sent yet; ``meaning`` makes a message or a job of it."""

    def __init__(self, front: Front, queue: list[str], meaning: Meaning) -> None:
        self._front = front
        self._queue = queue
        self._meaning = meaning
        self._jobs: list[Job] = []
        self._wake = asyncio.Event()
        self.opened: Opened | None = None
        self._job: asyncio.Task[None] | None = None
        self._told_end = False

    @property
    def session(self) -> Session | None:
        return self.opened.session if self.opened else None

    @property
    def busy(self) -> bool:
        """Whether a turn, a compaction or another job runs."""
        return self._job is not None

    def wake(self) -> None:
        """Something was put into the queue."""
        self._wake.set()

    def do(self, job: Job) -> None:
        """Carry out ``job`` once nothing else runs, before any queued message."""
        self._jobs.append(job)
        self._wake.set()

    async def take(self, opened: Opened) -> None:
        """Go on with this session; the former one is closed."""
        if self.session:
            await self.session.close()
        self.opened = opened
        opened.session.subscribe(self._heard)
        self._front.opened(opened)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self.session and (self._jobs or self._queue):
                self._told_end = False
                self._job = asyncio.create_task(self._safely(self._next()))
                try:
                    await asyncio.shield(self._job)
                finally:
                    if self._job.done():
                        self._job = None
                        self._front.job_done()

    def interrupt(self) -> bool:
        """Stop what runs; False when nothing does, or the user has read already that it ended."""
        if not self.busy or self._told_end or not self.session:
            return False
        busy = self.session.busy
        # Also the user's own command, which then tells how far it came.
        self.session.interrupt()
        if not busy and self._job and not self._front.stops_itself():
            self._job.cancel()
        return True

    async def close(self) -> None:
        """End everything, the session too."""
        if self.session:
            if self.session.busy:
                self.session.interrupt()
            elif self._job:
                self._job.cancel()
            if self._job:
                with contextlib.suppress(asyncio.CancelledError):
                    await self._job
            await self.session.close()

    def _heard(self, event: Event) -> None:
        self._front.heard(event)
        if isinstance(event, TurnStarted):
            self._told_end = False
        if isinstance(event, TurnEnded) and self.session:
            self._told_end = True
            self._settle(event, self.session)

    def _settle(self, ended: TurnEnded, session: Session) -> None:
        """What the turn did not get is sent next; after a turn that went wrong, nothing is sent
        by itself. At once: what is typed from here on is meant to be sent."""
        back = session.undelivered()
        if ended.reason is StopReason.DONE:
            self._queue[:0] = back
        elif back := back + self._queue:
            self._queue.clear()
            self._front.came_back(back)

    def _next(self) -> Job:
        if self._jobs:
            return self._jobs.pop(0)
        return self._meant(self._queue.pop(0))

    def _meant(self, typed: str) -> Job:
        async def job(session: Session) -> None:
            meant = await self._meaning(typed)
            if isinstance(meant, Say):
                await session.run_turn(meant)
            else:
                await meant(session)

        return job

    async def _safely(self, job: Job) -> None:
        assert self.session
        try:
            await job(self.session)
        except asyncio.CancelledError:
            return
        except Exception as error:
            self._front.failed(error)
