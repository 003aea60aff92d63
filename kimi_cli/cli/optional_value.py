"""The main command: what the command line's parser does not know of.

An option's value may be left out, and standard output may be gone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from typer.core import TyperGroup

from kimi_cli.cli.output import judged

OPTIONAL = ("-r", "--resume")


class Main(TyperGroup):
    """The main command: ``-r`` without an ID is ``-r ''``."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        # This prints the help.
        with judged():
            return super().make_context(*args, **kwargs)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        flags = {
            name
            for option in self.get_params(ctx)
            if getattr(option, "is_flag", False)
            for name in option.opts
        }
        return super().parse_args(ctx, filled(args, flags, OPTIONAL))

    def invoke(self, ctx: Any) -> Any:
        with judged():
            return super().invoke(ctx)


def filled(args: Sequence[str], flags: Collection[str], optional: Collection[str]) -> list[str]:
    """``args`` with an empty value after each option of ``optional`` that is followed by none: by
    the end, or by another option. ``flags`` are the options that take no value; whatever follows
    the first word that is no option and no value is left alone."""
    result: list[str] = []
    rest = list(args)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        word = rest.pop(0)
        result.append(word)
        waiting = _waiting(word, flags)
        if waiting in optional and (not rest or (len(rest[0]) > 1 and rest[0][0] == "-")):
            result.append("")
        elif waiting and rest:
            result.append(rest.pop(0))
    return result + rest


def _waiting(word: str, flags: Collection[str]) -> str | None:
    """The option in ``word`` that takes the next word as its value."""
    if word.startswith("--"):
        return None if "=" in word or word in flags else word
    for place, letter in enumerate(word[1:], 2):
        if f"-{letter}" not in flags:
            return f"-{letter}" if place == len(word) else None
    return None
