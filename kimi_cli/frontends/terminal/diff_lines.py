"""A unified diff as people read it: the line's number, the sign, the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import revealed

if TYPE_CHECKING:
    from rich.text import Text

    from kimi_cli.frontends.terminal.look import Look

TAB = 4
CONTEXT = 1
"""Unchanged lines shown before and after a change."""
_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass(frozen=True, slots=True)
class DiffLine:
    """``number`` counts in the old file for a removed line, in the new one for the others; 0: what
    stands here was left out."""

    number: int
    sign: str
    text: str


def parse_diff(diff: str) -> list[DiffLine]:
    """The lines of a unified diff with at most CONTEXT unchanged ones around each change. Heads
    of files, and what is no diff, are left out."""
    hunks: list[list[DiffLine]] = []
    old = new = old_left = new_left = 0
    for line in revealed(diff.expandtabs(TAB)).split("\n"):
        if old_left <= 0 and new_left <= 0:
            if head := _HUNK.match(line):
                old, new = int(head[1]), int(head[3])
                old_left, new_left = int(head[2] or 1), int(head[4] or 1)
                hunks.append([])
            continue
        sign, text = line[:1] or " ", line[1:]
        if sign == "-":
            hunks[-1].append(DiffLine(old, "-", text))
        elif sign in "+ ":
            hunks[-1].append(DiffLine(new, sign, text))
        else:
            continue
        old, old_left = (old + 1, old_left - 1) if sign != "+" else (old, old_left)
        new, new_left = (new + 1, new_left - 1) if sign != "-" else (new, new_left)
    return _joined([_near(hunk) for hunk in hunks])


def _near(hunk: list[DiffLine]) -> list[DiffLine]:
    """The changes and what is next to them."""
    changed = [at for at, line in enumerate(hunk) if line.sign != " "]
    near = {at + by for at in changed for by in range(-CONTEXT, CONTEXT + 1)}
    return [line for at, line in enumerate(hunk) if at in near]


def _joined(hunks: list[list[DiffLine]]) -> list[DiffLine]:
    """All lines, with a mark where some between them are left out."""
    lines: list[DiffLine] = []
    after = 0
    for line in (line for hunk in hunks for line in hunk):
        if after and line.sign != "-" and line.number > after:
            at = len(lines)
            while at and lines[at - 1].sign == "-":
                at -= 1
            lines.insert(at, DiffLine(0, "", ""))
        lines.append(line)
        if line.sign != "-":
            after = line.number + 1
    return lines


def diff_texts(lines: list[DiffLine], look: Look, most: int | None = None) -> list[Text]:
    """The lines, at most ``most``: removed ones red, added ones green, all of them told by their
    sign. Not indented, not cut to a width."""
    from rich.text import Text

    shown = lines[:most]
    size = max((len(str(line.number)) for line in shown), default=1)
    texts = []
    for line in shown:
        if not line.number:
            texts.append(Text(look.ellipsis.rjust(size), "dim"))
            continue
        style = {"+": look.good, "-": look.bad}.get(line.sign, "")
        text = Text(f"{line.number:>{size}} ", "dim")
        texts.append(Text().append_text(text).append(f"{line.sign} {line.text}", style))
    return texts
