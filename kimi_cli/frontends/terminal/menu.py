"""A list to choose from, in the live region: arrows move, typing narrows, Enter takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from kimi_cli.frontends.plain import clean
from kimi_cli.frontends.terminal.ink import Ink

UNREAD_SECONDS = 0.4
"""What is pressed so soon after a question came into sight was not meant for it."""


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a menu: ``value`` is what choosing it gives."""

    value: str
    text: str
    about: str = ""


@dataclass(slots=True)
class Menu:
    """An open menu; ``chosen`` gets the value, or None when it was closed without one.

    ``sure``: a question with consequences. It is not narrowed by typing but takes digits, and
    nothing that was pressed before it could be read."""

    title: str
    items: Sequence[Item]
    sure: bool = False
    at: int = 0
    opened_at: float = field(default_factory=time.monotonic)
    chosen: asyncio.Future[str | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def matching(self, typed: str) -> list[Item]:
        """The items that contain each of the typed words."""
        if self.sure:
            return list(self.items)
        words = typed.casefold().split()
        return [
            item
            for item in self.items
            if all(word in f"{item.text} {item.about}".casefold() for word in words)
        ]

    def move(self, by: int, typed: str) -> None:
        """Go up or down, round the ends."""
        count = len(self.matching(typed))
        self.at = (self.at + by) % count if count else 0

    def take(self, typed: str) -> None:
        """Choose the item that is marked; without any, nothing."""
        matching = self.matching(typed)
        if matching and not self._unread:
            self.close(matching[min(self.at, len(matching) - 1)].value)

    def take_digit(self, digit: str) -> None:
        """Choose the item with this number."""
        place = int(digit) - 1
        if place < len(self.items) and not self._unread:
            self.close(self.items[place].value)

    @property
    def _unread(self) -> bool:
        return self.sure and time.monotonic() - self.opened_at < UNREAD_SECONDS

    def close(self, value: str | None = None) -> None:
        if not self.chosen.done():
            self.chosen.set_result(value)


def menu_lines(menu: Menu, typed: str, ink: Ink, width: int, height: int) -> list[str]:
    """The menu in at most ``height`` lines, the marked item among them."""
    matching = menu.matching(typed)
    at = min(menu.at, max(len(matching) - 1, 0))
    room = max(height - 2, 1)
    first = max(min(at - room // 2, len(matching) - room), 0)
    lines = [ink.line([(f"{ink.look.needs} ", "warn"), (clean(menu.title), "bold")], width)]
    for number, item in enumerate(matching[first : first + room], first):
        mark, style = (f"  {ink.look.user} ", "accent") if number == at else ("    ", "")
        about = f"  {clean(item.about)}" if item.about else ""
        digit = f"{number + 1} " if menu.sure else ""
        pieces = [(mark, style), (digit + clean(item.text), style), (about, "dim")]
        lines.append(ink.line(pieces, width))  # type: ignore[arg-type]
    if not matching:
        lines.append(ink("    nothing matches", "dim"))
    left = len(matching) - room
    rest = f"    {left} more, " if left > 0 else "    "
    how = "a digit, or arrows and enter; esc" if menu.sure else "arrows, type to narrow, enter, esc"
    lines.append(ink.line([(f"{rest}{how}", "dim")], width))
    return lines
