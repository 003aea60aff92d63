"""Lines of a terminal as pieces with a meaning each, fitted to its width and painted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from rich.cells import cell_len, chop_cells

from kimi_cli.frontends.plain import clean, fit

Style = Literal["", "dim", "live", "good", "bad", "warn"]
SGR: dict[Style, str] = {
    "dim": "2",
    "live": "36",
    "good": "32",
    "bad": "31",
    "warn": "33",
}
"""Select Graphic Rendition (ECMA-48): faint, and four of the eight colours every palette has."""
WITHOUT_UTF8 = str.maketrans("✓✗━╸─…×·–’", "+x=>-.x--'")
"""One character for each, so that nothing grows wider."""
DOT = " · "


class Span(NamedTuple):
    """A piece of a line, already without what a terminal would obey."""

    text: str
    style: Style = ""


Line = tuple[Span, ...]


def plain_text(line: Line) -> str:
    """The line without its styles."""
    return "".join(span.text for span in line)


def columns_of(line: Line) -> int:
    """How many columns of a terminal it takes."""
    return sum(cell_len(span.text) for span in line)


def cut(line: Line, width: int) -> Line:
    """The line with what goes beyond `width` columns left out; "…" says so."""
    if columns_of(line) <= width:
        return line
    kept: list[Span] = []
    room = width
    for span in line:
        if cell_len(span.text) >= room:
            # At least one column of something is left out here or right behind.
            kept.append(Span(fit(span.text + " ", room), span.style))
            break
        kept.append(span)
        room -= cell_len(span.text)
    return tuple(kept)


def wrapped(
    text: str, width: int | None, style: Style = "", first: str = "  ", rest: str = "    "
) -> list[Line]:
    """Foreign text broken at words, a word that is wider than a line anywhere; with indents.
    Without a `width` nothing is broken."""
    text = clean(text).strip()
    if width is None or cell_len(first + text) <= width:
        return [(Span(first + text, style),)]
    first, rest = (indent[: max(width - 4, 0)] for indent in (first, rest))
    lines: list[Line] = []
    line, indent = "", first
    for word in (piece for long in text.split() for piece in _pieces(long, width - len(rest))):
        if line and cell_len(f"{indent}{line} {word}") > width:
            lines.append((Span(indent + line, style),))
            line, indent = "", rest
        line = f"{line} {word}" if line else word
    if line or not lines:
        lines.append((Span((indent + line).rstrip(), style),))
    # The first line has an indent of its own, which may be the wider one.
    return [cut(one, width) for one in lines]


def dotted(
    pieces: Iterable[Span], width: int | None, first: str = "  ", rest: str = "    "
) -> list[Line]:
    """Pieces with dots between, on as many lines as it takes; a piece is only broken where it is
    wider than a line."""
    lines: list[Line] = []
    line: list[Span] = []
    for span in pieces:
        grown = columns_of((*line, Span(DOT), span)) if line else 0
        if line and width is not None and grown > width:
            lines.append(tuple(line))
            line, first = [], rest
        if line:
            line += [Span(DOT, "dim"), span]
        elif width is not None and cell_len(first + span.text) > width:
            lines += wrapped(span.text, width, span.style, first, rest)
            first = rest
        else:
            line = [Span(first), span]
    return [*lines, tuple(line)] if line else lines


def table(headings: Sequence[str], rows: Iterable[Sequence[Span]]) -> Iterator[Line]:
    """Columns as wide as what is in them, below their headings; none behind the last."""
    cells = [[Span(name, "dim") for name in headings], *map(list, rows)]
    widths = [max(cell_len(cell.text) for cell in column) for column in zip(*cells, strict=True)]
    for row in cells:
        line: list[Span] = []
        for cell, size in zip(row[:-1], widths[:-1], strict=True):
            line += [cell, Span(" " * (size - cell_len(cell.text) + 2))]
        yield (*line, row[-1])


def painted(line: Line, *, colour: bool, utf8: bool) -> str:
    """The line as a terminal takes it."""
    pieces = []
    for span in line:
        text = span.text if utf8 else span.text.translate(WITHOUT_UTF8)
        code = SGR.get(span.style, "") if colour else ""
        pieces.append(f"\x1b[{code}m{text}\x1b[0m" if code and text else text)
    return "".join(pieces)


def _pieces(word: str, width: int) -> list[str]:
    return [word] if cell_len(word) <= width else chop_cells(word, max(width, 2))
