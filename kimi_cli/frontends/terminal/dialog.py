"""Small questions on the terminal, before there is a screen: a menu, and a line of text.

Each is drawn in place below what stands there, and erased when it is answered: one printed line
with the answer takes its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.data_structures import Point
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.keys import Keys
from prompt_toolkit.layout import (
    BufferControl,
    Dimension,
    FormattedTextControl,
    HSplit,
    VSplit,
    Window,
)
from prompt_toolkit.layout.processors import PasswordProcessor, Processor
from prompt_toolkit.utils import get_cwidth

from kimi_cli.frontends.plain import clean, fit
from kimi_cli.frontends.terminal.dialog_frame import (
    NoTerminal,
    application,
    columns,
    forget_input,
    look_here,
    require_terminal,
    rows,
    run,
    with_cancel,
)
from kimi_cli.frontends.terminal.look import Look

__all__ = ["NoTerminal", "Option", "ask_text", "choose", "look_here", "require_terminal"]

NUMBERED = 9
_FRAME = 3
"""Rows beside options and body: the title, the help, and one for what stands above."""


@dataclass(frozen=True, slots=True)
class Option:
    """One answer of a menu: ``key`` is what ``choose`` returns, ``help`` stands beside it."""

    key: str
    label: str
    help: str = ""


async def choose(
    title: str,
    options: Sequence[Option],
    default: int = 0,
    body: Sequence[str] = (),
    *,
    arriving: AsyncIterator[Option] | None = None,
    look: Look | None = None,
) -> str | None:
    """Let the user choose; returns the option's key, None when it was cancelled.

    ``default`` is the place of the one that Enter takes. ``body`` stands below the title.
    ``arriving`` gives more options while the menu is there; they join at its end, so that no number
    changes under a finger. Raises NoTerminal.
    """
    require_terminal()
    menu = _Menu(title, [_cleaned(option) for option in options], default, body, look)
    chosen = await menu.run(arriving)
    label = next((one.label for one in menu.options if one.key == chosen), "cancelled")
    _answered(title, label, menu.look)
    return chosen


async def ask_text(
    label: str,
    *,
    secret: bool = False,
    default: str = "",
    check: Callable[[str], str | None] | None = None,
    body: Sequence[str] = (),
    look: Look | None = None,
) -> str | None:
    """Ask for a line of text, without blanks around it; None when it was cancelled.

    A ``secret`` is shown as asterisks only, and blanks within it are left out: a key that was
    copied over the end of a line is still one. ``check`` says what is wrong with a text, None:
    nothing. Raises NoTerminal.
    """
    require_terminal()
    look = look or look_here()
    line = _Line(label, secret, default, check, body, look)
    text = await line.run()
    if secret:
        shown = "cancelled" if text is None else f"{len(text)} characters" if text else "none"
    else:
        shown = "cancelled" if text is None else text
    _answered(label, shown, look)
    return text


class _Menu:
    def __init__(
        self,
        title: str,
        options: list[Option],
        default: int,
        body: Sequence[str],
        look: Look | None,
    ) -> None:
        self.look = look or look_here()
        self.options = options
        self._title = title
        self._at = min(max(default, 0), len(options) - 1) if options else 0
        self._body = body

    async def run(self, arriving: AsyncIterator[Option] | None) -> str | None:
        control = FormattedTextControl(
            self._text, show_cursor=False, get_cursor_position=lambda: Point(0, self._at)
        )

        def height() -> Dimension:
            room = rows() - _FRAME - bool(self._body)
            wanted = max(1, len(self.options))
            return Dimension(min=max(1, min(wanted, room)), preferred=wanted)

        up, down = ("↑", "↓") if self.look.user == "›" else ("up", "down")
        help = f"enter takes it {self.look.dot} esc cancels {self.look.dot} {up} {down} or a number"
        options = Window(control, height=height, always_hide_cursor=True)
        app = application(self._title, self._body, options, help, self._keys(), self.look)
        if arriving is not None:
            more = arriving

            async def collect() -> None:
                async for option in more:
                    if all(option.key != known.key for known in self.options):
                        self.options.append(_cleaned(option))
                        app.invalidate()

            collecting = asyncio.ensure_future(collect())
        else:
            collecting = None
        try:
            return await run(app)
        finally:
            if collecting is not None:
                collecting.cancel()
                await asyncio.gather(collecting, return_exceptions=True)

    def _text(self) -> StyleAndTextTuples:
        width = max((get_cwidth(option.label) for option in self.options), default=0)
        found: StyleAndTextTuples = []
        for place, option in enumerate(self.options):
            number = str(place + 1) if place < NUMBERED else " "
            here = place == self._at
            mark = self.look.user if here else " "
            gap = " " * (width - get_cwidth(option.label) + 2)
            found.append(("class:here" if here else "", f"  {mark} {number} {option.label}"))
            found.append(("class:aside", f"{gap}{option.help}" if option.help else ""))
            found.append(("", "\n"))
        return found[:-1]

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        page = 10
        steps = {"up": -1, "c-p": -1, "down": 1, "c-n": 1, "tab": 1, "s-tab": -1}
        far = {"pageup": -page, "pagedown": page, "home": -(10**6), "end": 10**6}

        def bind(name: str, step: int, around: bool) -> None:
            @keys.add(name)
            def move(event: KeyPressEvent) -> None:
                count = len(self.options) or 1
                place = self._at + step
                self._at = place % count if around else min(max(place, 0), count - 1)

        for name, step in steps.items():
            bind(name, step, True)
        for name, step in far.items():
            bind(name, step, False)

        @keys.add("enter")
        def take(event: KeyPressEvent) -> None:
            if self.options:
                event.app.exit(result=self.options[self._at].key)

        def number(digit: int) -> None:
            @keys.add(str(digit))
            def pick(event: KeyPressEvent) -> None:
                if digit <= len(self.options):
                    event.app.exit(result=self.options[digit - 1].key)

        for digit in range(1, NUMBERED + 1):
            number(digit)
        return with_cancel(keys)


class _Line:
    def __init__(
        self,
        label: str,
        secret: bool,
        default: str,
        check: Callable[[str], str | None] | None,
        body: Sequence[str],
        look: Look,
    ) -> None:
        self._label, self._secret, self._default = label, secret, default
        self._check, self._body, self._look = check, body, look
        self._problem = ""

    async def run(self) -> str | None:
        buffer = Buffer(
            multiline=False,
            document=Document(self._default, len(self._default)),
            on_text_changed=lambda _: self._said(""),
        )
        keys = KeyBindings()

        @keys.add("enter")
        def take(event: KeyPressEvent) -> None:
            text = self._tidy(buffer.text)
            self._said((self._check(text) if self._check else None) or "")
            if not self._problem:
                event.app.exit(result=text)

        @keys.add(Keys.BracketedPaste)
        def paste(event: KeyPressEvent) -> None:
            buffer.insert_text(self._tidy(event.data))

        processors: list[Processor] = [PasswordProcessor()] if self._secret else []
        prompt = Window(
            FormattedTextControl([("class:here", f"  {self._look.user} ")]), width=4, height=1
        )
        entry = Window(BufferControl(buffer, input_processors=processors), height=1)
        problem = FormattedTextControl(lambda: [("class:bad", f"  {self._problem}".rstrip())])
        content = HSplit([VSplit([prompt, entry]), Window(problem, height=1, wrap_lines=True)])
        help = f"enter goes on {self._look.dot} esc cancels"
        app = application(
            self._label, self._body, content, help, with_cancel(keys), self._look, entry
        )
        try:
            return await run(app)
        finally:
            buffer.reset()
            if self._secret:
                forget_input(app)

    def _said(self, problem: str) -> None:
        self._problem = clean(problem)

    def _tidy(self, text: str) -> str:
        if self._secret:
            return clean("".join(text.split()))
        return clean(" ".join(text.split("\n"))).strip()


def _cleaned(option: Option) -> Option:
    return Option(option.key, clean(option.label), clean(option.help))


def _answered(title: str, answer: str, look: Look) -> None:
    words = f"  {clean(title)} {look.dot} {clean(answer)}"
    print(fit(words, max(columns() - 1, 20)), flush=True)
