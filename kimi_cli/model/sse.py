"""Server-sent events, decoded as the bytes arrive (WHATWG HTML, "Server-sent events")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Event:
    """One event; ``data`` of a comment (a keep-alive) is None."""

    data: str | None
    name: str = ""


class Decoder:
    """Bytes in, events out, however the bytes were cut.

    Takes all three line ends, data without a space after the colon, data over several lines and
    a last event without its empty line. Bytes that are no UTF-8 become U+FFFD.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._after_cr = False
        self._started = False
        self._data: list[str] = []
        self._name = ""

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that are complete with these bytes."""
        if self._after_cr and chunk[:1] == b"\n":
            chunk = chunk[1:]
            self._after_cr = False
        if not chunk:
            return []
        self._after_cr = chunk.endswith(b"\r")
        if b"\r" in chunk:
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        if b"\n" not in chunk:
            self._rest += chunk
            return []
        lines = (self._rest + chunk).split(b"\n")
        self._rest = lines.pop()
        return list(self._lines(lines))

    def finish(self) -> list[Event]:
        """The event that the end of the stream completes, if there is one."""
        lines, self._rest = [self._rest, b""], b""
        return list(self._lines(lines))

    def _lines(self, lines: list[bytes]) -> Iterator[Event]:
        for line in lines:
            if not self._started:
                self._started = True
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line:
                if self._data:
                    yield Event("\n".join(self._data), self._name)
                self._data, self._name = [], ""
            elif line[:1] == b":":
                yield Event(None)
            else:
                field, _, value = line.partition(b":")
                if field == b"data":
                    self._data.append(value.removeprefix(b" ").decode(errors="replace"))
                elif field == b"event":
                    self._name = value.removeprefix(b" ").decode(errors="replace")
