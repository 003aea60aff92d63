"""Recovers tool calls whose markers leaked into text or reasoning, and hides the markers.

Kimi K2 writes its calls between special tokens (its chat template; the repository's
docs/tool_call_guidance.md)::

    <|tool_calls_section_begin|><|tool_call_begin|>functions.NAME:IDX
    <|tool_call_argument_begin|>{...}<|tool_call_end|><|tool_calls_section_end|>

and K3 in a markup of its own::

    <|open|>tools<|sep|><|open|>call tool="NAME" index="1"<|sep|>
    <|open|>argument key="K" type="string"<|sep|>VALUE<|close|>argument<|sep|>
    <|close|>call<|sep|><|close|>tools<|sep|>

A server's parser that misses them passes them on as text. Everything here depends on the text
only, never on how it was cut into pieces, and no more is held back than what may still become a
marker.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import dataclass

_SECTION_BEGINS = ("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>")
_SECTION_ENDS = ("<|tool_calls_section_end|>", "<|tool_call_section_end|>")
_CALL_BEGIN = "<|tool_call_begin|>"
_ARGUMENTS = "<|tool_call_argument_begin|>"
_CALL_END = "<|tool_call_end|>"
_K3_TOOLS = "<|open|>tools<|sep|>"
_K3_TOOLS_END = "<|close|>tools<|sep|>"
_K3_CALL = "<|open|>call "
_SEPARATOR = "<|sep|>"
_K3_CALL_END = "<|close|>call<|sep|>"
_K3_FRAMES = tuple(
    f"<|{side}|>{frame}<|sep|>"
    for side in ("open", "close")
    for frame in ("think", "response", "message")
)
_K2_MARKERS = (*_SECTION_BEGINS, *_SECTION_ENDS, _CALL_BEGIN, _ARGUMENTS, _CALL_END)
_MARKERS = (*_K2_MARKERS, _K3_TOOLS, _K3_TOOLS_END, _K3_CALL, _K3_CALL_END, *_K3_FRAMES)
_ENDERS = (_CALL_END, *_SECTION_ENDS, _CALL_BEGIN, *_SECTION_BEGINS)
_LONGEST = max(map(len, _MARKERS))

_HEAD = re.compile(r"\s*[^\s{<]*\s*")
_LONGEST_HEAD = 256
_QUOTES = re.compile(r'\\.|"', re.DOTALL)
_ENDER = re.compile("|".join(map(re.escape, _ENDERS)))
_K3_ENDER = re.compile(re.escape(_K3_CALL_END) + "|" + re.escape(_K3_TOOLS_END))
_K3_HEADER = re.compile(r'<\|open\|>call ((?:[\w-]+="[^"]*"\s*)+)<\|sep\|>')
_K3_ATTRIBUTE = re.compile(r'([\w-]+)="([^"]*)"')
_K3_ARGUMENT = re.compile(
    r'<\|open\|>argument ((?:[\w-]+="[^"]*"\s*)+)<\|sep\|>(.*?)<\|close\|>argument<\|sep\|>',
    re.DOTALL,
)
_K3_JSON = re.compile(r"<\|open\|>json[^<]*<\|sep\|>(.*?)<\|close\|>json<\|sep\|>", re.DOTALL)
_FENCE = re.compile(r" {0,3}(```|~~~)")


@dataclass(frozen=True, slots=True)
class Leaked:
    """A call found in text. ``name`` is as the model wrote it, ``functions.X:3`` for instance."""

    name: str
    arguments: str


class Salvager:
    """Filters one channel of an answer, its text or its reasoning.

    ``calls`` are the calls found so far, ``lost`` counts those that were cut off too early to be
    recovered, ``hidden`` the markers that were not shown.
    """

    def __init__(self) -> None:
        self.calls: list[Leaked] = []
        self.lost = 0
        self.hidden = 0
        self._buffer = ""
        self._searched = 0
        self._name = ""
        self._state: Callable[[], str | None] = self._outside
        self._code = _Code()

    def feed(self, text: str) -> str:
        """Take a piece of the channel; returns what of it, and of what was held back, is to be
        shown."""
        if not self._buffer and "<" not in text and self._state == self._outside:
            self._code.pending.append(text)
            return text
        self._buffer += text
        return self._run()

    def finish(self) -> str:
        """The channel has ended; returns what was still held back and is to be shown."""
        if self._state == self._in_arguments:
            return self._cut_off_arguments()
        rest, self._buffer = self._buffer, ""
        if self._state == self._outside:
            return rest
        if self._state == self._in_head:
            self.lost += bool(rest.strip())
        elif self._state == self._in_k3_call:
            if "tool=" not in rest:
                return rest[len(_K3_CALL) :]
            self.lost += not (_K3_JSON.search(rest) and self._k3_call(rest))
        return ""

    def _run(self) -> str:
        """Go on until a state needs more text (it returns None)."""
        shown = []
        while (piece := self._state()) is not None:
            if piece:
                self._code.pending.append(piece)
                shown.append(piece)
        return "".join(shown)

    def _go(self, state: Callable[[], str | None], skip: int) -> str:
        """Drop ``skip`` characters and change the state; nothing is shown."""
        self._buffer = self._buffer[skip:]
        self._searched = 0
        self._state = state
        return ""

    def _outside(self) -> str | None:
        start = self._buffer.find("<")
        while start >= 0:
            marker = _match(self._buffer, start, _MARKERS)
            if marker == "":
                break
            if marker is not None and not self._code.holds(self._buffer[:start]):
                if start:
                    return self._show(start)
                self.hidden += 1
                return self._go(self._after(marker), 0 if marker == _K3_CALL else len(marker))
            start = self._buffer.find("<", start + 1)
        return self._show(len(self._buffer) if start < 0 else start) or None

    def _show(self, length: int) -> str:
        shown, self._buffer = self._buffer[:length], self._buffer[length:]
        return shown

    def _after(self, marker: str) -> Callable[[], str | None]:
        if marker in _SECTION_BEGINS:
            return self._between
        if marker == _CALL_BEGIN:
            return self._in_head
        if marker == _K3_TOOLS:
            return self._between_k3
        return self._in_k3_call if marker == _K3_CALL else self._outside

    def _between(self) -> str | None:
        """Before, between and after the calls of a section: only markers continue it."""
        return self._next_in_section(_K2_MARKERS, self._between)

    def _between_k3(self) -> str | None:
        return self._next_in_section((_K3_CALL, _K3_CALL_END, _K3_TOOLS_END), self._between_k3)

    def _next_in_section(
        self, markers: tuple[str, ...], here: Callable[[], str | None]
    ) -> str | None:
        rest = self._buffer.lstrip()
        if not rest:
            return None
        marker = _match(rest, 0, markers)
        if marker == "":
            return None
        skip = len(self._buffer) - len(rest)
        if marker is None:
            return self._go(self._outside, skip)
        self.hidden += 1
        state = self._after(marker)
        if state == self._outside and marker not in (*_SECTION_ENDS, _K3_TOOLS_END):
            state = here
        return self._go(state, skip + (0 if marker == _K3_CALL else len(marker)))

    def _in_head(self) -> str | None:
        """Between a call's begin and its arguments: its name."""
        found = _HEAD.match(self._buffer)
        end = found.end() if found else 0
        if end > _LONGEST_HEAD:
            return self._go(self._outside, 0)
        if end == len(self._buffer):
            return None
        self._name = self._buffer[:end].strip()
        if self._buffer[end] == "{" and self._name:
            return self._go(self._in_arguments, end)
        marker = _match(self._buffer, end, _K2_MARKERS)
        if marker == "":
            return None
        if marker is None:
            return self._go(self._outside, 0)
        self.hidden += 1
        if marker == _ARGUMENTS:
            return self._go(self._in_arguments, end + len(marker))
        self.lost += bool(self._name)
        return self._go(self._continued(marker), end + len(marker))

    def _continued(self, marker: str) -> Callable[[], str | None]:
        """The state after a call that ended at ``marker``."""
        if marker in _SECTION_ENDS:
            return self._outside
        return self._in_head if marker == _CALL_BEGIN else self._between

    def _in_arguments(self) -> str | None:
        while found := _ENDER.search(self._buffer, self._searched):
            # A marker inside a JSON string is content: a file about markers, say.
            if not _in_string(self._buffer[: found.start()]):
                return self._close_arguments(found)
            self._searched = found.end()
        self._searched = max(self._searched, len(self._buffer) - _LONGEST)
        return None

    def _close_arguments(self, ender: re.Match[str]) -> str:
        # A closed call keeps its arguments even when they are malformed: the model is told.
        self._found(self._name, self._buffer[: ender.start()])
        self.hidden += 1
        return self._go(self._continued(ender.group()), ender.end())

    def _cut_off_arguments(self) -> str:
        """The end of the stream inside arguments: whole JSON is a call all the same. A string
        that never ended may have hidden the true end of the call."""
        if _is_object(self._buffer):
            self._found(self._name, self._buffer)
        elif found := _ENDER.search(self._buffer):
            self._close_arguments(found)
            return self._run() + self.finish()
        else:
            self.lost += 1
        self._buffer = ""
        return ""

    def _in_k3_call(self) -> str | None:
        separator = self._buffer.find(_SEPARATOR, 0, _LONGEST_HEAD)
        if separator < 0 and len(self._buffer) < _LONGEST_HEAD:
            return None
        if not _K3_HEADER.match(self._buffer, 0, _LONGEST_HEAD):
            return self._go(self._outside, len(_K3_CALL))
        found = _K3_ENDER.search(self._buffer, self._searched)
        if not found:
            self._searched = max(self._searched, len(self._buffer) - _LONGEST)
            return None
        self.lost += not self._k3_call(self._buffer[: found.start()])
        self.hidden += 1
        closed = found.group() == _K3_TOOLS_END
        return self._go(self._outside if closed else self._between_k3, found.end())

    def _k3_call(self, text: str) -> bool:
        header = _K3_HEADER.match(text)
        name = _attributes(header.group(1)).get("tool") if header else None
        if not name:
            return False
        block = _K3_JSON.search(text)
        self._found(name, block.group(1) if block else _k3_arguments(text))
        return True

    def _found(self, name: str, arguments: str) -> None:
        if name:
            self.calls.append(Leaked(name, arguments.strip() or "{}"))
        else:
            self.lost += 1


class _Code:
    """Whether a place of the shown text is inside Markdown code, where markers are quoted."""

    def __init__(self) -> None:
        self.pending: list[str] = []
        self._line = ""
        self._fence: str | None = None

    def holds(self, following: str) -> bool:
        """Whether the place after the pending text and ``following`` is inside code."""
        *lines, self._line = (self._line + "".join(self.pending)).split("\n")
        self.pending.clear()
        for line in lines:
            self._fence = _fence_after(self._fence, line)
        fence = self._fence
        *lines, last = (self._line + following).split("\n")
        for line in lines:
            fence = _fence_after(fence, line)
        return fence is not None or last.count("`") % 2 == 1 or bool(_FENCE.match(last))


def _fence_after(fence: str | None, line: str) -> str | None:
    found = _FENCE.match(line)
    if not found:
        return fence
    if fence is None:
        return found.group(1)
    return None if found.group(1) == fence else fence


def _match(text: str, start: int, markers: tuple[str, ...]) -> str | None:
    """The marker at ``start``; "" when the text ends before that is certain; else None."""
    rest = text[start : start + _LONGEST]
    for marker in markers:
        if rest.startswith(marker):
            return marker
    return "" if any(marker.startswith(rest) for marker in markers) else None


def _in_string(text: str) -> bool:
    """Whether JSON text ends inside a string."""
    return sum(found.group() == '"' for found in _QUOTES.finditer(text)) % 2 == 1


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _attributes(text: str) -> dict[str, str]:
    return {key: html.unescape(value) for key, value in _K3_ATTRIBUTE.findall(text)}


def _k3_arguments(text: str) -> str:
    arguments: dict[str, object] = {}
    for attributes, value in _K3_ARGUMENT.findall(text):
        read = _attributes(attributes)
        arguments[read.get("key", "")] = _k3_value(read.get("type", "string"), value)
    return json.dumps(arguments, ensure_ascii=False)


def _k3_value(kind: str, value: str) -> object:
    if kind == "string":
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value
