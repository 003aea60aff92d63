"""Plays one Reply on one connection, with its delays and faults."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from tests.support import sse, wire
from tests.support.replies import Reply
from tests.support.sse import Moment
from tests.support.wire import Connection

Ended = Callable[[int, str], None]
"""Told the status and the outcome just before the last byte, so that a client never sees the end
of an answer that the record still calls open."""


@dataclass(frozen=True)
class Player:
    """One answer on its way; `play` says whether the connection can take another request."""

    connection: Connection
    reply: Reply
    moment: Moment
    ended: Ended

    def play(self) -> bool:
        reply = self.reply
        if reply.delay_headers:
            self.connection.wait(reply.delay_headers)
        if reply.stall_after == "headers":
            self.connection.wait(None)
        if reply.drop_after == "headers":
            return self._drop("fin" if reply.drop == "end" else reply.drop, 0)
        if reply.body is not None:
            return self._whole(reply.status, reply.content_type, reply.body)
        if self.moment.stream:
            return self._stream(sse.events(reply, self.moment))
        return self._whole(*self._completion())

    def _completion(self) -> tuple[int, str, bytes]:
        if self.reply.error_after is not None:
            error = sse.dumps({"error": dict(self.reply.error)})
            return 500, "application/json", error.encode()
        return 200, "application/json", sse.completion(self.reply, self.moment)

    def _stream(self, events: list[bytes]) -> bool:
        reply = self.reply
        headers = {
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-cache",
            "Transfer-Encoding": "chunked",
        }
        self.connection.send(wire.head(200, self._headers(headers)))
        total = len(events)
        faults = {
            "malformed": _place(reply.malformed_after, total),
            "error": _place(reply.error_after, total),
            "stall": _place(reply.stall_after, total),
            "drop": _place(reply.drop_after, total),
        }
        unsent = b""
        for number in range(total + 1):
            due = [fault for fault, place in faults.items() if place == number]
            if due:
                self.connection.send(unsent)
                unsent = b""
                if (keep := self._fault(due)) is not None:
                    return keep
            if number == total:
                break
            # The newest event is held back so that the end of the body can travel with [DONE].
            if unsent:
                self.connection.send(unsent)
                unsent = b""
            pause = reply.delay_between if number else reply.delay_first
            if pause:
                self.connection.wait(pause)
            unsent = wire.chunks(events[number], reply.http_chunk)
        self.ended(200, "answered")
        self.connection.send(unsent + wire.LAST_CHUNK)
        return True

    def _fault(self, due: list[str]) -> bool | None:
        """Carry out the faults of one place; None: the stream goes on."""
        reply = self.reply
        if "malformed" in due:
            broken = sse.event('{"id":"chatcmpl-broken","choices":[{"delta":{"con', reply)
            self.connection.send(wire.chunks(broken))
        if "error" in due:
            error = sse.event(sse.dumps({"error": dict(reply.error)}), reply)
            self.ended(200, "answered")
            self.connection.send(wire.chunks(error) + wire.LAST_CHUNK)
            return True
        if "stall" in due:
            self._stall()
        if "drop" in due:
            return self._drop(reply.drop, 200)
        return None

    def _stall(self) -> None:
        while True:
            self.connection.wait(self.reply.stall_pings or None)
            self.connection.send(wire.chunks(b": keep-alive\n\n"))

    def _drop(self, how: Literal["rst", "fin", "end"], status: int) -> bool:
        self.ended(status, "dropped")
        if how == "end":
            self.connection.send(wire.LAST_CHUNK)
            return True
        if how == "rst":
            self.connection.reset()
        else:
            self.connection.close()
        return False

    def _whole(self, status: int, content_type: str, body: bytes) -> bool:
        """An answer in one piece; a fault inside it strikes after half of the body."""
        reply = self.reply
        headers = {"Content-Type": content_type}
        if reply.http_chunk:
            headers["Transfer-Encoding"] = "chunked"
        else:
            headers["Content-Length"] = str(len(body))
        opening = wire.head(status, self._headers(headers))
        point = reply.drop_after if reply.stall_after is None else reply.stall_after
        if point is not None:
            half = body[: len(body) // 2] if point else b""
            self.connection.send(opening + self._framed(half))
            if reply.stall_after is not None:
                self.connection.wait(None)
            return self._drop("fin" if reply.drop == "end" else reply.drop, status)
        if reply.delay_first:
            self.connection.send(opening)
            opening = b""
            self.connection.wait(reply.delay_first)
        self.ended(status, "answered")
        end = wire.LAST_CHUNK if reply.http_chunk else b""
        self.connection.send(opening + self._framed(body) + end)
        return True

    def _framed(self, body: bytes) -> bytes:
        return wire.chunks(body, self.reply.http_chunk) if self.reply.http_chunk else body

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        identity = {"x-request-id": f"req-{self.moment.number}"}
        return {**headers, **identity, **self.reply.headers}


def _place(point: int | str | None, total: int) -> int | None:
    return min(point, total) if isinstance(point, int) else None
