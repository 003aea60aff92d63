"""Changing the commands of a server by a repair."""

from __future__ import annotations

from dataclasses import replace

from kimi_cli.serve.facts import NodeCommand
from kimi_cli.serve.running import Repair


def repaired(commands: tuple[NodeCommand, ...], repair: Repair) -> tuple[NodeCommand, ...]:
    """The commands with the options of the repair: set anew where they are, else at the end.
    An option whose value is "" in the repair is taken away."""
    for name, value in repair.set:
        commands = tuple(replace(one, argv=_with(one.argv, name, value)) for one in commands)
    return commands


def _with(argv: tuple[str, ...], name: str, value: str | None) -> tuple[str, ...]:
    words = list(argv)
    kept: list[str] = []
    place = 0
    put = value == ""
    new = [name] if value is None else [name, value]
    while place < len(words):
        word = words[place]
        if word != name and not word.startswith(f"{name}="):
            kept.append(word)
        else:
            if not put:
                kept += new
                put = True
            # Its value, where it has one: the next word that is no option.
            has_value = word == name and place + 1 < len(words)
            if has_value and not words[place + 1].startswith("--"):
                place += 1
        place += 1
    return tuple(kept if put else [*kept, *new])
