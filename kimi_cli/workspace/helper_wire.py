"""Frames between kimi, its helper process and the helper's supervisors.

A frame is a four-byte length and a marshalled tuple. marshal and not JSON: both ends are the same
interpreter, bytes need no escaping, and without ``json`` and ``re`` the helper starts faster and
forks a smaller process.
"""

from __future__ import annotations

import marshal

TYPE_CHECKING = False  # importing typing would double the helper's start
if TYPE_CHECKING:
    from typing import Any

    Message = tuple[Any, ...]

_HEAD = 4


def pack(*message: Any) -> bytes:
    """One message (a name and its values, all of marshal's plain types) as a frame."""
    body = marshal.dumps(message)
    return len(body).to_bytes(_HEAD, "big") + body


class Frames:
    """Cuts a byte stream into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes; return the messages that are complete now."""
        buffer = self._buffer
        buffer += data
        messages = []
        begin = 0
        while len(buffer) - begin >= _HEAD:
            end = begin + _HEAD + int.from_bytes(buffer[begin : begin + _HEAD], "big")
            if len(buffer) < end:
                break
            messages.append(marshal.loads(buffer[begin + _HEAD : end]))
            begin = end
        del buffer[:begin]
        return messages
