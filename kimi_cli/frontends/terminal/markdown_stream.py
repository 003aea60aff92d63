"""Cuts Markdown that streams in into blocks that are finished and can be rendered each by itself.

It works line by line, so the blocks do not depend on the pieces in which the text arrived. The
rules are those of CommonMark 0.31 for where a block begins and ends; where models are known to
write sloppily (a fence less indented than its list item) it keeps what was meant.
"""

from __future__ import annotations

import copy
import re
from dataclasses import dataclass, replace

from kimi_cli.frontends.terminal.paint import harmless

_FENCE = re.compile(r"( *)(?:(?:[-*+]|\d{1,9}[.)]) +)*(`{3,}|~{3,})([^`]*|(?<=~).*)$")
_HEADING = re.compile(r" {0,3}#{1,6}(?: |$)")
_RULE = re.compile(r" {0,3}(?:(?:\* *){3,}|(?:- *){3,}|(?:_ *){3,})$")
_UNDERLINE = re.compile(r" {0,3}(?:=+|-+) *$")
_QUOTE = re.compile(r" {0,3}>")
_ITEM = re.compile(r"( {0,3})([-*+]|(\d{1,9})[.)])( +|$)(.*)")

LONG_PARAGRAPH = 2_000
"""Characters after which a paragraph of many lines is given out at the end of a line."""
PIECE = 8
"""Lines of code given out at once."""
COMMENT = 60
"""Lines of code that wait at most for the end of a comment, which may decide their colour."""
PENDING = 1_024
PENDING_LINES = 32
"""Of an unfinished line or block, the beginning is left out in steps of so many characters or
lines, so that a look at it stays cheap and what is seen of it stays in its place."""


@dataclass(frozen=True, slots=True)
class Block:
    """A finished piece of Markdown. ``gap``: a blank line stands before it. ``indent`` is how far
    a list item is moved in that its source says nothing of, ``number`` what an ordered one counts.

    For code, ``code`` is all of it so far, of which the first ``shown`` lines were in earlier
    blocks, and ``info`` is what stands after the opening fence; ``source`` is "" then."""

    source: str
    gap: bool = False
    indent: int = 0
    number: int | None = None
    code: tuple[str, ...] = ()
    shown: int = 0
    info: str = ""


@dataclass(frozen=True, slots=True)
class _Fence:
    mark: str
    indent: int
    info: str = ""

    def closed_by(self, line: str) -> bool:
        bare = line.strip()
        return (
            len(bare) >= len(self.mark)
            and not bare.strip(self.mark[0])
            and len(line) - len(line.lstrip()) <= self.indent + 3
        )


def _opening(line: str, deepest: int) -> _Fence | None:
    found = _FENCE.match(line)
    if not found or len(found[1]) > deepest:
        return None
    if found[2][0] == "`" and "`" in found[3]:
        return None
    return _Fence(found[2], found.start(2), found[3].strip())


def closed(block: Block) -> Block:
    """A block that is still being written, with the end of the code or bold text that is open."""
    last = block.source.rpartition("\n\n")[2]
    end = "`" if last.count("`") % 2 else "**" * (last.count("**") % 2)
    if not end or last.endswith(end[0]):
        return block
    return replace(block, source=block.source + end)


class MarkdownStream:
    """Feed it text in pieces; it gives the blocks that no further text can change."""

    def __init__(self) -> None:
        self._rest: list[str] = []
        self._reset()

    def _reset(self) -> None:
        self._lines: list[str] = []
        self._size = 0
        self._mode = ""
        self._fence: _Fence | None = None
        self._comment = False
        self._shown = 0
        self._gap = False
        self._item_gap = False
        self._indent = self._content = 0
        self._number: int | None = None
        self._last_number: int | None = None

    @property
    def tail(self) -> str:
        """The source of what is not finished, at most its last few thousand characters."""
        return "\n".join([*self._lines[self._shown :], self._unfinished()])

    def feed(self, text: str) -> list[Block]:
        """The blocks that are finished now."""
        head, newline, rest = text.rpartition("\n")
        if not newline:
            self._rest.append(text)
            return []
        whole = "".join(self._rest) + head
        self._rest = [rest]
        blocks: list[Block] = []
        for line in whole.split("\n"):
            self._line(harmless(line).rstrip(), blocks)
        return blocks

    def end(self) -> list[Block]:
        """The blocks of what was left. The stream is as new afterwards."""
        blocks: list[Block] = []
        rest = harmless("".join(self._rest)).rstrip()
        if rest:
            self._line(rest, blocks)
        self._flush(blocks)
        self._rest = []
        self._reset()
        return blocks

    def pending(self) -> list[Block]:
        """The blocks there would be if the text ended here; of something very long, its end."""
        twin = copy.copy(self)
        twin._lines = list(self._lines)
        extra = len(twin._lines) - 1 - PENDING_LINES
        if self._mode != "code" and extra > 0:
            del twin._lines[1 : 1 + extra // PENDING_LINES * PENDING_LINES]
        twin._rest = [self._unfinished()]
        return twin.end()

    def _unfinished(self) -> str:
        if len(self._rest) > 64:
            self._rest = ["".join(self._rest)]
        text = "".join(self._rest)
        return text[max(len(text) // PENDING - 1, 0) * PENDING :]

    def _line(self, line: str, blocks: list[Block]) -> None:
        match self._mode:
            case "code":
                self._code_line(line, blocks)
            case "item":
                self._item_line(line, blocks)
            case _:
                self._text_line(line, blocks)

    def _code_line(self, line: str, blocks: list[Block]) -> None:
        assert self._fence
        if self._fence.closed_by(line):
            self._flush(blocks)
            return
        blank = len(line) - len(line.lstrip(" "))
        self._lines.append(line[min(blank, self._fence.indent) :])
        if line.lstrip().startswith("/*") or "*/" in line:
            self._comment = "*/" not in line.rpartition("/*")[2]
        if len(self._lines) - self._shown >= (COMMENT if self._comment else PIECE):
            self._give_code(blocks)

    def _item_line(self, line: str, blocks: list[Block]) -> None:
        indent = len(line) - len(line.lstrip(" "))
        if self._fence:
            if line and indent < self._content:
                line = (
                    " " * self._content + line.lstrip()
                    if self._fence.closed_by(line)
                    else (" " * self._content + line)
                )
            if self._fence.closed_by(line):
                self._fence = None
            self._add(line)
        elif not line:
            self._add(line)
        elif indent >= self._content:
            self._fence = _opening(line, 99)
            self._add(line)
        elif self._lines[-1] and not self._starts(line, interrupting=True):
            # A lazy line: it goes on with the item's paragraph.
            self._add(line)
        else:
            self._item_gap = not self._lines[-1]
            gap = self._item_gap
            self._flush(blocks)
            self._gap = gap
            self._text_line(line, blocks)

    def _text_line(self, line: str, blocks: list[Block]) -> None:
        if not line:
            self._flush(blocks)
            self._gap = True
            return
        if self._mode == "text" and _UNDERLINE.match(line) and not self._is_quote():
            self._add(line)
            self._flush(blocks)
            return
        if not self._starts(line, interrupting=self._mode == "text"):
            if self._mode == "text" and self._size > LONG_PARAGRAPH and "|" not in self._lines[0]:
                self._flush(blocks)
            self._mode = "text"
            self._last_number = self._last_number if self._lines else None
            self._add(line)
            return
        if _QUOTE.match(line) and self._is_quote():
            self._add(line)
            return
        self._flush(blocks)
        if fence := _opening(line, 3) if not _ITEM.match(line) else None:
            self._mode, self._fence = "code", fence
        elif _HEADING.match(line) or _RULE.match(line):
            self._add(line)
            self._last_number = None
            self._flush(blocks)
        elif item := _ITEM.match(line):
            self._begin_item(line, item)
        else:
            self._mode = "text"
            self._add(line)

    def _begin_item(self, line: str, item: re.Match[str]) -> None:
        blanks = len(item[4])
        # Five blanks or more after the marker: one of them, and indented code (CommonMark 5.2).
        width = len(item[2]) + (blanks if 1 <= blanks <= 4 and item[5] else 1)
        self._mode = "item"
        self._indent = len(item[1]) if len(item[1]) >= 2 else 0
        self._content = len(item[1]) + width
        self._number = None
        if item[3]:
            number = int(item[3])
            last = self._last_number
            self._number = number if last is None or number > last else last + 1
            self._last_number = self._number
        elif not self._indent:
            self._last_number = None
        self._fence = _opening(line, 99)
        self._add(line)

    def _starts(self, line: str, *, interrupting: bool) -> bool:
        """Whether the line begins a block of its own, also in the middle of a paragraph."""
        if item := _ITEM.match(line):
            number_one = item[3] is None or int(item[3]) == 1 or self._mode == "item"
            return bool(_RULE.match(line)) or not interrupting or (bool(item[5]) and number_one)
        return bool(
            _opening(line, 3) or _HEADING.match(line) or _RULE.match(line) or _QUOTE.match(line)
        )

    def _is_quote(self) -> bool:
        return bool(self._lines) and self._mode == "text" and bool(_QUOTE.match(self._lines[0]))

    def _add(self, line: str) -> None:
        self._lines.append(line)
        self._size += len(line) + 1

    def _flush(self, blocks: list[Block]) -> None:
        """Give out what is open."""
        if self._mode == "code":
            self._give_code(blocks)
        else:
            while self._lines and not self._lines[-1]:
                self._lines.pop()
            if self._lines:
                source = "\n".join(self._lines)
                number = self._number if self._mode == "item" else None
                indent = self._indent if self._mode == "item" else 0
                blocks.append(Block(source, self._gap, indent, number))
                self._gap = False
        self._lines, self._size, self._mode = [], 0, ""
        self._fence, self._comment, self._shown = None, False, 0

    def _give_code(self, blocks: list[Block]) -> None:
        assert self._fence
        code = tuple(self._lines)
        if len(code) > self._shown:
            gap = self._gap and not self._shown
            blocks.append(Block("", gap, code=code, shown=self._shown, info=self._fence.info))
            self._shown = len(code)
            self._gap = False
