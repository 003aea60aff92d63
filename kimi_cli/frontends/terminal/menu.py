"""A list to choose from, in the live region: arrows move, typing narrows, Enter takes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from kimi_cli.frontends.plain import clean
from kimi_cli.frontends.terminal.ink import Ink


@dataclass(frozen=True, slots=True)
class Item:
    """One line of a menu: ``value`` is what choosing it gives."""

    value: str
    text: str
    about: str = ""


@dataclass(slots=True)
class Menu:
    """An open menu; ``chosen`` gets the value, or None when it was closed without one."""

    title: str
    items: Sequence[Item]
    at: int = 0
    chosen: asyncio.Future[str | None] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    def matching(self, typed: str) -> list[Item]:
        """The items that contain each of the typed words."""
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
        if matching:
            self.close(matching[min(self.at, len(matching) - 1)].value)

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
        pieces = [(mark, style), (clean(item.text), style), (about, "dim")]
        lines.append(ink.line(pieces, width))  # type: ignore[arg-type]
    if not matching:
        lines.append(ink("    nothing matches", "dim"))
    left = len(matching) - room
    rest = f"    {left} more, " if left > 0 else "    "
    lines.append(ink.line([(f"{rest}arrows, type to narrow, enter, esc", "dim")], width))
    return lines
