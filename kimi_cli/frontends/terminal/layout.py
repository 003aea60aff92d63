"""The live region as a prompt-toolkit layout: lines, input, completions, status."""

from __future__ import annotations

from collections.abc import Callable

from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.filters import Condition, has_completions, is_searching
from prompt_toolkit.formatted_text import ANSI, StyleAndTextTuples, to_formatted_text
from prompt_toolkit.layout import (
    BufferControl,
    ConditionalContainer,
    Dimension,
    FormattedTextControl,
    HSplit,
    Layout,
    SearchBufferControl,
    Window,
)
from prompt_toolkit.layout.menus import CompletionsMenu
from prompt_toolkit.utils import get_cwidth

from kimi_cli.frontends.terminal.desk import Desk
from kimi_cli.frontends.terminal.ink import Ink

INPUT_SHARE = 3
"""The input box takes at most one in this many rows of the terminal."""
MENU_ROWS = 8


class Pictures:
    """ANSI lines as prompt-toolkit wants them, parsed again only when they change."""

    def __init__(self) -> None:
        self._text = ""
        self._parsed: StyleAndTextTuples = []

    def __call__(self, lines: str) -> StyleAndTextTuples:
        if lines != self._text:
            self._text, self._parsed = lines, to_formatted_text(ANSI(lines))
        return self._parsed


class Above:
    """The lines above the input, made once for each drawing."""

    def __init__(
        self, desk: Desk, buffer: Buffer, field: Buffer, size: Callable[[], tuple[int, int]]
    ) -> None:
        self._desk, self._buffer, self._field, self._size = desk, buffer, field, size
        self._drawing = -1
        self._lines: list[str] = []

    def __call__(self) -> list[str]:
        if self._drawing != get_app().render_counter:
            self._drawing = get_app().render_counter
            width, rows = self._size()
            typing = self._field if self._desk.has_field else self._buffer
            typed = min(_input_rows(typing, width, rows), max(rows // INPUT_SHARE, 1))
            self._lines = self._desk.above(width, max(rows - typed - 2, 3), self._field.text)
        return self._lines


def make_layout(
    desk: Desk, buffer: Buffer, field: Buffer, size: Callable[[], tuple[int, int]]
) -> Layout:
    """``field`` is what is typed to a menu, or as a reason; ``size`` gives columns and rows of the
    terminal."""
    above, below = Pictures(), Pictures()
    search = SearchBufferControl(ignore_case=True)

    lines = Above(desk, buffer, field, size)

    def input_height() -> Dimension:
        _, rows = size()
        most = max(rows // INPUT_SHARE, 1)
        return Dimension(min=1, max=most, preferred=min(_input_rows(buffer, *size()), most))

    has_field = Condition(lambda: desk.has_field)
    control = BufferControl(buffer, search_buffer_control=search, preview_search=True)
    return Layout(
        HSplit(
            [
                Window(
                    FormattedTextControl(lambda: above("\n".join(lines()))),
                    height=lambda: Dimension.exact(len(lines())),
                    wrap_lines=False,
                    always_hide_cursor=True,
                ),
                ConditionalContainer(
                    Window(
                        control,
                        height=input_height,
                        dont_extend_height=True,
                        wrap_lines=True,
                        get_line_prefix=lambda line, wrap: _prefix(desk, line, wrap),
                    ),
                    ~has_field,
                ),
                ConditionalContainer(
                    Window(
                        BufferControl(field),
                        height=Dimension(min=1, max=3),
                        dont_extend_height=True,
                        wrap_lines=True,
                        get_line_prefix=lambda line, wrap: _prefix(desk, line, wrap),
                    ),
                    has_field,
                ),
                ConditionalContainer(
                    CompletionsMenu(max_height=MENU_ROWS, scroll_offset=1),
                    has_completions,
                ),
                ConditionalContainer(
                    Window(
                        search,
                        height=1,
                        get_line_prefix=lambda line, wrap: [("", "  search: ")],
                    ),
                    is_searching,
                ),
                Window(
                    FormattedTextControl(lambda: below(desk.below(size()[0]))),
                    height=1,
                    wrap_lines=False,
                    always_hide_cursor=True,
                ),
                # Rows that were needed a moment ago stay empty here, at the bottom.
                Window(height=Dimension(min=0, preferred=0), always_hide_cursor=True),
            ]
        ),
        focused_element=control,
    )


def _prefix(desk: Desk, line: int, wrap: int) -> StyleAndTextTuples:
    if line or wrap:
        return [("", "  ")]
    if desk.saying_why:
        return to_formatted_text(ANSI(_prompt(desk.ink, "say why")))
    return to_formatted_text(ANSI(_prompt(desk.ink, "")))


def _prompt(ink: Ink, words: str) -> str:
    return ink(f"{words} {ink.look.user} ".lstrip(), "accent")


def _input_rows(buffer: Buffer, width: int, rows: int) -> int:
    """How many rows the text of the input takes, counted no further than there are: as the library
    wraps it, with a cell for the cursor at each end of a line."""
    room = max(width - 2, 1)
    count = 0
    for line in buffer.document.lines[: rows + 1]:
        count, used = count + 1, 0
        for char in (*line[: room * rows], " "):
            size = get_cwidth(char)
            if used + size > room:
                count, used = count + 1, 0
            used += size
    return count
