"""What a command is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.controller import Controller

Complete = Callable[["Controller", str], Iterable[tuple[str, str]]]
"""What may follow the command, given what is typed of it: text and a word about it."""


class CommandError(Exception):
    """The command can't be carried out; the message is for the user."""


@dataclass(frozen=True, slots=True)
class Command:
    """``run`` gets what follows the name. ``while_busy`` ones run at once, beside a turn; the
    others wait for its end, in the queue. ``usage`` shows what may follow, such as ``[FOCUS]``.
    """

    name: str
    help: str
    run: Callable[[Controller, str], Awaitable[None]]
    usage: str = ""
    aliases: tuple[str, ...] = ()
    while_busy: bool = False
    complete: Complete | None = None
