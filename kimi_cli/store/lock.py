"""Who has a session open: a flock on its events, which ends with the process."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kimi_cli.store.errors import SessionBusy

PATIENCE = 0.2
"""Seconds to try for a lock: somebody may only be looking whether the session is open."""


def acquire(descriptor: int, patience: float = PATIENCE) -> bool:
    """Lock the open file; False when another process kept it for ``patience`` seconds. Raises
    OSError where the file system has no locks."""
    give_up = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= give_up:
                return False
            time.sleep(0.01)


@contextmanager
def held(path: Path, patience: float = PATIENCE) -> Iterator[None]:
    """Keep the session with this file of events from being opened. Raises SessionBusy when it
    is open, OSError when it can't be locked."""
    # Writable, because NFS gives an exclusive lock to no other descriptor.
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if not acquire(descriptor, patience):
            raise busy(path.parent.name)
        yield
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def is_held(path: Path) -> bool:
    """Whether a process has the session with this file of events open. Shared and at once given
    back: others may ask at the same time, and who wants the session is not refused, see PATIENCE.
    False where that can't be found out."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def busy(session: str) -> SessionBusy:
    return SessionBusy(
        f"session {session} is open in another kimi process: wait until that ends, or go on with "
        f"a copy: kimi -r {session} --fork"
    )
