"""Unified diffs in bounded time, whatever the files are.

Lines that occur once in both files anchor the comparison (patience diff); only what lies between
two anchors goes to difflib, and only while that is small. The standard library alone needs
minutes for two large, repetitive files.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_CONTEXT = 3
_TEXT_LIMIT = 64 * 1024
_LINE_LIMIT = 1_000
# Pairs of lines up to which difflib compares a stretch; more is shown as replaced whole.
_DIFFLIB_PAIRS = 200_000

Change = tuple[int, int, int, int]
"""Lines ``a1:a2`` of the old text became lines ``b1:b2`` of the new."""


@dataclass(frozen=True, slots=True)
class Diff:
    """``text`` is cut at about 64 KB, the counts are of the whole."""

    text: str
    added: int
    removed: int


def compare(old: bytes | None, new: bytes | None, name: str) -> Diff:
    """Unified diff between two contents of the file ``name``; None is a file that isn't there."""
    a, b = _lines(old or b""), _lines(new or b"")
    changes = list(_changes(a, b))
    added = sum(b2 - b1 for _, _, b1, b2 in changes)
    removed = sum(a2 - a1 for a1, a2, _, _ in changes)
    if not changes:
        return Diff("", 0, 0)
    if _is_binary(old or b"") or _is_binary(new or b""):
        return Diff(f"Binary file {name} changed\n", added, removed)
    before = "/dev/null" if old is None else f"a/{name}"
    after = "/dev/null" if new is None else f"b/{name}"
    parts, size = [f"--- {before}\n+++ {after}\n"], 0
    for line in _render(a, b, changes):
        size += len(line) + 1
        if size > _TEXT_LIMIT:
            parts.append("[the rest of the diff is left out]\n")
            break
        parts.append(line + "\n")
    return Diff("".join(parts), added, removed)


def _decode(content: bytes) -> str:
    wide = content.startswith((b"\xff\xfe", b"\xfe\xff"))
    return content.decode("utf-16" if wide else "utf-8-sig", errors="replace")


def _is_binary(content: bytes) -> bool:
    return b"\0" in content[:8192] and not content.startswith((b"\xff\xfe", b"\xfe\xff"))


def _lines(content: bytes) -> list[str]:
    """Lines with their ends, so that a changed or missing end is a difference."""
    lines = _decode(content).split("\n")
    last = lines.pop()
    lines = [line + "\n" for line in lines]
    return [*lines, last] if last else lines


def _changes(a: Sequence[str], b: Sequence[str]) -> Iterator[Change]:
    """What changed, in order, adjacent changes joined."""
    pending: Change | None = None
    for a1, a2, b1, b2 in _stretches(a, b):
        for change in _compare_stretch(a, b, a1, a2, b1, b2):
            if pending and pending[1] == change[0] and pending[3] == change[2]:
                pending = (pending[0], change[1], pending[2], change[3])
            else:
                if pending:
                    yield pending
                pending = change
    if pending:
        yield pending


def _stretches(a: Sequence[str], b: Sequence[str]) -> Iterator[Change]:
    """The stretches between common beginning, anchors and common end."""
    head, limit = 0, min(len(a), len(b))
    while head < limit and a[head] == b[head]:
        head += 1
    tail = 0
    while tail < limit - head and a[-1 - tail] == b[-1 - tail]:
        tail += 1
    i, j = head, head
    for x, y in _anchors(a, b, head, len(a) - tail, len(b) - tail):
        if x > i or y > j:
            yield i, x, j, y
        i, j = x + 1, y + 1
    if len(a) - tail > i or len(b) - tail > j:
        yield i, len(a) - tail, j, len(b) - tail


def _anchors(
    a: Sequence[str], b: Sequence[str], start: int, a_end: int, b_end: int
) -> list[tuple[int, int]]:
    """Pairs of equal lines, unique on both sides, that keep their order (longest such chain)."""
    once_a, once_b = Counter(a[start:a_end]), Counter(b[start:b_end])
    place = {line: j for j in range(start, b_end) if once_b[line := b[j]] == 1}
    tops: list[int] = []
    chains: list[tuple[int, int, int]] = []  # line in a, line in b, index of the former link
    last: list[int] = []
    for i in range(start, a_end):
        j = place.get(a[i], -1) if once_a[a[i]] == 1 else -1
        if j < 0:
            continue
        length = bisect_left(tops, j)
        chains.append((i, j, last[length - 1] if length else -1))
        if length == len(tops):
            tops.append(j)
            last.append(len(chains) - 1)
        else:
            tops[length] = j
            last[length] = len(chains) - 1
    result, link = [], last[-1] if last else -1
    while link >= 0:
        i, j, link = chains[link]
        result.append((i, j))
    return result[::-1]


def _compare_stretch(
    a: Sequence[str], b: Sequence[str], a1: int, a2: int, b1: int, b2: int
) -> Iterator[Change]:
    while a1 < a2 and b1 < b2 and a[a1] == b[b1]:
        a1, b1 = a1 + 1, b1 + 1
    while a1 < a2 and b1 < b2 and a[a2 - 1] == b[b2 - 1]:
        a2, b2 = a2 - 1, b2 - 1
    if a1 == a2 or b1 == b2 or (a2 - a1) * (b2 - b1) > _DIFFLIB_PAIRS:
        if a1 < a2 or b1 < b2:
            yield a1, a2, b1, b2
        return
    matcher = difflib.SequenceMatcher(None, a[a1:a2], b[b1:b2], autojunk=False)
    for tag, i1, i2, j1, j2 in matcher.get_opcodes():
        if tag != "equal":
            yield a1 + i1, a1 + i2, b1 + j1, b1 + j2


def _render(a: Sequence[str], b: Sequence[str], changes: Sequence[Change]) -> Iterator[str]:
    """The hunks, line by line. A carriage return shows only where not every line has one."""
    plain = all(line.endswith("\r\n") or line[-1:] != "\n" for lines in (a, b) for line in lines)

    def shown(sign: str, line: str) -> Iterator[str]:
        body = line[:-1] if line.endswith("\n") else line
        if body.endswith("\r"):
            body = body[:-1] + ("" if plain else "␍")
        if len(body) > _LINE_LIMIT:
            body = f"{body[:_LINE_LIMIT]} [… {len(body) - _LINE_LIMIT} more characters]"
        yield sign + body
        if not line.endswith("\n"):
            yield "\\ No newline at end of file"

    for hunk in _hunks(changes):
        a_start, a_stop = max(hunk[0][0] - _CONTEXT, 0), min(hunk[-1][1] + _CONTEXT, len(a))
        b_start, b_stop = max(hunk[0][2] - _CONTEXT, 0), min(hunk[-1][3] + _CONTEXT, len(b))
        yield f"@@ -{_range(a_start, a_stop)} +{_range(b_start, b_stop)} @@"
        at = a_start
        for a1, a2, b1, b2 in [*hunk, (a_stop, a_stop, b_stop, b_stop)]:
            for line in a[at:a1]:
                yield from shown(" ", line)
            for line in a[a1:a2]:
                yield from shown("-", line)
            for line in b[b1:b2]:
                yield from shown("+", line)
            at = a2


def _hunks(changes: Sequence[Change]) -> Iterator[list[Change]]:
    hunk: list[Change] = []
    for change in changes:
        if hunk and change[0] - hunk[-1][1] > 2 * _CONTEXT:
            yield hunk
            hunk = []
        hunk.append(change)
    if hunk:
        yield hunk


def _range(start: int, stop: int) -> str:
    """Unified format: lines count from 1, an empty range names the line before it."""
    length = stop - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"
