"""Undo in a stored session that nobody runs: no endpoint and no key is needed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from kimi_cli.agent.record import parent_of
from kimi_cli.agent.restoring import Snapshots
from kimi_cli.agent.rewinding import Done, Rewinder
from kimi_cli.agent.stored import Stored, open_stored
from kimi_cli.agent.undo import CannotUndo, history
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Checkpoint, SessionStarted
from kimi_cli.store.errors import SessionBusy, SessionError, SessionNotFound
from kimi_cli.store.events_file import read_session
from kimi_cli.store.index import find, latest
from kimi_cli.store.log import SessionLog
from kimi_cli.workspace.roots import project_root
from kimi_cli.workspace.snapshots.model import Limits


@dataclass(frozen=True, slots=True)
class Undoing:
    """A session opened to take turns back; ``finished`` is what had been cut short before and is
    complete now, ``problem`` why it could not be completed."""

    session: str
    folder: Path
    rewinder: Rewinder
    finished: Done | None = None
    problem: str = ""


@contextmanager
def opened(home: Path, root: Path, wanted: str | None) -> Iterator[Stored]:
    """The session with this id, or the start of one (None: the project's last), which nobody else
    can open meanwhile. Raises SessionError, StoreError."""
    try:
        stored = open_stored(home, root, wanted, last=wanted is None)
    except SessionBusy as error:
        raise SessionBusy(
            f"{str(error).partition(' is open')[0]} is open in another kimi process: nothing was "
            "changed; wait until that ends"
        ) from None
    assert stored is not None
    try:
        yield stored
    finally:
        stored.log.close()


async def begin(home: Path, stored: Stored, limits: Limits | None = None) -> Undoing:
    """Get ready, and complete first what was cut short. Raises StoreError."""
    rewinder, _ = _rewinder(home, stored, limits)
    finished, problem = None, ""
    try:
        finished = await rewinder.finish()
    except CannotUndo as error:
        problem = str(error)
    return Undoing(stored.log.id, Path(stored.begun.cwd), rewinder, finished, problem)


def reading(home: Path, root: Path, wanted: str | None, limits: Limits | None = None) -> Undoing:
    """A session to look at only, which may be open elsewhere. Raises SessionError, StoreError."""
    wanted = wanted or latest(home, root)
    if wanted is None:
        raise SessionNotFound("there is no session of this project")
    folder = find(home, wanted, root)
    events = read_session(folder).events
    begun = next((event for event in events if isinstance(event, SessionStarted)), None)
    if begun is None:
        raise SessionError(f"session {folder.name} has no beginning")

    def record(event: Event) -> None:
        raise SessionError("the session is only looked at")

    async def sync() -> None:
        return

    store = _store(home, begun, events, limits)
    return Undoing(folder.name, Path(begun.cwd), Rewinder(events, store, record, sync))


async def completed(
    home: Path, stored: Stored, limits: Limits | None = None
) -> tuple[Stored, list[str]]:
    """The session after what was cut short is complete, and what to tell the user of it. Raises
    StoreError."""
    begun = history(stored.events).pending
    if begun is None:
        return stored, []
    rewinder, events = _rewinder(home, stored, limits)
    try:
        done = await rewinder.finish()
    except CannotUndo as error:
        return replace(stored, events=events), [f"{begun.what} was cut short before: {error}"]
    return replace(stored, events=events), [told(done)] if done else []


def told(done: Done) -> str:
    """What is said of a rewind that was completed late."""
    text = f"{done.rewind.what} was cut short before, and is complete now"
    if done.edited:
        names = ", ".join(str(path) for path in done.edited)
        text += f"; edited since, and left as they are: {names}"
    return text


def folders_of(events: Sequence[Event], root: Path) -> list[Path]:
    """The folders whose snapshots a session has: those of its last checkpoint."""
    for event in reversed(events):
        if isinstance(event, Checkpoint) and event.folders:
            return [Path(folder) for folder in event.folders]
    return [root]


def _rewinder(home: Path, stored: Stored, limits: Limits | None) -> tuple[Rewinder, list[Event]]:
    """With the list that its events are added to."""
    store = _store(home, stored.begun, stored.events, limits)
    writer = _Writer(stored.log, list(stored.events))
    return Rewinder(stored.events, store, writer.add, stored.log.sync), writer.events


def _store(
    home: Path, begun: SessionStarted, events: Sequence[Event], limits: Limits | None
) -> Snapshots:
    from kimi_cli.workspace.snapshots import Snapshots as Store

    root = Path(begun.root) if begun.root else project_root(Path(begun.cwd))
    return Store(home, folders_of(events, root), limits)


class _Writer:
    """Numbers events as a running session would, and stores them."""

    def __init__(self, log: SessionLog, events: list[Event]) -> None:
        self.events = events
        self._log = log
        self._turn = max((event.turn for event in events), default=0)
        self._seq = max((event.seq for event in events), default=0)

    def add(self, event: Event) -> None:
        """Raises StoreError."""
        event.session = self._log.id
        event.turn = self._turn
        event.seq = self._seq + 1
        event.parent = parent_of(event, event.seq)
        event.time = round(time.time(), 3)
        self._log.append(event)
        self._seq = event.seq
        self.events.append(event)
