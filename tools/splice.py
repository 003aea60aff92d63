"""Putting a replacement into a text so that what did not change keeps its own characters.

The model writes ``\\n`` and may have missed blanks or typographic quotes. A line it merely repeats
keeps the file's form of it; a line it changed takes the line end of the one it replaces, a line it
added the one of its surroundings.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Iterator, Sequence

from kimi_cli.tools.matching import Found, plain_characters

# Pairs of lines, or of characters, up to which a replacement is compared piece by piece.
_PAIRS = 500_000


class Document:
    """A text with its line ends, and the same text with plain ones to search in."""

    def __init__(self, raw: str) -> None:
        self.raw = raw
        self.plain = raw.replace("\r\n", "\n")
        self._returns: list[int] = []
        if len(self.plain) != len(raw):
            at = raw.find("\r\n")
            while at >= 0:
                self._returns.append(at - len(self._returns))
                at = raw.find("\r\n", at + 2)

    def replace(self, places: Sequence[Found]) -> str:
        """The raw text with each of the places, in order and apart, replaced."""
        parts, at = [], 0
        for place in places:
            start, end = self._raw_offset(place.start), self._raw_offset(place.end)
            parts += [self.raw[at:start], self._render(place, start, end)]
            at = end
        return "".join([*parts, self.raw[at:]])

    def _raw_offset(self, offset: int) -> int:
        return offset + bisect_left(self._returns, offset)

    def _render(self, place: Found, start: int, end: int) -> str:
        texts, ends = _split(self.raw[start:end])
        ending = ends[0] or self._newline_near(start, end)
        parts: list[str] = []
        for text, origin in _merge(texts, place):
            # The last line of the place has no end of its own.
            ending = (ends[origin] if origin is not None else "") or ending
            parts += [text, ending]
        return "".join(parts[:-1])

    def _newline_near(self, start: int, end: int) -> str:
        at = self.raw.rfind("\n", 0, start)
        if at < 0:
            at = self.raw.find("\n", end)
        return "\r\n" if at > 0 and self.raw[at - 1] == "\r" else "\n"


def _split(raw: str) -> tuple[list[str], list[str]]:
    """Lines and their ends; the last has "" for an end."""
    texts, ends = [], []
    for line in raw.split("\n"):
        texts.append(line.removesuffix("\r"))
        ends.append("\r\n" if line.endswith("\r") else "\n")
    texts[-1], ends[-1] = raw.rsplit("\n", 1)[-1], ""
    return texts, ends


def _merge(kept: Sequence[str], place: Found) -> Iterator[tuple[str, int | None]]:
    """The lines to stand at the place, each with the line there that it stands for, if any."""
    old, new, placed = (text.split("\n") for text in (place.old, place.new, place.placed))
    for tag, i1, i2, j1, j2 in _opcodes(old, new):
        for j in range(j1, j2):
            i = min(i1 + j - j1, i2 - 1)
            if tag == "equal":
                yield kept[i], i
            elif tag == "replace":
                alike = place.how and i2 - i1 == j2 - j1
                yield _keep_typography(kept[i], old[i], placed[j]) if alike else placed[j], i
            else:
                yield placed[j], None


def _opcodes(a: Sequence[str], b: Sequence[str]) -> Iterator[tuple[str, int, int, int, int]]:
    """As difflib's, but only beginning and end are compared where the rest is too large."""
    head, limit = 0, min(len(a), len(b))
    while head < limit and a[head] == b[head]:
        head += 1
    tail = 0
    while tail < limit - head and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    i, j = len(a) - tail, len(b) - tail
    yield "equal", 0, head, 0, head
    if (i - head) * (j - head) <= _PAIRS:
        matcher = difflib.SequenceMatcher(None, a[head:i], b[head:j], autojunk=False)
        for tag, i1, i2, j1, j2 in matcher.get_opcodes():
            yield tag, head + i1, head + i2, head + j1, head + j2
    else:
        yield "replace", head, i, head, j
    yield "equal", i, len(a), j, len(b)


def _keep_typography(kept: str, old: str, new: str) -> str:
    """``new``, with the file's own quotes and dashes where it repeats ``old``, which lacks them."""
    kept_body, old_body = kept.strip(" \t"), old.strip(" \t")
    if kept_body == old_body or len(kept_body) != len(old_body):
        return new
    if len(old_body) * len(new) > _PAIRS or plain_characters(kept_body) != plain_characters(
        old_body
    ):
        return new
    matcher = difflib.SequenceMatcher(None, old_body, new, autojunk=False)
    return "".join(
        kept_body[i1:i2] if tag == "equal" else new[j1:j2]
        for tag, i1, i2, j1, j2 in matcher.get_opcodes()
    )
