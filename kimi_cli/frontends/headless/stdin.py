"""Standard input of a headless run: a prompt, data beside a prompt, or nothing.

A run must not hang because somebody left a pipe open. A shell pipeline is waited for to its end;
a pipe that one of our ancestors holds, or a socket (what Node gives its children), is a harness
that may never write: after a short wait for the first byte the run goes on without.
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path

HARNESS_WAIT = 2.0
MAX_INPUT = 64 << 20


class InputError(Exception):
    """Standard input can't be used; the message is for people."""


def read_beside(note: Callable[[str], None]) -> str:
    """What was piped in beside ``-p``; empty when nothing was. ``note`` gets a line for people
    while it waits."""
    fd = _stdin()
    if fd is None or os.isatty(fd):
        return ""
    mode = os.fstat(fd).st_mode
    if (stat.S_ISSOCK(mode) or (stat.S_ISFIFO(mode) and _held_above(fd))) and not _ready(
        fd, HARNESS_WAIT
    ):
        note("nothing arrived on stdin; going on without it")
        return ""
    return read_all(note)


def read_all(note: Callable[[str], None]) -> str:
    """Standard input to its end, as UTF-8 text (a BOM is dropped, bad bytes replaced)."""
    fd = _stdin()
    if fd is None:
        raise InputError("stdin is closed, there is no prompt")
    chunks: list[bytes] = []
    size = 0
    begun = time.monotonic()
    while True:
        while not _ready(fd, 30.0):
            note(f"waiting for the end of stdin · {time.monotonic() - begun:.0f} s")
        chunk = os.read(fd, 1 << 20)
        if not chunk:
            break
        size += len(chunk)
        if size > MAX_INPUT:
            raise InputError(f"more than {MAX_INPUT >> 20} MB on stdin")
        chunks.append(chunk)
    return b"".join(chunks).decode("utf-8-sig", "replace")


def _stdin() -> int | None:
    try:
        return sys.stdin.fileno() if sys.stdin else None
    except (OSError, ValueError):
        return None


def _ready(fd: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    try:
        # In slices: a signal that comes just before a wait begins does not end that wait.
        while not select.select([fd], [], [], max(0.0, min(deadline - time.monotonic(), 0.3)))[0]:
            if time.monotonic() >= deadline:
                return False
    except ValueError:
        pass
    return True


def _held_above(fd: int) -> bool:
    """Whether our parent, or one above it, has the pipe open for writing, which no shell does with
    a pipeline of its own (Linux only; elsewhere it is assumed)."""
    if not os.path.exists("/proc/self/fd"):
        return True
    try:
        pipe = os.readlink(f"/proc/self/fd/{fd}")
        process = os.getppid()
        while process > 0:
            if _holds(process, pipe):
                return True
            status = Path(f"/proc/{process}/stat").read_bytes()
            process = int(status.rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return False


def _holds(process: int, pipe: str) -> bool:
    try:
        for entry in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                if os.readlink(entry) == pipe and entry.lstat().st_mode & stat.S_IWUSR:
                    return True
    except OSError:
        # Another user's: it may well hold the pipe, but so may anybody.
        pass
    return False
