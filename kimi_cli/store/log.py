"""The log of a session: events are appended, one write(2) each, and never changed."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from kimi_cli.protocol.event import (
    SCHEMA_VERSION,
    Event,
)
from kimi_cli.store.blobs import BLOBS, keep, outlined
from kimi_cli.store.errors import SessionNotFound, SessionTooNew, StoreError
from kimi_cli.store.events_file import EVENTS, encode_event, read_tail, too_new
from kimi_cli.store.index import OUTPUTS, find, new_folder, project_folder
from kimi_cli.store.lock import acquire, busy
from kimi_cli.store.unsaved import UnsavedFolder

# Python has no fdatasync on macOS.
_flush_to_disk = getattr(os, "fdatasync", os.fsync)


class Log(Protocol):
    """Where a session's durable events go."""

    @property
    def id(self) -> str: ...

    @property
    def path(self) -> Path:
        """The session's folder."""
        ...

    @property
    def outputs(self) -> Path: ...

    @property
    def blobs(self) -> Path: ...

    def append(self, event: Event) -> None: ...

    async def sync(self) -> None: ...

    def close(self) -> None: ...

    def discard(self) -> None: ...


class SessionLog:
    """A session on disk, locked by this process until it is closed or the process ends."""

    def __init__(self, path: Path, descriptor: int) -> None:
        """Take over an open, locked file; use ``create`` or ``open``."""
        self.path = path
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._torn = False
        self._written = 0
        self._synced = 0
        self._unflushed: list[Path] = []
        self._syncing: asyncio.Task[None] | None = None

    @classmethod
    def create(cls, home: Path, root: Path) -> SessionLog:
        """Start a session of the project at ``root``. Raises StoreError."""
        project = project_folder(home, root)
        try:
            _make_private(project)
            path = new_folder(project)
            flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(path / EVENTS, flags, 0o600)
        except OSError as error:
            raise StoreError.of(f"no session can be written in {project}", error) from error
        return cls._locked(path, descriptor)

    @classmethod
    def open(cls, home: Path, id_or_prefix: str, root: Path | None = None) -> SessionLog:
        """Go on with a session; an unfinished last line is not part of it. Raises SessionNotFound,
        AmbiguousSession, SessionBusy, SessionTooNew, StoreError."""
        path = find(home, id_or_prefix, root)
        file_path = path / EVENTS
        try:
            descriptor = os.open(file_path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise SessionNotFound(f"session {path.name} was deleted") from error
        except OSError as error:
            raise StoreError.of(f"{file_path} cannot be written", error) from error
        log = cls._locked(path, descriptor)
        try:
            if not _same_file(descriptor, file_path):
                raise SessionNotFound(f"session {path.name} was deleted")
            with file_path.open("rb") as file:
                tail = read_tail(file, log._size)
            if tail.version > SCHEMA_VERSION:
                raise too_new(path.name, tail.version)
            if tail.complete < log._size:
                # Cut away with the next event: who only looks changes nothing.
                log._size, log._torn = tail.complete, True
        except OSError as error:
            log.close()
            raise StoreError.of(f"{file_path} cannot be read", error) from error
        except (SessionTooNew, SessionNotFound):
            log.close()
            raise
        return log

    @classmethod
    def _locked(cls, path: Path, descriptor: int) -> SessionLog:
        try:
            if acquire(descriptor):
                return cls(path, descriptor)
        except OSError as error:
            os.close(descriptor)
            raise StoreError.of(f"{path / EVENTS} cannot be locked", error) from error
        os.close(descriptor)
        raise busy(path.name)

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def outputs(self) -> Path:
        return self.path / OUTPUTS

    @property
    def blobs(self) -> Path:
        return self.path / BLOBS

    def append(self, event: Event) -> None:
        """Write the event; when this returns it survives the death of the process. Raises
        StoreError, and then nothing of the event is in the file."""
        descriptor = self._open_descriptor()
        try:
            line = encode_event(outlined(event, self._keep)) + b"\n"
            if self._torn:
                self._undo()
            self._torn = True
            if os.write(descriptor, line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            # What can't be undone now is undone before the next event, or by the next ``open``.
            with suppress(OSError):
                self._undo()
            raise StoreError.of(f"{self.path / EVENTS} cannot be written", error) from error
        self._torn = False
        self._size += len(line)
        self._written += len(line)

    def _open_descriptor(self) -> int:
        if self._descriptor < 0:
            raise StoreError(f"session {self.id} is closed", errno.EBADF)
        return self._descriptor

    def _keep(self, content: bytes) -> str:
        name, new = keep(self.blobs, content)
        if new:
            self._unflushed.append(self.blobs / name)
        return name

    def _undo(self) -> None:
        os.ftruncate(self._descriptor, self._size)
        self._torn = False

    async def sync(self) -> None:
        """Return when all that was appended so far is on the disk itself. Waits in a thread;
        calls at the same time share one wait. Raises StoreError."""
        target = self._written
        while self._synced < target:
            if self._syncing is None or self._syncing.done():
                # The thread gets a descriptor of its own: close() may come while it waits.
                descriptor = os.dup(self._open_descriptor())
                media, self._unflushed = self._unflushed, []
                self._syncing = asyncio.create_task(
                    self._sync_once(descriptor, self._written, media)
                )
            # Shielded: one caller's cancellation must not fail the others.
            await asyncio.shield(self._syncing)

    async def _sync_once(self, descriptor: int, mark: int, media: list[Path]) -> None:
        try:
            await asyncio.to_thread(_flush, descriptor, media)
        except OSError as error:
            raise StoreError.of(f"{self.path / EVENTS} cannot be written", error) from error
        finally:
            os.close(descriptor)
        self._synced = mark

    def close(self) -> None:
        """Release the session. May be called twice."""
        if self._descriptor >= 0:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = -1

    def discard(self) -> None:
        """Remove a session that was created and came to nothing."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.close()


class MemoryLog:
    """A session that is not kept: events go nowhere, files to a folder below KIMI_HOME (``home``)
    that is removed at the end, or to a temporary one where that can't be written."""

    def __init__(self, home: Path | None = None) -> None:
        """Raises StoreError when there is no folder to write in."""
        self._remove, self.path = _unsaved_folder(home)
        try:
            self.outputs.mkdir()
            self.blobs.mkdir()
        except OSError as error:
            self._remove()
            raise StoreError.of("no temporary folder can be made", error) from error

    @property
    def id(self) -> str:
        return "unsaved"

    @property
    def outputs(self) -> Path:
        return self.path / OUTPUTS

    @property
    def blobs(self) -> Path:
        return self.path / BLOBS

    def append(self, event: Event) -> None:
        pass

    async def sync(self) -> None:
        pass

    def close(self) -> None:
        self._remove()

    discard = close


def _unsaved_folder(home: Path | None) -> tuple[Callable[[], None], Path]:
    """A folder for the files of a session that is not kept, and what removes it."""
    if home is not None:
        with suppress(OSError):
            private = UnsavedFolder(home)
            return private.remove, private.path
    try:
        folder = tempfile.TemporaryDirectory(prefix="kimi-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StoreError.of("no temporary folder can be made", error) from error
    return folder.cleanup, Path(folder.name)


def _flush(descriptor: int, media: list[Path]) -> None:
    for path in media:
        blob = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _flush_to_disk(blob)
        finally:
            os.close(blob)
    _flush_to_disk(descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    """Whether the open file still has its name; it has not when it was deleted meanwhile."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _make_private(folder: Path) -> None:
    """Make the folder and those above it, each that is new for the owner only."""
    if folder.is_dir():
        return
    _make_private(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError as error:
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from error
