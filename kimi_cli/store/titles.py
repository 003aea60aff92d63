"""A session's title, made of its first message without asking a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain
from unicodedata import category, combining, east_asian_width

WIDTH = 60
"""Columns a title takes at most."""
LOOKED_AT = 20_000
"""Characters of a message, and a twentieth of them of a line, that are looked at."""

# Data beside the prompt: from a tag alone on its line to the one that closes it.
_OPENING = re.compile(r"<([\w-]+)(?:\s[^<>]*)?>")
_FENCE = re.compile(r"`{3,}|~{3,}")
_TAG_LINE = re.compile(r"</?[\w-]+[^<>]*>|[`~]{3,}.*")
_MARKUP = re.compile(r"(?:#{1,6}\s+|>\s*|[-*+•]\s+(?:\[[ xX]\]\s+)?|\d{1,3}[.)]\s+)+")
_LINK = re.compile(r"!?\[([^\]\n]+)\]\([^)\n]*\)")
_EMPHASIS = re.compile(r"(?<!\w)(\*\*|__|`+)(?=\S)(.+?)(?<=\S)\1(?!\w)")
_COURTESY = re.compile(
    r"(?:(?:hi|hello|hey)(?:\s+(?:there|kimi))?\s*[,.!:]+\s*"
    r"|(?:please|pls|kindly)\b[\s,:]*"
    r"|(?:can|could|would|will)\s+you\s+(?:please\s+)?"
    # The same in Chinese, with its own punctuation.
    r"|[你您]好[\s,\uff0c\u3002!\uff01:\uff1a]*"
    r"|(?:请|麻烦)[你您]?(?:帮[我忙])?[\s,\uff0c:\uff1a]*)+",
    re.IGNORECASE,
)
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
_TRAILING = " :,;\uff1a\uff0c\uff1b"


def title_of(text: str) -> str:
    """The first line of a message that means something, without markup and courtesies, cut at
    a word to at most ``WIDTH`` columns; "" when there is none. What is attached to the message
    (piped data, code) is left out unless there is nothing else."""
    lines = [line[: LOOKED_AT // 20].strip() for line in text[:LOOKED_AT].splitlines()]
    titles = (title for line in chain(_prose(lines), lines) if (title := _bare(line)))
    return cut(next(titles, ""))


def _prose(lines: Iterable[str]) -> Iterator[str]:
    """The lines that are in no attached data and no block of code."""
    closing = ""
    for line in lines:
        opening, fence = _OPENING.fullmatch(line), _FENCE.match(line)
        if closing:
            closing = "" if line == closing else closing
        elif opening:
            closing = f"</{opening[1]}>"
        elif fence:
            closing = fence[0]
        else:
            yield line


def _bare(line: str) -> str:
    """The line as a title; "" when it says nothing."""
    line = one_line(line)
    if _TAG_LINE.fullmatch(line):
        return ""
    marked = _MARKUP.match(line)
    line = line[marked.end() :] if marked else line
    line = _EMPHASIS.sub(r"\2", _LINK.sub(r"\1", line))
    courtesy = _COURTESY.match(line)
    if courtesy and any(map(str.isalnum, line[courtesy.end() :])):
        line = line[courtesy.end() :]
    return line.rstrip(_TRAILING) if any(map(str.isalnum, line)) else ""


def one_line(text: str) -> str:
    """The text with blanks folded and without what a terminal would obey."""
    spaced = (" " if char.isspace() else char for char in _SEQUENCE.sub("", text))
    return " ".join("".join(char for char in spaced if category(char)[0] != "C").split())


def cut(text: str, width: int = WIDTH) -> str:
    """The text in at most ``width`` columns, cut at a word where there is one."""
    columns = end = 0
    for index, char in enumerate(text):
        columns += _columns(char)
        if columns < width:
            end = index + 1
        elif columns > width:
            return text[: _word_end(text, end)].rstrip() + "…"
    return text


def _word_end(text: str, end: int) -> int:
    """The last place up to ``end`` between two words; ``end`` when the word is a long one."""
    for index in range(end, end // 2, -1):
        if text[index].isspace() or max(map(_columns, text[index - 1 : index + 1])) > 1:
            return index
    return end


def _columns(char: str) -> int:
    if combining(char):
        return 0
    return 2 if east_asian_width(char) in "WF" else 1
