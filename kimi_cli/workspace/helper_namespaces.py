"""The namespaces that the commands of a session share: user, network and IPC.

They are made once, by a child of the helper that then ends; open descriptors keep them. Inside, a
command has its own ids and none else's power, a network with a loopback of its own, and can't
make user namespaces of its own (user_namespaces(7)).
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from kimi_cli.workspace import helper_kernel as kernel
    from kimi_cli.workspace.helper_wire import Frames, pack
else:
    import helper_kernel as kernel
    from helper_wire import Frames, pack

_PATIENCE = 5.0
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


class Session:
    """The namespaces of one session, held open by this process."""

    def __init__(self, user: int, net: int, ipc: int) -> None:
        self._fds = (user, net, ipc)

    def paths(self) -> tuple[bytes, bytes, bytes]:
        """Where another process of this user can open them while this one lives."""
        user, net, ipc = (b"/proc/%d/fd/%d" % (os.getpid(), fd) for fd in self._fds)
        return user, net, ipc

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)


def open_session() -> Session:
    """Make the namespaces of a session. Raises OSError when this machine refuses them."""
    news, news_end = os.pipe()
    leave_end, leave = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(news)
            os.close(leave)
            _founder(leave_end, news_end)
        finally:
            os._exit(1)
    os.close(news_end)
    os.close(leave_end)
    fds: list[int] = []
    try:
        _hear(news)
        os.write(leave, b"mapped" if _map_alike(pid) else b"map it")
        _hear(news)
        for name in ("user", "net", "ipc"):
            fds.append(os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY))
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise
    finally:
        os.close(news)
        os.close(leave)
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return Session(*fds)


def enter(paths: tuple[bytes, bytes, bytes], *, network: bool) -> None:
    """Move this single-threaded process into a session's namespaces; with ``network`` it keeps the
    network that it has."""
    kinds = (kernel.CLONE_NEWUSER, kernel.CLONE_NEWNET, kernel.CLONE_NEWIPC)
    fds = [os.open(path, os.O_RDONLY) for path in paths]
    for fd, kind in zip(fds, kinds, strict=True):
        if not (network and kind == kernel.CLONE_NEWNET):
            kernel.setns(fd, kind)
        os.close(fd)


def _hear(news: int) -> None:
    poll = select.poll()
    poll.register(news, select.POLLIN)
    if not poll.poll(_PATIENCE * 1000):
        raise OSError(errno.ETIMEDOUT, "making namespaces took too long")
    data = os.read(news, 4096)
    if not data:
        raise OSError(errno.ECHILD, "the process that makes namespaces ended")
    [(number, what)] = Frames().feed(data)
    if number:
        raise OSError(number, what)


def _founder(orders: int, news: int) -> None:
    """Body of the process that makes the namespaces; it stays until it is killed."""
    uid, gid = os.geteuid(), os.getegid()
    try:
        kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNET | kernel.CLONE_NEWIPC)
        os.write(news, pack(0, ""))
        if os.read(orders, 64) == b"map it":
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{uid} {uid} 1")
            _write("/proc/self/gid_map", f"{gid} {gid} 1")
        # Where /proc/sys is read-only (a container) this stays; what a namespace made inside could
        # do is then limited by its mounts being locked, by Landlock and by the lost capabilities.
        with contextlib.suppress(OSError):
            _write("/proc/sys/user/max_user_namespaces", "0")
        _raise_loopback()
        os.write(news, pack(0, ""))
    except OSError as error:
        os.write(news, pack(error.errno or errno.EIO, str(error.strerror)))
    os.read(orders, 1)


def _map_alike(pid: int) -> bool:
    """Map every id that exists here to itself, so that a privileged user keeps files of several
    owners apart; False when we may not."""
    held = kernel.capabilities()
    if not held >> kernel.CAP_SETUID & held >> kernel.CAP_SETGID & 1:
        return False
    try:
        for kind in ("uid_map", "gid_map"):
            with open(f"/proc/self/{kind}") as file:
                rows = [line.split() for line in file]
            _write(f"/proc/{pid}/{kind}", "".join(f"{a} {a} {count}\n" for a, _, count in rows))
    except PermissionError:
        # If only the second failed, so will the founder's own attempt, and that is told.
        return False
    return True


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY)
    try:
        os.write(fd, text.encode())
    except OSError as error:
        raise OSError(error.errno, f"writing {path}: {error.strerror}") from None
    finally:
        os.close(fd)


def _raise_loopback() -> None:
    # Not ``socket``: that module is a large one, and the first command may be waiting.
    import _socket
    import fcntl
    import struct

    plain = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    request = struct.pack("=16sH22x", b"lo", 0)
    flags = struct.unpack("=16sH22x", fcntl.ioctl(plain.fileno(), _SIOCGIFFLAGS, request))[1]
    fcntl.ioctl(plain.fileno(), _SIOCSIFFLAGS, struct.pack("=16sH22x", b"lo", flags | _IFF_UP))
    plain.close()
