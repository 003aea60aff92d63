"""What the scrollback shows only a part of: outputs, diffs and thinking, to be opened later."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FoldKind = Literal["output", "diff", "thinking", "message"]
KEPT = 4 * 2**20
"""Characters of text kept in all; the oldest folds go first."""
READ = 4 * 2**20
"""Bytes read of the end of an output that lies in a file."""


@dataclass(frozen=True, slots=True)
class Fold:
    """One folded text. ``number`` counts from 1. Where ``path`` is there, the whole lies in that
    file, and ``excerpt`` is what to show when it does not any more."""

    number: int
    kind: FoldKind
    title: str
    excerpt: str
    path: str | None = None

    @property
    def text(self) -> str:
        """The whole text, as it came: not yet cleaned. Of a very long file, its end."""
        if self.path is None:
            return self.excerpt
        try:
            with Path(self.path).open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(size - READ, 0))
                raw = file.read(READ)
        except OSError:
            return self.excerpt
        if size > READ:
            raw = raw[raw.find(b"\n") + 1 :]
            left_out = f"[the first {size - len(raw):,} bytes are only in {self.path}]\n"
            return left_out + raw.decode("utf-8", "replace")
        return raw.decode("utf-8", "replace")


class Folds:
    """The folds of a session, newest last, in bounded memory."""

    def __init__(self, limit: int = KEPT) -> None:
        self._limit = limit
        self._folds: deque[Fold] = deque()
        self._size = 0
        self._count = 0

    def add(self, kind: FoldKind, title: str, text: str, path: str | None = None) -> int:
        """Keep a text, or the place of it; returns its number. A single text beyond the limit is
        kept as its end."""
        self._count += 1
        fold = Fold(self._count, kind, title, text[-self._limit :], path)
        self._folds.append(fold)
        self._size += len(fold.excerpt)
        while self._size > self._limit and len(self._folds) > 1:
            self._size -= len(self._folds.popleft().excerpt)
        return self._count

    def latest(self, kind: FoldKind | None = None) -> Fold | None:
        return next((f for f in reversed(self._folds) if kind in (None, f.kind)), None)

    def all(self) -> Sequence[Fold]:
        return list(self._folds)
