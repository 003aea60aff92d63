"""Menus one after another, with a field of their own to type in."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from prompt_toolkit.buffer import Buffer

from kimi_cli.frontends.terminal.desk import Desk
from kimi_cli.frontends.terminal.menu import Item, Menu


class Chooser:
    """``changed`` is called when a menu opens or closes: another field has the keys then."""

    def __init__(self, desk: Desk, field: Buffer, changed: Callable[[], None]) -> None:
        self._desk = desk
        self._field = field
        self._changed = changed
        self._one = asyncio.Lock()

    async def choose(self, title: str, items: Sequence[Item], *, sure: bool) -> str | None:
        """Let the user choose; None when nothing was. While one menu is open another waits."""
        async with self._one:
            menu = self._desk.menu = Menu(title, items, sure)
            self._changed()
            try:
                return await menu.chosen
            finally:
                self._desk.menu = None
                self._changed()

    def move(self, by: int) -> None:
        if self._desk.menu:
            self._desk.menu.move(by, self._field.text)

    def take(self) -> None:
        """Choose what is marked."""
        if self._desk.menu:
            self._desk.menu.take(self._field.text)

    def take_digit(self, digit: str) -> None:
        if self._desk.menu:
            self._desk.menu.take_digit(digit)

    def close(self) -> None:
        if self._desk.menu:
            self._desk.menu.close()
