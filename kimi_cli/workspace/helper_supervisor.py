"""A supervisor: the process that starts one command and stays until nothing of it is left."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time

TYPE_CHECKING = False  # the helper runs by path, without our packages and without typing
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from kimi_cli.workspace.helper_tree import Tree
    from kimi_cli.workspace.helper_wire import Frames, Message, pack

    Confine = Callable[[dict[str, Any], list[bytes]], list[bytes]]
else:
    from helper_wire import Frames, pack

# What ends within this time of its command, such as ``tee >(cat)``, still belongs to the command.
_DRAIN = 0.05
# Grace between TERM and KILL when the other end of the orders' pipe is gone.
_ORPHAN_GRACE = 0.2
# A process that survives KILL this long can't be killed: another user's, or stuck in the kernel.
_GIVE_UP = 5.0
_SWEEP_PAUSE = 0.01
# No disk fills faster than this many bytes a second; it spaces the looks at the output's size.
_DISK_SPEED = 4e9
_LISTED = 20


class Supervisor:
    """Starts the command named by the first order, reports on it, and obeys ``stop``.

    Orders: ``("start", id, argv, cwd, env, output, errors, limit, box)``, all paths and words
    bytes, ``errors`` empty when stderr goes to the output too, ``box`` None to run it unconfined;
    ``("stop", id, grace)``.
    Reports: ``("started", id, pid)`` or ``("failed", id, errno, what, path)``;
    ``("exit", id, code, signal, seconds, reason, survivors)`` when the command's own process is
    gone; ``("swept", id, survivors)`` when nothing is left, or what is left can't be killed.
    """

    def __init__(self, orders: int, reports: int, tree: Tree, confine: Confine) -> None:
        self._orders, self._reports, self._tree = orders, reports, tree
        self._confine = confine
        self._frames = Frames()
        self._poll = select.poll()
        self._poll.register(orders, select.POLLIN)
        self._wake, wake_end = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake_end, warn_on_full_buffer=False)
        self._poll.register(self._wake, select.POLLIN)
        self._id = 0
        self._pid = 0
        self._brief = -1
        self._given = False
        self._refusal = -1
        self._status: int | None = None
        self._began = self._ended = 0.0
        self._outputs: list[int] = []
        self._limit = 0
        self._look_at = 0.0
        self._childless = False
        self._reported = False
        self._reason = ""
        self._kill_at: float | None = None
        self._give_up_at = 0.0
        self._news = b""
        self._finished = False

    def run(self) -> None:
        """Work until nothing is left of the command, or kimi is gone before there was one."""
        self._prepare()
        while not self._finished:
            wait = self._wait()
            for fd, _ in self._poll.poll(None if wait is None else max(0.0, wait) * 1000):
                if fd == self._orders:
                    self._obey()
                elif fd == self._wake:
                    os.read(self._wake, 4096)
                elif fd == self._refusal:
                    self._hear_exec()
            self._reap()
            if self._given:
                self._advance(time.monotonic())
            self._send()

    def _report(self, *message: object) -> None:
        self._news += pack(*message)

    def _send(self) -> None:
        if self._news:
            # When the helper is gone, the orders' pipe tells so too.
            with contextlib.suppress(OSError):
                os.write(self._reports, self._news)
            self._news = b""

    def _obey(self) -> None:
        data = os.read(self._orders, 65536)
        if not data:
            self._poll.unregister(self._orders)
            self._stop(_ORPHAN_GRACE, "kimi ended")
        for message in self._frames.feed(data):
            if message[0] == "start":
                self._start(message)
            elif message[0] == "stop":
                self._stop(message[2], "stopped")

    def _prepare(self) -> None:
        """Fork the command's process ahead of the command: it is the costly part of a start."""
        try:
            brief, brief_end = os.pipe()
            refusal, refusal_end = os.pipe()
            parent = os.getpid()
            self._pid = os.fork()
        except OSError:
            return  # tried again, and reported, at the start
        if self._pid == 0:
            for fd in (self._orders, self._reports, brief_end, refusal):
                os.close(fd)
            become_command(brief, refusal_end, parent, self._tree, self._confine)
        os.close(brief)
        os.close(refusal_end)
        self._brief, self._refusal = brief_end, refusal

    def _start(self, order: Message) -> None:
        _, self._id, _, _, _, output, errors, self._limit, _ = order
        if not self._pid:
            self._prepare()
        try:
            if not self._pid:
                raise OSError(errno.EAGAIN, "no process can be forked")
            self._began = time.monotonic()
            os.write(self._brief, pack(*order))
            os.close(self._brief)
            flags = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW
            self._outputs = [os.open(path, flags, 0o600) for path in (output, errors) if path]
        except OSError as error:
            self._fail(error)
            return
        self._given = True
        self._tree.watch(self._pid)
        self._poll.register(self._refusal, select.POLLIN)
        self._look_at = self._began

    def _hear_exec(self) -> None:
        """The pipe closes at exec, or carries the reason why there was none."""
        data = os.read(self._refusal, 65536)
        self._poll.unregister(self._refusal)
        os.close(self._refusal)
        self._refusal = -1
        if data:
            [facts] = Frames().feed(data)
            self._report("failed", self._id, *facts)
            self._finished = True
        else:
            self._report("started", self._id, self._pid)

    def _fail(self, error: OSError) -> None:
        self._report("failed", self._id, *_facts(error))
        self._finished = True

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = True
                return
            if pid == 0:
                return
            if pid == self._pid and not self._given:
                self._pid = 0
            elif pid == self._pid:
                self._status = status
                self._ended = time.monotonic()
                if self._refusal >= 0:
                    self._hear_exec()

    def _stop(self, grace: float, reason: str) -> None:
        """TERM now, KILL after ``grace`` seconds."""
        if not self._given:
            self._finished = True
            return
        now = time.monotonic()
        if self._kill_at is None:
            if self._status is None:
                self._reason = reason
            if grace > 0:
                self._tree.signal(signal.SIGTERM)
                # A process that is stopped would not see TERM before the grace is over.
                self._tree.signal(signal.SIGCONT)
            self._kill_at = now + grace
            self._give_up_at = self._kill_at + _GIVE_UP
        else:
            self._kill_at = min(self._kill_at, now + grace)

    def _advance(self, now: float) -> None:
        """Do what is due; the one place that knows when the command is over."""
        if self._finished:
            return
        alone = self._tree.alone(self._childless)
        if self._kill_at is not None and now >= self._kill_at and not alone:
            self._tree.signal(signal.SIGKILL)
            self._kill_at = time.monotonic() + _SWEEP_PAUSE
        given_up = self._kill_at is not None and now >= self._give_up_at
        over = alone or given_up
        drained = self._kill_at is None and now >= self._ended + _DRAIN
        if not self._reported and (over or (self._status is not None and drained)):
            self._tell_exit(alone)
        if over and self._reported:
            self._report("swept", self._id, [] if alone else self._tree.titles()[:_LISTED])
            self._finished = True
        elif self._kill_at is None and now >= self._look_at:
            self._look(now)

    def _tell_exit(self, alone: bool) -> None:
        code = number = None
        if self._status is not None and os.WIFEXITED(self._status):
            code = os.WEXITSTATUS(self._status)
        elif self._status is not None:
            number = os.WTERMSIG(self._status)
        left = [] if alone else self._tree.titles()[:_LISTED]
        seconds = (self._ended or time.monotonic()) - self._began
        self._report("exit", self._id, code, number, seconds, self._reason, left)
        self._reported = True

    def _look(self, now: float) -> None:
        """Stop a command whose output has grown past the limit."""
        room = self._limit - max(os.fstat(fd).st_size for fd in self._outputs)
        if room < 0:
            self._stop(0.0, "output limit")
        self._look_at = now + max(0.01, min(0.5, room / _DISK_SPEED))

    def _wait(self) -> float | None:
        """Seconds until something is due; None when only events matter."""
        if not self._given:
            return None
        now = time.monotonic()
        if self._kill_at is not None:
            return min(self._kill_at - now, self._tree.pace)
        if self._status is not None and not self._reported:
            return min(self._ended + _DRAIN, self._look_at) - now
        return self._look_at - now


def become_command(brief: int, refusal: int, parent: int, tree: Tree, confine: Confine) -> None:
    """Body of a command's process: get ready, wait for the order, turn into the command, under the
    limits that ``confine`` puts on it when the order has a box.

    The end of ``brief`` without an order ends the process. What prevents the exec goes to
    ``refusal``, which closes at the exec.
    """
    try:
        signal.set_wakeup_fd(-1)
        # Ignored signals would be inherited through exec.
        for number in (*IGNORED, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        tree.die_with(parent)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        frames = Frames()
        orders: list[Message] = []
        while not orders:
            data = os.read(brief, 1 << 20)
            if not data:
                return
            orders = frames.feed(data)
        _, _, argv, cwd, env, output, errors, _, box = orders[0]
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW
        os.dup2(os.open(output, flags, 0o600), 1)
        os.dup2(os.open(errors, flags, 0o600) if errors else 1, 2)
        os.chdir(cwd)
        if box is not None:
            argv = confine(box, argv)
            # The same folder, as it is in the command's own view of the files.
            os.chdir(cwd)
        if b"/" in argv[0]:
            os.execve(argv[0], argv, env)
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        os.write(refusal, pack(*_facts(error)))
    except BaseException as error:
        os.write(refusal, pack(0, f"{type(error).__name__}: {error}", ""))
    finally:
        os._exit(127)


def _facts(error: OSError) -> tuple[int, str, str]:
    path = error.filename
    where = os.fsdecode(path) if isinstance(path, bytes | str) else ""
    return error.errno or 0, error.strerror or str(error), where


# A Ctrl-C, a closed terminal or a ``kill`` of the model must not end those who clean up.
IGNORED = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE, signal.SIGXFSZ,
    signal.SIGTSTP, signal.SIGUSR1, signal.SIGUSR2,
)  # fmt: skip
