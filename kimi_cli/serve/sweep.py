"""The processes of a server: which they are, and how to be sure that none is left.

A process number alone says little: it may be somebody else's by now. With the moment of its start
(field 22 of /proc/PID/stat, see proc_pid_stat(5)) and the boot it names one process for good.
vLLM's engine processes write their title over their environment, so that a mark there shows only
some of them; those of the tree below the keeper are written down while it lives.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

MARK = "KIMI_SERVER_ID"
"""The variable that tells whose process it is."""
TERM_SECONDS = 10.0
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PROC = Path("/proc")
_POLL_SECONDS = 0.05


class Proc(NamedTuple):
    """One process for good: its number and its start, in clock ticks since the boot."""

    pid: int
    started: int


class _Stat(NamedTuple):
    parent: int
    started: int


def boot_id() -> str:
    """What names this boot of this computer; "" where it can't be told."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def adopt_orphans() -> None:
    """Make this process the parent of descendants whose own parent ends (prctl(2),
    PR_SET_CHILD_SUBREAPER)."""
    _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def dies_with_parent() -> Callable[[], None]:
    """What a child calls before it becomes another program, so that it is told to end when its
    parent is gone (PR_SET_PDEATHSIG)."""
    libc, parent = _libc(), os.getpid()

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return ask


def process(pid: int) -> Proc | None:
    """The process that has this number now; None when there is none that runs."""
    found = _stat(pid)
    return Proc(pid, found.started) if found else None


def runs(proc: Proc) -> bool:
    """Whether this very process still runs."""
    return process(proc.pid) == proc


def descendants(pid: int) -> list[Proc]:
    """All that descend from a process and run, parents first."""
    children: dict[int, list[Proc]] = {}
    for number in _pids():
        if found := _stat(number):
            children.setdefault(found.parent, []).append(Proc(number, found.started))
    waiting, tree = [pid], []
    while waiting:
        below = children.pop(waiting.pop(0), [])
        tree += below
        waiting += [proc.pid for proc in below]
    return tree


def marked(server_id: str) -> list[Proc]:
    """All whose environment names the server; only one's own processes can be read."""
    mark = f"{MARK}={server_id}".encode()
    found = []
    for pid in _pids():
        try:
            environ = (_PROC / str(pid) / "environ").read_bytes()
        except OSError:
            continue
        if mark in environ.split(b"\0") and (proc := process(pid)) and pid != os.getpid():
            found.append(proc)
    return found


def end(find: Callable[[], Iterable[Proc]], seconds: float = TERM_SECONDS) -> list[Proc]:
    """TERM what `find` finds, wait up to `seconds`, KILL the rest; what then still runs (a process
    in the midst of an uninterruptible wait). Blocks."""
    told: set[Proc] = set()
    deadline = time.monotonic() + seconds
    while left := [proc for proc in find() if runs(proc)]:
        for proc in left:
            if proc not in told:
                told.add(proc)
                _send(proc, signal.SIGTERM)
        if time.monotonic() > deadline:
            break
        time.sleep(_POLL_SECONDS)
    deadline = time.monotonic() + TERM_SECONDS
    while left := [proc for proc in find() if runs(proc)]:
        for proc in left:
            _send(proc, signal.SIGKILL)
        if time.monotonic() > deadline:
            return left
        time.sleep(_POLL_SECONDS)
    return []


def _send(proc: Proc, number: int) -> None:
    try:
        # The descriptor holds on to the process while it is looked at once more.
        handle = os.pidfd_open(proc.pid)
    except OSError:
        return
    try:
        if runs(proc):
            signal.pidfd_send_signal(handle, number)
    except OSError:
        pass
    finally:
        os.close(handle)


def _pids() -> Iterator[int]:
    try:
        names = os.listdir(_PROC)
    except OSError:
        return
    yield from (int(name) for name in names if name.isdecimal())


def _stat(pid: int) -> _Stat | None:
    try:
        text = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return None
    # The name, in parentheses, may hold anything.
    fields = text[text.rindex(b")") + 2 :].split()
    return None if fields[0] in (b"Z", b"X") else _Stat(int(fields[1]), int(fields[19]))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
