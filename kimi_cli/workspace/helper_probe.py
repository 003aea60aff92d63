"""What the sandbox can hold on this machine: each thing is done, in a process of its own."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from kimi_cli.workspace import helper_bubblewrap as bubblewrap
    from kimi_cli.workspace import helper_landlock as landlock
    from kimi_cli.workspace import helper_seccomp as seccomp
    from kimi_cli.workspace.helper_box import confine
    from kimi_cli.workspace.helper_wire import Frames, pack

    Spaces = tuple[bytes, bytes, bytes]
else:
    import helper_bubblewrap as bubblewrap
    import helper_landlock as landlock
    import helper_seccomp as seccomp
    from helper_box import confine
    from helper_wire import Frames, pack

_WAYS = ("namespaces", "bubblewrap", "landlock", "none")
_PATIENCE = 3

_NO_OUTSIDE_SIGNALS = "signals and abstract unix sockets of processes outside"
_NO_FILTER = "rare kinds of sockets and io_uring (no system call filter for this machine)"
_NOT_BY_BUBBLEWRAP = (_NO_OUTSIDE_SIGNALS,)
_NOT_BY_LANDLOCK = (
    "protected files inside writable folders",
    "modes, owners and times of files outside",
    "unix sockets of other programs",
)


def probe(folder: bytes, best: str, spaces: Callable[[], Spaces]) -> dict[str, Any]:
    """Try the ways to confine a command, best first from ``best`` on, in a folder of ours made in
    ``folder``. ``spaces`` gives the session's namespaces or raises OSError. Returns the fields of
    ``Probe``; never raises, and ends in seconds if everything hangs."""
    began = time.perf_counter()
    version = landlock.abi()
    facts: dict[str, Any] = {"way": "none", "lacks": (), "landlock_abi": version}
    reasons = []
    try:
        with _sample(folder or os.environb.get(b"TMPDIR") or b"/tmp") as sample:
            for way in _WAYS[_WAYS.index(best or _WAYS[0]) : -1]:
                try:
                    facts |= _attempt(way, sample, spaces)
                    facts["lacks"] = _lacks(way, version)
                    break
                except OSError as error:
                    reasons.append(f"{way}: {error.strerror or error}")
    except OSError as error:
        reasons.append(f"no sample of files can be made: {error}")
    return facts | {"why": "; ".join(reasons), "seconds": time.perf_counter() - began}


def _lacks(way: str, version: int) -> tuple[str, ...]:
    lacks = {"bubblewrap": _NOT_BY_BUBBLEWRAP, "landlock": _NOT_BY_LANDLOCK}.get(way, ())
    if version < 6 and _NO_OUTSIDE_SIGNALS not in lacks:
        lacks += (_NO_OUTSIDE_SIGNALS,)
    if way == "landlock" and version < 3:
        lacks += ("cutting files outside short",)
    return lacks if seccomp.supported() else (*lacks, _NO_FILTER)


class _sample:
    """A folder with one of each kind of thing a box tells apart."""

    def __init__(self, folder: bytes) -> None:
        name = b"kimi-probe-%d-%s" % (os.getpid(), os.urandom(6).hex().encode())
        self.root = os.path.join(os.path.realpath(folder), name)

    def path(self, name: bytes) -> bytes:
        return self.root + b"/" + name

    def __enter__(self) -> _sample:
        os.mkdir(self.root, 0o700)
        for name in (b"in", b"in/kept", b"out", b"secret", b"lower", b"upper", b"work"):
            os.mkdir(self.path(name), 0o700)
        for name in (b"in/kept/file", b"out/file", b"secret/file", b"lower/file"):
            with open(self.path(name), "wb") as file:
                file.write(b"content")
        return self

    def __exit__(self, *_: object) -> None:
        for folder, folders, files in os.walk(self.root, topdown=False):
            with contextlib.suppress(OSError):
                for name in files:
                    os.unlink(os.path.join(folder, name))
                for name in folders:
                    os.rmdir(os.path.join(folder, name))
        with contextlib.suppress(OSError):
            os.rmdir(self.root)

    def box(self, way: str, overlays: bool) -> dict[str, Any]:
        layers = ((self.path(b"lower"), self.path(b"upper"), self.path(b"work")),)
        return {
            "way": way,
            "mode": "workspace-write",
            "network": False,
            "write": (self.path(b"in"),),
            "pinned": (),
            "read_only": (self.path(b"in/kept"),),
            "hidden": (self.path(b"secret"),),
            "shown": (),
            "overlays": layers if overlays else (),
            "temp": (),
        }


def _attempt(way: str, sample: _sample, spaces: Callable[[], Spaces]) -> dict[str, Any]:
    """The facts of a way that holds; raises OSError when it does not."""
    if way == "bubblewrap":
        program = bubblewrap.find()
        if not program:
            raise OSError(errno.ENOENT, "the program bwrap is not there")
        _try(sample.box(way, False), sample)
        return {"way": way, "program": os.fsdecode(program)}
    if way == "landlock":
        _try(sample.box(way, False), sample)
        return {"way": way}
    names = spaces()
    overlays = True
    try:
        _try(sample.box(way, True) | {"spaces": names}, sample)
    except OSError:
        overlays = False
        _try(sample.box(way, False) | {"spaces": names}, sample)
    return {"way": way, "overlays": overlays}


def _try(box: dict[str, Any], sample: _sample) -> None:
    # Not ``socket``: that module is a large one, and the first command may be waiting.
    import _socket

    listener = _socket.socket(_socket.AF_INET, _socket.SOCK_STREAM)
    news, news_end = os.pipe()
    pid = -1
    try:
        with contextlib.suppress(OSError):
            # Where there is no loopback at all nothing can be reached either.
            listener.bind(("127.0.0.1", 0))
            listener.listen(1)
        address = listener.getsockname()
        pid = os.fork()
        if pid == 0:
            _child(box, sample, news_end, address)
        os.close(news_end)
        news_end = -1
        poll = select.poll()
        poll.register(news, select.POLLIN)
        if not poll.poll(_PATIENCE * 1000):
            raise OSError(errno.ETIMEDOUT, "trying it took too long")
        answers = Frames().feed(os.read(news, 65536))
        if not answers:
            raise OSError(errno.ECHILD, "the process that tried it ended")
        [(number, what)] = answers
        if number:
            raise OSError(number, what)
    finally:
        listener.close()
        for fd in (news, news_end):
            if fd >= 0:
                os.close(fd)
        if pid > 0:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _child(box: dict[str, Any], sample: _sample, news: int, address: tuple[str, int]) -> None:
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(_PATIENCE + 1)
        os.setsid()
        if box["way"] == "bubblewrap":
            _in_bubblewrap(box, sample, address)
        else:
            confine(box, [])
            _check(box, sample, address)
        os.write(news, pack(0, ""))
    except OSError as error:
        os.write(news, pack(error.errno or errno.EIO, error.strerror or str(error)))
    except BaseException as error:
        os.write(news, pack(errno.EIO, f"{type(error).__name__}: {error}"))
    finally:
        os._exit(0)


def _check(box: dict[str, Any], sample: _sample, address: tuple[str, int]) -> None:
    """In the box: raise OSError when something is not as it should be."""
    import _socket

    os.close(os.open(sample.path(b"in/new"), os.O_WRONLY | os.O_CREAT, 0o600))
    os.unlink(sample.path(b"in/new"))
    _refused("a file outside", lambda: os.open(sample.path(b"out/file"), os.O_WRONLY))
    _refused("a new file outside", lambda: os.mkdir(sample.path(b"out/new")))
    _refused("what is hidden", lambda: os.open(sample.path(b"secret/file"), os.O_RDONLY))
    if box["way"] == "namespaces":
        _refused("what is kept", lambda: os.open(sample.path(b"in/kept/file"), os.O_WRONLY))
        _refused("moving what is kept", lambda: os.rename(sample.path(b"in/kept"), b"moved"))
        _refused("modes outside", lambda: os.chmod(sample.path(b"out/file"), 0o777))
    for target, _, _ in box["overlays"]:
        with open(target + b"/file", "ab") as file:
            file.write(b"more")
    _refused("the network", lambda: _connect(_socket, address))
    if landlock.abi() >= 6:
        _refused("a signal", lambda: os.kill(os.getppid(), 0))


def _connect(module: Any, address: tuple[str, int]) -> None:
    plain = module.socket(module.AF_INET, module.SOCK_STREAM)
    plain.settimeout(1.0)
    plain.connect(address)


def _refused(what: str, act: Callable[[], object]) -> None:
    try:
        act()
    except OSError:
        return
    raise OSError(errno.EIO, f"it did not hold for {what}")


# The same for a shell, as bubblewrap runs a program: the status tells which did not hold.
_SCRIPT = b"""
cd "$0" || exit 10
: > in/new || exit 11
rm in/new
if (: > out/file) 2>/dev/null; then exit 12; fi
if (: > in/kept/file) 2>/dev/null; then exit 13; fi
if [ -e secret/file ]; then exit 14; fi
exit 0
"""


def _in_bubblewrap(box: dict[str, Any], sample: _sample, address: tuple[str, int]) -> None:
    # The network needs no look: a new namespace was asked for, or the program fails.
    del address
    silence = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(silence, fd)
    words = confine(box, [b"/bin/sh", b"-c", _SCRIPT, sample.root])
    pid = os.fork()
    if pid == 0:
        try:
            os.execv(words[0], words)
        finally:
            os._exit(127)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise OSError(errno.EPERM, f"bwrap does not work here (status {status})")
