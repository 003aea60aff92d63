"""The processes below a supervisor: who they are, and how to signal all of them.

Linux: the supervisor is a *child subreaper*, so whatever a command leaves behind, daemons with a
session of their own included, stays below it, and "no child left" means "nothing left" (prctl(2),
PR_SET_CHILD_SUBREAPER). Elsewhere: process groups and what ``ps`` showed while the command ran.
"""

from __future__ import annotations

import os
import signal

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_PR_SET_CHILD_SUBREAPER = 36

# (pid, parent's pid, process group, ended but not yet reaped)
Process = tuple[int, int, int, bool]


class Tree:
    """The descendants of this process on a system with subreapers and /proc."""

    # Seconds between looks at a command that is being stopped; every end comes with a SIGCHLD.
    pace = 60.0

    def __init__(self) -> None:
        import ctypes

        self._prctl = ctypes.CDLL(None, use_errno=True).prctl

    def adopt(self, name: bytes) -> None:
        """Make this process the reaper of its descendants; ``name`` is what ``ps`` calls it, so
        that a ``pkill python`` of the model does not mean us."""
        self._prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._prctl(_PR_SET_NAME, name, 0, 0, 0)

    def die_with(self, parent: int) -> None:
        """In a new child: die when the supervisor ``parent`` is killed."""
        self._prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    def watch(self, root: int) -> None:
        """Note that the command's first process is ``root``, leader of its own group."""

    def alone(self, childless: bool) -> bool:
        """Whether nothing is left; ``childless`` says that waitpid knows no child any more."""
        return childless

    def scan(self) -> list[Process]:
        """All processes of the machine that can be seen."""
        found = []
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                with open(f"/proc/{name}/stat", "rb", buffering=0) as file:
                    fields = file.read(1024).rpartition(b")")[2].split(None, 3)
            except OSError:
                continue
            found.append((int(name), int(fields[1]), int(fields[2].split()[0]), fields[0] == b"Z"))
        return found

    def members(self, keep: frozenset[int] = frozenset()) -> list[Process]:
        """The descendants of this process, without the children in ``keep`` and theirs."""
        return _below({os.getpid()}, self.scan(), keep)

    def titles(self) -> list[str]:
        """``pid command`` of every descendant that runs."""
        return [f"{pid} {_title(pid)}" for pid, _, _, zombie in self.members() if not zombie]

    def signal(self, number: int, keep: frozenset[int] = frozenset()) -> set[int]:
        """Send a signal to every descendant; returns the ids of those found.

        Whole groups are signalled: unlike a walk over single processes that can't be outrun by
        a process that forks. A group never spans two commands, as each command starts in a new
        session.
        """
        found = self.members(keep)
        own = os.getpgrp()
        for group in {group for _, _, group, _ in found} - {own}:
            _send(-group, number)
        for pid, _, group, _ in found:
            if group == own:
                _send(pid, number)
        return {pid for pid, _, _, _ in found}


class GroupTree(Tree):
    """What can be done without subreapers: the command's process group and every process seen
    below it so far. A daemon that changed its group before it was seen is missed."""

    pace = 0.02

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._groups: set[int] = set()

    def adopt(self, name: bytes) -> None:
        pass

    def die_with(self, parent: int) -> None:
        pass

    def watch(self, root: int) -> None:
        self._pids.add(root)
        self._groups.add(root)

    def alone(self, childless: bool) -> bool:
        # Before its first process is gone, the command's group may not exist yet.
        if not childless:
            return False
        self._pids = {pid for pid in self._pids if _send(pid, 0)}
        self._groups = {group for group in self._groups if _send(-group, 0)}
        return not self._pids and not self._groups

    def scan(self) -> list[Process]:
        with os.popen("ps -axo pid=,ppid=,pgid=,stat= 2>/dev/null") as pipe:
            rows = [line.split() for line in pipe if line.strip()]
        return [(int(a), int(b), int(c), state.startswith("Z")) for a, b, c, state in rows]

    def members(self, keep: frozenset[int] = frozenset()) -> list[Process]:
        rows = self.scan()
        seen = {pid for pid, _, group, _ in rows if pid in self._pids or group in self._groups}
        below = _below({os.getpid()} | seen, rows, keep)
        ours = [row for row in rows if row[0] in seen] + [
            row for row in below if row[0] not in seen
        ]
        # The ps just run is a child of ours too, in our own group, and gone by now.
        ours = [row for row in ours if row[2] != os.getpgrp()]
        self._pids.update(row[0] for row in ours)
        self._groups.update(row[2] for row in ours)
        return ours

    def titles(self) -> list[str]:
        pids = ",".join(str(pid) for pid, _, _, zombie in self.members() if not zombie)
        if not pids:
            return []
        with os.popen(f"ps -o pid=,command= -p {pids} 2>/dev/null") as pipe:
            return [line.strip()[:160] for line in pipe]


def _below(roots: set[int], rows: list[Process], keep: frozenset[int]) -> list[Process]:
    children: dict[int, list[Process]] = {}
    for row in rows:
        children.setdefault(row[1], []).append(row)
    found: list[Process] = []
    reached = set(roots)
    ahead = list(roots)
    while ahead:
        for row in children.get(ahead.pop(), ()):
            if row[0] not in reached and row[0] not in keep:
                reached.add(row[0])
                found.append(row)
                ahead.append(row[0])
    return found


def _send(target: int, number: int) -> bool:
    try:
        os.kill(target, number)
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def _title(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", "rb", buffering=0) as file:
            words = file.read(160).replace(b"\0", b" ").strip()
        if not words:
            with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
                words = file.read(160).strip()
    except OSError:
        return ""
    return words.decode("utf-8", "replace")
