"""What the small questions on a terminal have in common: drawn in place, erased when answered."""

from __future__ import annotations

import os
import sys
import termios
from collections.abc import Sequence
from contextlib import suppress

from prompt_toolkit.application import Application
from prompt_toolkit.data_structures import Size
from prompt_toolkit.input.typeahead import clear_typeahead, store_typeahead
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import (
    Container,
    Dimension,
    FormattedTextControl,
    HSplit,
    Layout,
    Window,
)
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.output.vt100 import Vt100_Output
from prompt_toolkit.styles import Style

from kimi_cli.frontends.plain import clean
from kimi_cli.frontends.terminal.look import Look, find_look

ESCAPE_SECONDS = 0.1
"""How long the rest of an escape sequence may take before it was the Escape key."""


class NoTerminal(Exception):
    """There is nobody to ask: stdin or stdout is no terminal, or one that can't move its cursor."""


def require_terminal() -> None:
    """Raise NoTerminal unless a dialog can be shown."""
    for stream in (sys.stdin, sys.stdout):
        if stream is None or not stream.isatty():
            raise NoTerminal("there is no terminal to ask on")
    if os.environ.get("TERM", "dumb") in ("", "dumb"):
        raise NoTerminal("this terminal can't show a menu (TERM is dumb or not set)")


def look_here() -> Look:
    """The look for this process's terminal."""
    return find_look(os.environ, sys.stdout.encoding)


def application(
    title: str,
    body: Sequence[str],
    content: Container,
    help: str,
    keys: KeyBindings,
    look: Look,
    focus: Container | None = None,
) -> Application[str | None]:
    """A question with its ``title``, ``body`` below it, what is asked and one line of help."""

    def text(style: str, words: str) -> Window:
        return Window(
            FormattedTextControl([(style, words)]),
            height=Dimension(min=1),
            wrap_lines=True,
            dont_extend_height=True,
        )

    above = [text("class:title", f"  {clean(title)}")]
    if body:
        above.append(text("class:body", "\n".join(f"  {clean(line)}" for line in body)))
    below = Window(FormattedTextControl([("class:aside", f"  {help}")]), height=1)
    accent = {"cyan": "ansicyan", "blue": "ansiblue"}.get(look.accent, look.accent)
    style = Style(
        [
            ("title", "bold"),
            ("body", ""),
            ("here", accent),
            ("aside", "dim"),
            ("bad", "ansired" if look.colour else "bold"),
        ]
    )
    # Not asked where the cursor is: a terminal that does not answer would cost seconds.
    output = Vt100_Output(
        sys.stdout,
        lambda: Size(rows=rows(), columns=columns()),
        term=os.environ.get("TERM"),
        enable_cpr=False,
    )
    app: Application[str | None] = Application(
        layout=Layout(HSplit([*above, content, below]), focused_element=focus),
        key_bindings=keys,
        style=style,
        output=output,
        erase_when_done=True,
        include_default_pygments_style=False,
        color_depth=ColorDepth.DEPTH_4_BIT if look.colour else ColorDepth.DEPTH_1_BIT,
    )
    app.ttimeoutlen = ESCAPE_SECONDS
    return app


def with_cancel(keys: KeyBindings) -> KeyBindings:
    """The keys, with those that cancel."""

    # Eager: nothing here begins with Escape, and nobody should wait for what may follow it.
    @keys.add("escape", eager=True)
    @keys.add("c-c")
    @keys.add("c-d")
    def cancel(event: KeyPressEvent) -> None:
        event.app.exit(result=None)

    return keys


async def run(app: Application[str | None]) -> str | None:
    """The answer; None when it was cancelled or the terminal is gone."""
    try:
        # The program's own handlers of signals stay; from the keyboard Ctrl-C comes as a key.
        # An Esc that the dialog before had read, but had not taken for a key of its own yet: that
        # it is one shows only by what does not follow.
        store_typeahead(app.input, app.input.flush_keys())
        return await app.run_async(handle_sigint=False, set_exception_handler=False)
    except EOFError:
        return None


def forget_input(app: Application[str | None]) -> None:
    """Drop what was typed or pasted behind a secret: it may be the rest of it."""
    clear_typeahead(app.input)
    with suppress(OSError, ValueError, termios.error):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def columns() -> int:
    """The width of the terminal."""
    return _size()[0]


def rows() -> int:
    """The height of the terminal."""
    return _size()[1]


def _size() -> tuple[int, int]:
    try:
        width, height = os.get_terminal_size(sys.stdout.fileno())
    except (OSError, ValueError):
        width, height = 0, 0
    return width or 80, height or 24
