"""The output of a command, as the model and people get to see it: in bounded memory, whatever
its size."""

from __future__ import annotations

import codecs
import os
import re
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

HEAD = 5_000
TAIL = 10_000
"""Bytes of UTF-8 for the model: at most 8k tokens also of digits, which take about two bytes a
token; more of the end, where errors stand."""

_WINDOW = 1 << 20
_COUNTED = 1 << 28
_LIVE = 16_384

# ECMA-48: CSI, the string sequences (OSC, DCS, SOS, PM, APC), and two- or three-byte escapes. A
# string that is never closed ends with its line, so that it does not swallow the output.
_ESCAPES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_][^\x07\x1b\n]*(?:\x07|\x1b\\)?|\x1b[ -/]*[0-~]|\x1b"
)
_OPEN_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b\n]{0,256}|[ -/]*)?\Z")
_OVERSTRUCK = re.compile(r"[^\n\x08]\x08")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    """What a terminal would show in the end: no escape sequences, progress bars that overwrite
    their line reduced to their last state, no control characters but newline and tab."""
    text = text.replace("\r\n", "\n")
    if "\x1b" in text:
        text = _ESCAPES.sub("", text)
    if "\x08" in text:
        text = _OVERSTRUCK.sub("", text)
    if "\r" in text:
        text = "\n".join(_last_state(line) for line in text.split("\n"))
    return _CONTROLS.sub("", text)


def _last_state(line: str) -> str:
    return next((part for part in reversed(line.split("\r")) if part.strip()), "")


@dataclass(frozen=True, slots=True)
class Excerpt:
    """``text`` for the model; ``cut`` when something is left out; ``end`` is the offset in the
    file up to which the output has been dealt with."""

    text: str
    cut: bool
    end: int


def excerpt(path: Path, start: int, running: bool) -> Excerpt:
    """The output from offset ``start`` on: whole when it fits, else its head and tail.

    While the command is ``running``, a character that is not yet complete is left for next time.
    """
    try:
        with _opened(path) as file:
            end = os.fstat(file.fileno()).st_size
            size = max(0, end - start)
            if size <= 2 * _WINDOW:
                raw = _read(file.fileno(), start, size)
                if running:
                    raw = _whole_characters(raw)
                end = start + len(raw)
                head = tail = clean(raw.decode("utf-8", "replace")).encode()
                if len(head) <= HEAD + TAIL:
                    return Excerpt(head.decode(), False, end)
            else:
                head = clean(
                    _read(file.fileno(), start, _WINDOW).decode("utf-8", "replace")
                ).encode()
                last = _read(file.fileno(), end - _WINDOW, _WINDOW)
                tail = clean(last.decode("utf-8", "replace")).encode()
            return Excerpt(_join(head, tail, _Whole(file.fileno(), path, start, end)), True, end)
    except FileNotFoundError:
        return Excerpt("(its output file was deleted)\n", False, start)


@dataclass(frozen=True, slots=True)
class _Whole:
    fd: int
    path: Path
    start: int
    end: int

    def lines(self) -> int | None:
        """None when counting would take too long."""
        if self.end - self.start > _COUNTED:
            return None
        spots = range(self.start, self.end, _WINDOW)
        return sum(
            _read(self.fd, spot, min(_WINDOW, self.end - spot)).count(b"\n") for spot in spots
        )


def _join(head: bytes, tail: bytes, whole: _Whole) -> str:
    head, tail = head[:HEAD], tail[-TAIL:]
    at = head.rfind(b"\n") + 1
    head = head[:at] if at > HEAD // 2 else head
    at = tail.find(b"\n") + 1
    tail = tail[at:] if at < TAIL // 2 else tail
    omitted = f"{whole.end - whole.start - len(head) - len(tail):,} bytes"
    lines = whole.lines()
    if lines is not None and (missing := lines - head.count(b"\n") - tail.count(b"\n")) > 0:
        omitted = f"{missing:,} lines ({omitted})"
    note = f"[... {omitted} left out; the whole output is in {whole.path} ...]"
    gap = "" if head.endswith(b"\n") else "\n"
    return head.decode("utf-8", "ignore") + gap + note + "\n" + tail.decode("utf-8", "ignore")


def _read(fd: int, offset: int, size: int) -> bytes:
    return os.pread(fd, size, offset) if size else b""


def _whole_characters(raw: bytes) -> bytes:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(raw[-4:])
    return raw[: len(raw) - len(decoder.getstate()[0])]


class LiveTail:
    """Follows a growing output file for people's eyes; what came too fast is skipped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def news(self, *, final: bool = False) -> str:
        """What was written since the last call, at most 16 KiB of it, cleaned."""
        try:
            with _opened(self._path) as file:
                size = os.fstat(file.fileno()).st_size
                if size - self._offset > _LIVE:
                    self._offset = size - _LIVE
                    self._decoder.reset()
                    self._held = ""
                raw = _read(file.fileno(), self._offset, size - self._offset)
        except FileNotFoundError:
            return ""
        self._offset += len(raw)
        text = self._held + self._decoder.decode(raw, final)
        part = None if final else _OPEN_ESCAPE.search(text[-300:])
        self._held = part.group() if part else ""
        shown = text[: len(text) - len(self._held)]
        if not final and shown.endswith("\r"):
            self._held, shown = "\r" + self._held, shown[:-1]
        return clean(shown.replace("\r\n", "\n").replace("\r", "\n"))


def _opened(path: Path) -> FileIO:
    # Not through a symlink that was put in its place.
    return FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
