"""The helper process: starts commands for kimi and leaves nothing of them behind.

It runs isolated from our packages (see ``launch.py``), single-threaded, so that forking is safe
and cheap, and talks to kimi over one socket. Each command gets a supervisor, forked from here. When
the socket closes, however kimi ended, everything is swept and the helper ends; when the helper
ends, the supervisors see their pipe close and sweep on their own.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kimi_cli.workspace.helper_box import confine
    from kimi_cli.workspace.helper_namespaces import Session, open_session
    from kimi_cli.workspace.helper_probe import probe
    from kimi_cli.workspace.helper_supervisor import IGNORED, Supervisor
    from kimi_cli.workspace.helper_tree import GroupTree, Tree
    from kimi_cli.workspace.helper_wire import Frames, Message, pack
else:
    from helper_supervisor import IGNORED, Supervisor
    from helper_tree import GroupTree, Tree
    from helper_wire import Frames, pack

    if sys.platform == "linux":
        from helper_box import confine
        from helper_namespaces import open_session
        from helper_probe import probe
    else:
        from helper_seatbelt import confine, open_session, probe

_QUIET_MS = 1
# Seconds the helper spends on what a killed supervisor left behind.
_ORPHAN_PATIENCE = 2.0


class Command:
    """A supervisor as the helper sees it; its id is 0 until it is given a command."""

    def __init__(self, pid: int, orders: int, reports: int) -> None:
        self.id = 0
        self.pid = pid
        self.orders = orders
        self.reports = reports
        self.frames = Frames()
        self.swept = False


class Helper:
    """Passes kimi's orders to the supervisors and their reports to kimi.

    From kimi: ``start`` and ``stop`` as the supervisor knows them, ``("probe", folder)``,
    ``("close", grace)``. To kimi: the supervisors' reports, ``("lost", id)`` for a command whose
    supervisor was killed, ``("probed", facts)``. ``best`` is the best way to confine a command
    that a probe may find, empty for any.
    """

    def __init__(self, link: int, tree: Tree, best: str) -> None:
        self._link, self._tree, self._best = link, tree, best
        self._sessions: dict[bytes, Session] = {}
        self._frames = Frames()
        self._open = True
        self._poll = select.poll()
        self._poll.register(link, select.POLLIN)
        self._commands: dict[int, Command] = {}
        self._spare: Command | None = None

    def run(self) -> None:
        while self._open or self._commands:
            wanted = self._open and self._spare is None
            events = self._poll.poll(_QUIET_MS if wanted else None)
            if wanted and not events:
                # A supervisor waits ready, so that no command waits for a fork; it is forked in a
                # quiet moment, where it does not compete with the command just started.
                with contextlib.suppress(OSError):
                    self._spare = self._fork()
            for fd, _ in events:
                if fd == self._link:
                    self._obey()
                elif fd in self._commands:
                    self._relay(self._commands[fd])

    def _fork(self) -> Command:
        orders, orders_end = os.pipe()
        reports_end, reports = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                # A copy of another supervisor's pipe would hide from it that the helper is gone.
                for fd in (self._link, orders_end, reports_end):
                    os.close(fd)
                for other in self._commands.values():
                    os.close(other.orders)
                    os.close(other.reports)
                self._tree.adopt(b"kimi-command")
                Supervisor(orders, reports, self._tree, confine).run()
            finally:
                os._exit(0)
        os.close(orders)
        os.close(reports)
        command = Command(pid, orders_end, reports_end)
        self._commands[reports_end] = command
        self._poll.register(reports_end, select.POLLIN)
        return command

    def _tell(self, *messages: Message) -> None:
        with contextlib.suppress(OSError):
            os.write(self._link, b"".join(pack(*message) for message in messages))

    def _obey(self) -> None:
        try:
            data = os.read(self._link, 1 << 18)
        except OSError:
            data = b""
        if not data:
            self._poll.unregister(self._link)
            self._shut(None)
        for message in self._frames.feed(data):
            if message[0] == "start":
                self._start(message)
            elif message[0] == "stop":
                for command in self._commands.values():
                    if command.id == message[1]:
                        _order(command, message)
            elif message[0] == "probe":
                self._probe(message[1])
            elif message[0] == "close":
                self._shut(message[1])

    def _start(self, message: Message) -> None:
        try:
            if not self._open:
                raise OSError(errno.ESHUTDOWN, "kimi is ending")
            box = message[-1]
            if box is not None and box["way"] == "namespaces":
                box["spaces"] = self._session(box["session"]).paths()
            command = self._spare or self._fork()
        except OSError as error:
            self._tell(("failed", message[1], error.errno, error.strerror, ""))
            return
        self._spare = None
        command.id = message[1]
        _order(command, message)

    def _session(self, name: bytes) -> Session:
        """The namespaces of a session, made at its first command."""
        if name not in self._sessions:
            self._sessions[name] = open_session()
        return self._sessions[name]

    def _probe(self, folder: bytes) -> None:
        facts = probe(folder, self._best, lambda: self._session(b"").paths())
        self._tell(("probed", facts))

    def _shut(self, grace: float | None) -> None:
        """Have everything swept; with no grace given the closing pipes are the order."""
        self._open = False
        self._spare = None
        for command in self._commands.values():
            if grace is not None and command.id:
                _order(command, ("stop", command.id, grace))
            elif command.orders >= 0:
                os.close(command.orders)
                command.orders = -1

    def _relay(self, command: Command) -> None:
        data = os.read(command.reports, 65536)
        if data:
            messages = command.frames.feed(data)
            command.swept = messages[-1:] != [] and messages[-1][0] in ("swept", "failed")
            self._tell(*messages)
            return
        self._poll.unregister(command.reports)
        os.close(command.reports)
        if command.orders >= 0:
            os.close(command.orders)
        del self._commands[command.reports]
        if command is self._spare:
            self._spare = None
        os.waitpid(command.pid, 0)
        if command.id and not command.swept:
            self._sweep()
            self._tell(("lost", command.id))

    def _sweep(self) -> None:
        """Kill what a killed supervisor left: only that can be a child of ours and not be a
        supervisor."""
        keep = frozenset(command.pid for command in self._commands.values())
        until = time.monotonic() + _ORPHAN_PATIENCE
        while time.monotonic() < until:
            found = self._tree.signal(signal.SIGKILL, keep)
            for pid in found:
                with contextlib.suppress(OSError):
                    os.waitpid(pid, os.WNOHANG)
            if not found:
                return
            time.sleep(0.002)


def _order(command: Command, message: Message) -> None:
    # A supervisor that was just killed is noticed by the end of its reports.
    with contextlib.suppress(OSError):
        os.write(command.orders, pack(*message))


def main() -> None:
    """Serve the socket whose number is the first argument. Among further ones ``groups`` chooses
    the way of systems without subreapers, ``best=WAY`` the best sandbox that a probe may find."""
    for number in signal.valid_signals():
        if signal.getsignal(number) == signal.SIG_IGN and number not in IGNORED:
            signal.signal(number, signal.SIG_DFL)
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    tree = GroupTree() if "groups" in sys.argv[2:] else Tree()
    tree.adopt(b"kimi-helper")
    # The heap is shared with every fork: leave its pages alone.
    gc.disable()
    gc.freeze()
    best = next((word[5:] for word in sys.argv[2:] if word.startswith("best=")), "")
    Helper(int(sys.argv[1]), tree, best).run()
