"""Snapshots of the files around each turn that changes some, so that it can be taken back.

The one before is begun with the turn, in a thread beside the first request to the model, and is
finished before the first tool that may change something runs. A turn that changes nothing leaves
no checkpoint.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Checkpoint, CheckpointMoment, Notice

if TYPE_CHECKING:
    from kimi_cli.settings.schema import Undo
    from kimi_cli.workspace.snapshots.model import Limits, Recovered, Snapshot

log = logging.getLogger(__name__)

NAMED = 20
"""Files left out that a checkpoint names."""
HEAD_START = 0.2
"""Seconds; what a snapshot loads and reads would hold up the first request of the turn."""
PATIENCE = 30.0
"""Seconds that the end of a turn waits for its snapshot."""
UNEXPLAINED = 2.0
"""Seconds that a change waits for the snapshot before it without a word."""
HURRY = 0.5
"""The same for a turn that was interrupted: whoever did that does not wait longer than a second."""


class Snapshotter(Protocol):
    """What takes the snapshots; both calls block. They raise SnapshotError, OSError. ``reading``
    is how many files the one under way reads, 0 when that is not known."""

    @property
    def reading(self) -> int: ...

    def take(self) -> Snapshot: ...

    def recover(self) -> Recovered | None: ...


class Checkpoints:
    """Those of one session. ``snapshots`` gives what takes them, and may block; ``record`` stores
    an event."""

    def __init__(
        self, snapshots: Callable[[], Snapshotter], record: Callable[[Event], None]
    ) -> None:
        self._snapshots = snapshots
        self._record = record
        self._taking: asyncio.Future[Snapshot] | None = None
        self._taker: Snapshotter | None = None
        self._looked = False
        self._explained = False
        self._recovered: Recovered | None = None
        self._changing = False
        self._wanted = asyncio.Event()
        self._told: set[str] = set()

    @property
    def used(self) -> bool:
        """Whether any was taken."""
        return self._looked

    def begin(self) -> None:
        """A turn begins: begin its snapshot, as soon as its first request is surely out."""
        self._changing = False
        self._wanted.clear()
        self._taking = self._start(HEAD_START)

    async def before_change(self) -> None:
        """To be awaited before anything changes files: records the turn's checkpoint. Raises
        StoreError."""
        if self._taking is None or self._changing:
            return
        self._wanted.set()
        # Shielded: a thread can't be stopped, and whoever comes next wants its result too.
        done, _ = await asyncio.wait([self._taking], timeout=UNEXPLAINED)
        if not done:
            self._explain()
            await asyncio.wait([self._taking])
        self._changing = True
        self._say_recovered()
        self._note("turn_start", self._taking)

    async def end(self, *, hurry: bool) -> None:
        """The turn is over: record how it left the files, if it may have changed any. When that
        takes too long, or is cancelled, there is no such checkpoint. Raises StoreError."""
        taking, self._taking = self._taking, None
        self._say_recovered()
        if taking is not None and not self._changing:
            # Nothing was changed; one that has not begun yet need not.
            taking.cancel()
        if taking is None or not self._changing or _failed(taking):
            return
        last = self._start()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([last], timeout=HURRY if hurry else PATIENCE)
        if last.done():
            self._note("turn_end", last)

    def _start(self, head_start: float = 0.0) -> asyncio.Future[Snapshot]:
        taking = asyncio.ensure_future(self._begun_after(head_start))
        taking.add_done_callback(_drop)
        return taking

    async def _begun_after(self, head_start: float) -> Snapshot:
        if head_start:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wanted.wait(), head_start)
        return await asyncio.to_thread(self._take)

    def _take(self) -> Snapshot:
        snapshots = self._taker = self._snapshots()
        if not self._looked:
            self._recovered = snapshots.recover()
            self._looked = True
        return snapshots.take()

    def _explain(self) -> None:
        if not self._explained:
            self._explained = True
            self._record(Notice(text=waiting(self._taker.reading if self._taker else 0)))

    def _say_recovered(self) -> None:
        found, self._recovered = self._recovered, None
        if found:
            self._tell(recovered(found))

    def _note(self, moment: CheckpointMoment, taken: asyncio.Future[Snapshot]) -> None:
        if error := taken.exception():
            self._record(Checkpoint(snapshot="", moment=moment, failure=str(error)))
            self._tell(f"no snapshot of the files, so kimi undo can't bring them back: {error}")
            return
        self._record(checkpoint(taken.result(), moment))

    def _tell(self, text: str) -> None:
        log.warning("%s", text)
        if text not in self._told:
            self._told.add(text)
            self._record(Notice(level="warning", text=text))


def limits_of(settings: Undo) -> Limits:
    """The bounds that the settings give."""
    from kimi_cli.workspace.snapshots.model import Limits

    return Limits(max_file=int(settings.max_file_mb * 2**20), max_files=settings.max_files)


def waiting(reading: int) -> str:
    """What is said of a change that waits for a snapshot which reads so many files."""
    text = "before the first change, kimi takes a snapshot of the files for kimi undo"
    return f"{text}: {reading:,} to read, next time only what changed" if reading else text


def recovered(found: Recovered) -> str:
    """What is said of an interrupted restore."""
    count = len(found.reverted)
    text = f"an undo was cut short before: {count} file{'s' * (count != 1)} put back as before it"
    if found.failed:
        text += f"; {len(found.failed)} left as they are: " + ", ".join(
            str(one.path) for one in found.failed[:NAMED]
        )
    return text


def checkpoint(taken: Snapshot, moment: CheckpointMoment) -> Checkpoint:
    """The event for a snapshot."""
    return Checkpoint(
        snapshot=taken.id,
        moment=moment,
        folders=[str(folder) for folder in taken.folders],
        left_out=[str(one.path) for one in taken.left_out[:NAMED]],
        left_out_count=len(taken.left_out),
    )


def _failed(taken: asyncio.Future[Snapshot]) -> bool:
    return not taken.done() or taken.cancelled() or taken.exception() is not None


def _drop(late: asyncio.Future[Snapshot]) -> None:
    """Look at a result that perhaps nobody waits for: asyncio would complain of an error."""
    if not late.cancelled() and (error := late.exception()):
        log.debug("a snapshot failed: %s", error)
