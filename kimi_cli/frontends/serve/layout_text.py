"""Lines of text within a width: paragraphs that hang, tables, commands to copy."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from textwrap import wrap

INDENT = "  "


def paragraph(text: str, width: int, first: str = INDENT, rest: str = INDENT) -> list[str]:
    """The text wrapped at words; a word wider than a line is left whole, to be copied."""
    lines = wrap(
        text,
        width,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [first.rstrip()]


def dotted(pieces: Iterable[str], width: int, first: str = INDENT) -> Iterator[str]:
    """Pieces with dots between, broken only there; further lines are indented."""
    line = ""
    for piece in pieces:
        if line and len(line) + 3 + len(piece) > width:
            yield line
            line = ""
            first = INDENT
        line = f"{line} · {piece}" if line else first + piece
    if line:
        yield line


def named(rows: Iterable[tuple[str, str]], width: int, most: int = 32) -> Iterator[str]:
    """Names with a text beside each, hanging; under a name wider than `most` columns."""
    pairs = list(rows)
    column = max((len(name) for name, _ in pairs if len(name) <= most), default=0)
    hang = INDENT * 2 + " " * (column + 2)
    for name, text in pairs:
        if not text:
            yield INDENT * 2 + name
        elif len(name) <= most:
            yield from paragraph(text, width, f"{INDENT * 2}{name:<{column}}  ", hang)
        else:
            yield INDENT * 2 + name
            yield from paragraph(text, width, hang, hang)


def table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns as wide as what is in them, the first one to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [f"{cell:>{size}}" for cell, size in zip(row[1:], widths[1:], strict=True)]
        yield INDENT * 2 + "  ".join([f"{row[0]:<{widths[0]}}", *cells]).rstrip()


def command(words: Sequence[str], before: Sequence[str], width: int) -> Iterator[str]:
    """A command for a POSIX shell over as many lines as it takes, all but the first to be indented
    further. `before` are assignments, quoted already. An option stays with its value, and the
    program with what it is called on."""
    room = width - len(INDENT) * 4 - 2
    lines = [*_filled(before, room), *_filled(_options(words), room)]
    for line in lines[:-1]:
        yield line + " \\"
    yield from lines[-1:]


def _filled(pieces: Sequence[str], room: int) -> Iterator[str]:
    line = ""
    for piece in pieces:
        if line and len(line) + 1 + len(piece) > room:
            yield line
            line = ""
        line = f"{line} {piece}" if line else piece
    if line:
        yield line


def _options(words: Sequence[str]) -> list[str]:
    found: list[str] = []
    for word in words:
        waits = len(found) == 1 or (bool(found) and " " not in found[-1])
        if waits and not word.startswith("-"):
            found[-1] += f" {shlex.quote(word)}"
        else:
            found.append(shlex.quote(word))
    return found
