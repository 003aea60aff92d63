"""HTTP/1.1 on a socket, server side: requests in, bytes out, waits that notice a client's leaving.

Written on plain sockets because the benchmarks need a server that costs next to nothing, and the
fault scripts one that can cut a connection at any byte.
"""

import contextlib
import select
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

_RECEIVE = 1 << 16
_HEAD_LIMIT = 1 << 20
_RDHUP = getattr(select, "POLLRDHUP", 0)


class Gone(Exception):
    """The connection ended while it was needed."""


@dataclass(frozen=True)
class Request:
    """One HTTP request; header names in lower case, times from time.monotonic_ns()."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    arrived_ns: int
    received_ns: int

    @property
    def keep_alive(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


class Connection:
    """A client's connection. One thread uses it; `cut` may come from another."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._sock = sock
        self._pending = bytearray()

    def read_request(self) -> Request | None:
        """The next request; None when the client closed between requests."""
        if not self._pending and not self._receive():
            return None
        arrived = time.monotonic_ns()
        try:
            return self._request(arrived)
        except ValueError as error:
            self.send(head(400, {"Content-Length": "0", "Connection": "close"}))
            raise Gone from error

    def send(self, data: bytes) -> None:
        """Write it all now."""
        try:
            self._sock.sendall(data)
        except OSError as error:
            raise Gone from error

    def wait(self, seconds: float | None) -> None:
        """Do nothing for so long (None: for ever); Gone as soon as the client leaves."""
        deadline = None if seconds is None else time.monotonic() + seconds
        poller = select.poll()
        poller.register(self._sock, select.POLLIN | _RDHUP)
        while True:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return
            if not poller.poll(None if left is None else left * 1000 + 1):
                continue
            try:
                if not self._sock.recv(1, socket.MSG_PEEK):
                    raise Gone
            except OSError as error:
                raise Gone from error
            # A pipelined request is readable for ever: from here only a hang-up counts.
            poller.modify(self._sock, _RDHUP)
            if poller.poll(0):
                raise Gone

    def cut(self) -> None:
        """End it in both directions; wakes the thread that uses it."""
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """An orderly end (FIN)."""
        self.cut()
        self._sock.close()

    def reset(self) -> None:
        """A rude end (RST)."""
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def _request(self, arrived: int) -> Request:
        head = self._until(b"\r\n\r\n").decode("latin-1").split("\r\n")
        method, path, *_ = head[0].split(" ")
        headers: dict[str, str] = {}
        for line in head[1:]:
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        if headers.get("expect", "").lower() == "100-continue":
            self.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = self._chunked()
        else:
            body = self._exactly(int(headers.get("content-length", "0")))
        return Request(method, path, headers, body, arrived, time.monotonic_ns())

    def _receive(self) -> bool:
        try:
            data = self._sock.recv(_RECEIVE)
        except OSError as error:
            raise Gone from error
        self._pending += data
        return bool(data)

    def _until(self, mark: bytes) -> bytes:
        """What comes before the mark; both are consumed."""
        looked = 0
        while (at := self._pending.find(mark, looked)) < 0:
            looked = max(0, len(self._pending) - len(mark))
            if len(self._pending) > _HEAD_LIMIT or not self._receive():
                raise Gone
        found = bytes(self._pending[:at])
        del self._pending[: at + len(mark)]
        return found

    def _exactly(self, size: int) -> bytes:
        body = bytearray(size)
        have = min(size, len(self._pending))
        body[:have] = self._pending[:have]
        del self._pending[:have]
        view = memoryview(body)
        while have < size:
            try:
                got = self._sock.recv_into(view[have:])
            except OSError as error:
                raise Gone from error
            if not got:
                raise Gone
            have += got
        return bytes(body)

    def _chunked(self) -> bytes:
        body = bytearray()
        while size := int(self._until(b"\r\n").split(b";")[0], 16):
            body += self._exactly(size)
            self._until(b"\r\n")
        while self._until(b"\r\n"):
            pass
        return bytes(body)


def head(status: int, headers: Mapping[str, str]) -> bytes:
    """Status line and headers."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{k}: {v}" for k, v in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def chunks(data: bytes, size: int | None = None) -> bytes:
    """The data as HTTP chunks of that size, or as one."""
    step = size or len(data)
    cut = [data[at : at + step] for at in range(0, len(data), step)] if data else []
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in cut)


LAST_CHUNK = b"0\r\n\r\n"
