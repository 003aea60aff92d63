"""Keeping the log of a server that runs for weeks from filling the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

MOST_BYTES = 64 << 20


def turn(log: Path, former: Path, most: int = MOST_BYTES) -> bool:
    """Once the log is larger than `most` bytes, make `former` of what is in it and go on with an
    empty one; whether that was done. vLLM keeps the file open and appends, so that it is emptied,
    not renamed; what is written in between is lost. Raises OSError."""
    with open(log, "r+b") as old:
        if os.fstat(old.fileno()).st_size <= most:
            return False
        # Where the disk is full the log is what fills it.
        with contextlib.suppress(OSError):
            handle = os.open(former, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with open(handle, "wb") as new:
                shutil.copyfileobj(old, new, 1 << 20)
        old.truncate(0)
    return True
