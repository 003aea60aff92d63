"""What the scripted server remembers of a request, and cheap looks into an unparsed body.

A JSON key inside a JSON *string* is always written `\\"key\\"`, so searching the raw bytes for
`"key"` finds real keys only. That spares a benchmark the parsing of a megabyte a request.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

_BLOCK = 1 << 16
_TRUE = re.compile(rb"\s*:\s*true\b")
_STRING = re.compile(rb'\s*:\s*("(?:[^"\\]|\\.)*")')
_INDEX = re.compile(r":(\d+)$")
_TOOL_CALL_ID = b'"tool_call_id"'
_AFTER_MESSAGES = re.compile(rb'\](?:,"max_(?:completion_)?tokens":\d+)?\}$')


@dataclass(eq=False)
class Recorded:
    """One request as it arrived.

    Times are time.monotonic_ns(): first byte in, whole body in, last byte out (0 until then).
    `outcome`: open, answered, dropped (by the script), client left, server closed, or failed (a
    Reply that cannot be played).
    `shared_prefix`: how many leading bytes of the body equal the chat request before it.
    """

    index: int
    method: str
    path: str
    headers: dict[str, str]
    raw: bytes
    arrived_ns: int
    received_ns: int
    answered_ns: int = 0
    status: int = 0
    outcome: str = "open"
    shared_prefix: int = 0
    problems: list[str] = field(default_factory=list)

    @cached_property
    def body(self) -> dict[str, Any]:
        """The parsed body; ValueError when it is no JSON object."""
        body = json.loads(self.raw)
        if not isinstance(body, dict):
            raise ValueError("the request body is not a JSON object")
        return body

    @property
    def conversation(self) -> bytes:
        """The body up to the end of its last message: what the next request has to begin with.
        Behind it stands only the limit of the answer's length, which may change."""
        return self.raw[: conversation_bytes(self.raw)]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages of a chat request."""
        messages: list[dict[str, Any]] = self.body["messages"]
        return messages


def conversation_bytes(raw: bytes) -> int:
    """How many bytes of a body of ours come before the end of its list of messages. A body that
    goes on with anything but the limit of the answer's length counts as a whole."""
    end = _AFTER_MESSAGES.search(raw, max(0, len(raw) - 64))
    return end.start() if end else len(raw)


def has_flag(raw: bytes, key: str) -> bool:
    """Whether the JSON text `raw` holds `"key": true`."""
    return any(_TRUE.match(raw, end) for end in _ends(raw, key))


def string_value(raw: bytes, key: str) -> str | None:
    """A string value of `key` in the JSON text `raw`."""
    values = (_STRING.match(raw, end) for end in _ends(raw, key))
    return next((str(json.loads(value[1])) for value in values if value), None)


def next_call_index(raw: bytes) -> int:
    """The IDX of the conversation's next tool call, read off the results of its newest step.

    Where the ids carry no index (call_abc), it is the number of results.
    """
    newest_step = max(0, raw.rfind(b'"tool_calls"'))
    highest = -1
    for end in _found(raw, _TOOL_CALL_ID, newest_step, len(raw)):
        value = _STRING.match(raw, end)
        if value and (index := _INDEX.search(json.loads(value[1]))):
            highest = max(highest, int(index[1]))
    return highest + 1 if highest >= 0 else raw.count(_TOOL_CALL_ID)


def shared_prefix(one: bytes, other: bytes) -> int:
    """How many leading bytes are the same in both."""
    shortest = min(len(one), len(other))
    start = 0
    while start < shortest and one[start : start + _BLOCK] == other[start : start + _BLOCK]:
        start += _BLOCK
    # The last blocks differ in length when one text is the start of the other.
    low, high = min(start, shortest), min(start + _BLOCK, shortest)
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _ends(raw: bytes, key: str) -> Iterator[int]:
    """Where each `"key"` in raw ends; the tail first, where clients write the short top keys."""
    quoted = json.dumps(key).encode()
    tail = max(0, len(raw) - _BLOCK)
    yield from _found(raw, quoted, tail, len(raw))
    yield from _found(raw, quoted, 0, min(len(raw), tail + len(quoted) - 1))


def _found(raw: bytes, what: bytes, start: int, end: int) -> Iterator[int]:
    """Where each `what` in raw[start:end] ends."""
    while (start := raw.find(what, start, end)) >= 0:
        start += len(what)
        yield start
