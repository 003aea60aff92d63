"""A window of lines out of a file of any size, in bounded memory."""

from __future__ import annotations

import codecs
from bisect import bisect_right
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from kimi_cli.tools.text_bytes import Encoding

# Even, so that a chunk of UTF-16 ends between two code units.
_CHUNK = 1 << 20


class Line(NamedTuple):
    """The beginning of a line, without its end, and how many characters of it are left out."""

    text: str
    left_out: int = 0


class Index(NamedTuple):
    """Where lines are. ``marks`` pairs an offset in the file with the lines that end before it;
    ``total`` counts the lines; ``whole`` is False when the counting stopped at its limit."""

    marks: tuple[tuple[int, int], ...]
    total: int
    whole: bool


def index(file: BinaryIO, encoding: Encoding, scan_limit: int) -> Index:
    """Count the lines of the first ``scan_limit`` bytes or so."""
    start = len(encoding.bom)
    file.seek(start)
    at, ended, open_line = start, 0, False
    marks = [(start, 0)]
    while at < scan_limit:
        chunk = file.read(_CHUNK) or b""
        if not chunk:
            return Index(tuple(marks), ended + open_line, True)
        ended += _count(chunk, encoding)
        open_line = not chunk.endswith(encoding.newline)
        at += len(chunk)
        marks.append((at, ended))
    return Index(tuple(marks), ended + open_line, not file.read(1))


def window(
    file: BinaryIO, encoding: Encoding, where: Index, first: int, count: int, width: int
) -> Iterator[Line]:
    """Up to ``count`` lines from line ``first`` (from 1), each cut at ``width`` characters."""
    file.seek(_offset(file, encoding, where, first))
    decoder = codecs.getincrementaldecoder(encoding.codec)("replace")
    kept, length, given = "", 0, 0
    while given < count:
        chunk = file.read(1 << 16) or b""
        *ended, rest = decoder.decode(chunk, final=not chunk).split("\n")
        for piece in ended:
            yield _line(kept + piece[: width + 1], length + len(piece), width)
            kept, length, given = "", 0, given + 1
            if given == count:
                return
        # One character more than shown, so that a carriage return at the end is recognised.
        kept = (kept + rest)[: width + 1]
        length += len(rest)
        if not chunk:
            if length:
                yield _line(kept, length, width)
            return


def _line(kept: str, length: int, width: int) -> Line:
    text = kept[: width + 1]
    if len(text) == length and text.endswith("\r"):
        text, length = text[:-1], length - 1
    text = text[:width]
    return Line(text, length - len(text))


def _offset(file: BinaryIO, encoding: Encoding, where: Index, first: int) -> int:
    """Where line ``first`` starts: just after the newline that ends the line before it."""
    if first <= 1:
        return where.marks[0][0]
    ends = [ended for _, ended in where.marks]
    # The newline number first-1 lies after the last mark with fewer lines ended before it.
    at, ended = where.marks[bisect_right(ends, first - 2) - 1]
    file.seek(at)
    chunk = file.read(_CHUNK) or b""
    for position in _newlines(chunk, encoding):
        ended += 1
        if ended == first - 1:
            return at + position + encoding.unit
    return at + len(chunk)


def _count(chunk: bytes, encoding: Encoding) -> int:
    if encoding.unit == 1:
        return chunk.count(b"\n")
    return sum(1 for _ in _newlines(chunk, encoding))


def _newlines(chunk: bytes, encoding: Encoding) -> Iterator[int]:
    newline, unit = encoding.newline, encoding.unit
    position = chunk.find(newline)
    while position >= 0:
        if position % unit == 0:
            yield position
            position += unit - 1
        position = chunk.find(newline, position + 1)
