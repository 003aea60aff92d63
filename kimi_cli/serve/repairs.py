"""Changing the commands of a server by a repair, and whether to."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from kimi_cli.serve.extra import names
from kimi_cli.serve.facts import NodeCommand
from kimi_cli.serve.running import Repair, Request

MOST_REPAIRS = 3


def may_repair(repair: Repair, made: Collection[Repair], request: Request) -> bool:
    """Whether a repair is one to make after those `made`: a few, each once, none against what the
    user set."""
    wish = request.wish
    wishes = (
        ("--max-model-len", wish.context),
        ("--gpu-memory-utilization", wish.utilisation),
        ("--kv-cache-dtype", wish.kv_dtype),
    )
    given = names(request.extra) | {name for name, wished in wishes if wished is not None}
    against = any(name in given for name, _ in repair.set)
    return len(made) < MOST_REPAIRS and repair not in made and not against


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
