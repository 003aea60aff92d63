"""What the rows of the table of troubles have in common."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass

from kimi_cli.serve.extra import names
from kimi_cli.serve.running import Launch, Repair


@dataclass(frozen=True, slots=True)
class Case:
    """The server that failed. `holders` says who holds what it needed, "" where nobody knows."""

    launch: Launch
    exit_code: int | None
    holders: Callable[[], str]

    def option(self, name: str, *others: str) -> str:
        """The value of an option of the head's command, "" when it isn't there."""
        argv = self.launch.commands[0].argv if self.launch.commands else ()
        value = ""
        for place, word in enumerate(argv):
            key, equals, rest = word.partition("=")
            if key in (name, *others):
                value = rest if equals else "".join(argv[place + 1 : place + 2])
        return value

    def given(self, name: str) -> bool:
        """Whether the user gave this option after "--"."""
        return name in names(self.launch.request.extra)

    def again(self, *words: str) -> str:
        """The command that starts this model anew with other options."""
        return " ".join(("kimi serve", shlex.quote(self.launch.request.model), *words))

    @property
    def nodes(self) -> int:
        return max(1, len(self.launch.commands), len(self.launch.request.hosts))

    def others(self) -> str:
        """The nodes besides the head, in words."""
        hosts = self.launch.request.hosts[1:] or tuple(
            command.host for command in self.launch.commands[1:]
        )
        return ", ".join(hosts) or "the other nodes"


@dataclass(frozen=True, slots=True)
class Told:
    """What happened, what to do next, and the change that does it."""

    what: str
    todo: str
    repair: Repair | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of trouble: the words of the log that show it, and what a person is told.

    `anywhere`: it may stand in a warning or a note, not only in what is an error."""

    kind: str
    pattern: re.Pattern[str]
    tell: Callable[[re.Match[str], Case], Told]
    anywhere: bool = False


def row(
    kind: str,
    pattern: str,
    tell: Callable[[re.Match[str], Case], Told],
    *,
    anywhere: bool = False,
) -> Row:
    """A row of the table; the pattern's dots match ends of lines too."""
    return Row(kind, re.compile(pattern, re.DOTALL), tell, anywhere)


def fixed(what: str, todo: str) -> Callable[[re.Match[str], Case], Told]:
    """The same words whatever the numbers."""

    def tell(found: re.Match[str], case: Case) -> Told:
        return Told(what, todo)

    return tell
