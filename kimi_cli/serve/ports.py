"""A port for a server, held from before it starts until it is gone.

vLLM binds its port minutes before it listens, and two programs that both allow the reuse of
addresses may bind the same one: the second finds out after it has loaded. Therefore a lock of our
own, besides a look at who has the port now.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

_MOST = 100
"""So many ports are tried in turn."""
_LAST = 65_535
_LISTENING = "0A"
"""Of the column `st` in /proc/net/tcp: the numbers of TCP's states (Linux, net/tcp_states.h)."""


class PortTaken(ValueError):
    """The port can't be used; the message says why and by whom."""


def take(
    home: Path, port: int, exact: bool, *, host: str = "127.0.0.1", name: str = ""
) -> tuple[int, int]:
    """Hold a port of `host`'s: the number and the descriptor of its lock, which is let go when
    every copy of the descriptor is closed.

    Unless `exact`, the next ports are tried in turn. `name` is what others are told about who has
    it. Raises PortTaken.
    """
    if not 1 <= port <= _LAST:
        raise PortTaken(f"{port} is no port: they go from 1 to {_LAST}")
    if exact:
        return port, _hold(home, port, host, name)
    last = min(port + _MOST - 1, _LAST)
    why = ""
    for number in range(port, last + 1):
        try:
            return number, _hold(home, number, host, name)
        except PortTaken as error:
            why = why or str(error)
    raise PortTaken(f"no port between {port} and {last} is free; of the first: {why}")


def _hold(home: Path, port: int, host: str, name: str) -> int:
    folder = home / "servers" / "ports"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = os.open(folder / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            who = os.pread(lock, 200, 0).decode("utf-8", "replace").strip()
            raise PortTaken(f"port {port} is held by {_server(who)}") from None
        _look(host, port)
        os.truncate(lock, 0)
        os.pwrite(lock, name.encode(), 0)
        return lock
    except BaseException:
        os.close(lock)
        raise


def _server(name: str) -> str:
    return f"the server {name} of kimi" if name else "a server of kimi"


def _look(host: str, port: int) -> None:
    """Whether the port can be bound now. Raises PortTaken."""
    for family, address in _addresses(host, port):
        wrong = _bind(family, address, reuse=False)
        if wrong == errno.EADDRINUSE and _only_remains(port):
            # Connections that are over keep a port for a minute from who does not allow reuse;
            # vLLM does.
            wrong = _bind(family, address, reuse=True)
        if not wrong:
            continue
        if wrong == errno.EADDRINUSE:
            who = listener(port)
            raise PortTaken(f"port {port} is in use{' by ' + who if who else ''}")
        if wrong == errno.EACCES:
            raise PortTaken(f"port {port} is for root alone; take one from 1024 on")
        if wrong == errno.EADDRNOTAVAIL:
            raise PortTaken(f"{host} is no address of this computer")
        raise PortTaken(f"port {port} of {host} can't be bound: {os.strerror(wrong)}")


def _addresses(host: str, port: int) -> list[tuple[int, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise PortTaken(f"{host} is no address of this computer") from None
    return list(dict.fromkeys((int(one[0]), tuple(one[4])) for one in found))


def _bind(family: int, address: tuple[object, ...], *, reuse: bool) -> int:
    """0, or why it can't be bound, as an error number."""
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if reuse:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        # A computer without IPv6 still resolves names to its addresses.
        absent = family == socket.AF_INET6 and error.errno in (
            errno.EAFNOSUPPORT,
            errno.EADDRNOTAVAIL,
        )
        return 0 if absent else error.errno or errno.EINVAL
    return 0


def _only_remains(port: int) -> bool:
    """Whether there are connections at the port, and nobody listens."""
    states = [state for state, _ in _sockets(port)]
    return bool(states) and _LISTENING not in states


def _sockets(port: int) -> Iterator[tuple[str, str]]:
    """State and inode of each socket at a local port (proc_pid_net(5))."""
    for table in ("tcp", "tcp6"):
        with suppress(OSError), open(f"/proc/net/{table}", encoding="ascii") as file:
            for line in file:
                words = line.split()
                if len(words) > 9 and words[1].endswith(f":{port:04X}"):
                    yield words[3], words[9]


def listener(port: int) -> str:
    """Who listens at a port: ``python3 (pid 812)``; "" when it can't be told, as of other users'
    processes."""
    wanted = {f"socket:[{inode}]" for state, inode in _sockets(port) if state == _LISTENING}
    if not wanted:
        return ""
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        with suppress(OSError):
            for descriptor in (process / "fd").iterdir():
                with suppress(OSError):
                    if os.readlink(descriptor) in wanted:
                        name = (process / "comm").read_text("utf-8", "replace").strip()
                        return f"{name} (pid {process.name})"
    return ""
