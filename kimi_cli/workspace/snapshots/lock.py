"""One process at a time works with a project's snapshots: a flock, which ends with its holder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from kimi_cli.workspace.snapshots.model import SnapshotBusy


@contextlib.contextmanager
def held(path: Path, patience: float) -> Iterator[int]:
    """Hold the lock file for the ``with`` block; it is made when missing, with two folders above it
    that are the user's alone. A child process that inherits the descriptor holds the lock too.
    Raises SnapshotBusy after ``patience`` seconds, OSError where it can't be made."""
    descriptor = _locked(path, time.monotonic() + patience)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _locked(path: Path, give_up: float) -> int:
    while True:
        for folder in (path.parent.parent, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            # Expiry may have removed the folder between the opening and the lock.
            if _acquire(descriptor, give_up) and _is_same(descriptor, path):
                return descriptor
            os.close(descriptor)
        if time.monotonic() >= give_up:
            raise SnapshotBusy("another kimi process is working with this project's snapshots")


def _acquire(descriptor: int, give_up: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= give_up:
                return False
            time.sleep(0.01)


def _is_same(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
