"""Rich text as lines of ANSI for a terminal: measured, wrapped and cut in cells."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from kimi_cli.frontends.plain import clean, clean_block

if TYPE_CHECKING:
    from rich.console import Console
    from rich.style import Style
    from rich.text import Text

    from kimi_cli.frontends.terminal.look import Look

TAB = 4
_ASCII = str.maketrans("·…→−│•─", "-.>-|--")
"""What our own words use beyond ASCII, for terminals without UTF-8; one character each, so that
widths stay."""
_CLOSING = frozenset("、。，．：；？！）」』】〉》〕〗］｝”’…ー々％,.:;?!)]}")
_OPENING = frozenset("（「『【〈《〔〖［｛“‘([{")


def harmless(text: str) -> str:
    """Foreign text of several lines: nothing a terminal obeys, tabs as blanks, and no half of a
    surrogate pair, which could not be written."""
    text = clean_block(text).expandtabs(TAB)
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def one_line(text: str) -> str:
    """Foreign text on one line, just as harmless."""
    text = clean(text.strip())
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


@lru_cache(maxsize=4096)
def _char_cells(char: str) -> int:
    from rich.cells import get_character_cell_size
    from wcwidth import wcwidth

    return max(get_character_cell_size(char), wcwidth(char), 0)


def cells(text: str) -> int:
    """How many columns the text takes at most.

    Terminals disagree about joined emoji and variation selectors: each character is counted as if
    it stood alone, so that nothing is ever wider than this says."""
    if text.isascii():
        return len(text)
    return sum(map(_char_cells, text)) + text.count("\ufe0f")


def clip(text: str, width: int, ellipsis: str = "…") -> str:
    """The text cut to ``width`` columns, the ellipsis at its end where something was cut."""
    if cells(text) <= width:
        return text
    room = width - cells(ellipsis)
    if room <= 0:
        return ellipsis[: max(width, 0)]
    return text[: _fitting(text, room)].rstrip() + ellipsis


def _fitting(text: str, room: int) -> int:
    """How many characters of the text fit into ``room`` columns; a character and what joins it
    stay together."""
    column = end = 0
    for index, char in enumerate(text):
        size = _char_cells(char) + (char == "\ufe0f")
        column += size
        if column > room:
            return end if text[index - 1 : index] == "\u200d" or not _char_cells(char) else index
        if size and text[index - 1 : index] != "\u200d":
            end = index
    return len(text)


def break_points(text: str, width: int) -> list[int]:
    """Where to break one line of text so that no piece, blanks at its end aside, is wider than
    ``width`` columns: after blanks, and between wide characters, which need none (with no closing
    mark at a start and no opening one at an end); anywhere where nothing else fits."""
    if text.isascii() and len(text) <= width:
        return []
    points: list[int] = []
    start = column = chance = column_at_chance = 0
    cluster = 0
    before, before_cells = "", 0
    for index, char in enumerate(text):
        size = _char_cells(char) + (char == "\ufe0f")
        joined = before == "\u200d" or not _char_cells(char)
        if not joined:
            cluster = index
            wide = (size == 2 or before_cells == 2) and char not in _CLOSING
            free = before == " " or (wide and before not in _OPENING)
            if index > start and char != " " and free:
                chance, column_at_chance = index, column
        if char != " " and column + size > width and index > start:
            if chance > start and not text[start:chance].isspace():
                cut, kept = chance, column - column_at_chance
            elif cluster > start:
                cut, kept = cluster, cells(text[cluster:index])
            else:
                cut, kept = index, 0
            if kept + size > width and cut < index:
                cut, kept = index, 0
            points.append(cut)
            start, column = cut, kept
            chance = cut
        column += size
        before, before_cells = char, size
    return points


def wrap(text: Text, width: int) -> list[Text]:
    """The text in lines of at most ``width`` columns, without blanks at their ends."""
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        for piece in line.divide(break_points(line.plain, max(width, 1))):
            piece.rstrip()
            lines.append(piece)
    return lines


def clipped(text: Text, width: int, ellipsis: str = "…") -> Text:
    """One line of text cut to ``width`` columns."""
    if cells(text.plain) <= width:
        return text
    shown = clip(text.plain, width, ellipsis)
    copy = text.copy()
    copy.right_crop(len(text.plain) - (len(shown) - len(ellipsis)))
    copy.append(ellipsis)
    return copy


class Painter:
    """Makes ANSI strings of rich renderables. A style holds within its line only, so that lines can
    be cut apart and put together at will. Without colour, bold, dim and underline stay."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._utf8 = look.dot == "·"
        self._console: Console | None = None

    def lines(self, renderable: Any, width: int) -> list[str]:
        """Lines of at most ``width`` columns; text is wrapped, blanks at line ends are dropped."""
        from rich.text import Text

        if isinstance(renderable, str):
            renderable = Text(renderable)
        if isinstance(renderable, Text):
            return [self.line(line, width) for line in wrap(renderable, width)]
        console = self._terminal()
        options = console.options.update(width=max(width, 1))
        lines = []
        for segments in console.render_lines(renderable, options, pad=False):
            text = Text("", end="")
            for segment in segments:
                if not segment.control:
                    text.append(segment.text, segment.style)
            text.rstrip()
            lines.append(self.line(text, width))
        return lines

    def line(self, text: Text, width: int) -> str:
        """One line, cut where it is wider than ``width`` columns."""
        if text.plain.endswith(" "):
            text = text.copy()
            text.rstrip()
        text = clipped(text, width, self._look.ellipsis)
        if not text.spans and not text.style:
            line = text.plain
        else:
            segments = text.render(self._terminal(), end="")
            line = "".join(self._styled(segment.text, segment.style) for segment in segments)
        return line if self._utf8 else line.translate(_ASCII)

    def _styled(self, text: str, style: Style | None) -> str:
        from rich.color import ColorSystem

        if not style or not text:
            return text
        if not self._look.colour:
            style = style.without_color
        return style.render(text, color_system=ColorSystem.STANDARD)

    def _terminal(self) -> Console:
        if self._console is None:
            from io import StringIO

            from rich.console import Console

            self._console = Console(
                file=StringIO(),
                force_terminal=True,
                color_system="standard",
                legacy_windows=False,
                highlight=False,
                markup=False,
                emoji=False,
                no_color=not self._look.colour,
                _environ={},
            )
        return self._console
