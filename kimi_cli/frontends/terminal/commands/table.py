"""All commands, and how a typed line finds its one."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from kimi_cli.frontends.terminal.commands import (
    basic,
    beside,
    changes,
    config,
    context,
    export,
    models,
    rewinding,
    rules,
    sessions,
    theme,
)
from kimi_cli.frontends.terminal.commands.command import Command, CommandError


def all_commands() -> Sequence[Command]:
    """Every command, in the order of the help."""
    first, *others = basic.COMMANDS
    groups = (
        models.COMMANDS,
        context.COMMANDS,
        sessions.COMMANDS,
        rewinding.COMMANDS,
        changes.COMMANDS,
        export.COMMANDS,
        beside.COMMANDS,
        rules.COMMANDS,
        config.COMMANDS,
        theme.COMMANDS,
    )
    *middle, last = others
    return (first, *middle, *chain.from_iterable(groups), last)


def split_line(line: str) -> tuple[str, str] | None:
    """Name and argument of a line that is meant as a command; None for a message. A path such as
    ``/etc/hosts`` is none: names hold no slash."""
    if not line.startswith("/"):
        return None
    name, _, argument = line[1:].partition(" ")
    name, newline, rest = name.partition("\n")
    if not name or "/" in name or not name.replace("-", "").isalnum():
        return None
    return name, (rest if newline else argument).strip()


def like_a_command(commands: Sequence[Command], name: str) -> bool:
    """Whether somebody who typed ``/name`` meant a command."""
    from difflib import get_close_matches

    names = [one for command in commands for one in (command.name, *command.aliases)]
    return any(one.startswith(name) for one in names) or bool(get_close_matches(name, names))


def find_command(commands: Sequence[Command], name: str) -> Command:
    """The command of this name or alias, or the only one whose name begins so. Raises
    CommandError."""
    for command in commands:
        if name == command.name or name in command.aliases:
            return command
    beginning = [command for command in commands if command.name.startswith(name)]
    if len(beginning) == 1:
        return beginning[0]
    if beginning:
        names = ", ".join(f"/{command.name}" for command in beginning)
        raise CommandError(f"/{name} may be any of {names}")
    raise CommandError(f"there is no command /{name}: /help lists them")
