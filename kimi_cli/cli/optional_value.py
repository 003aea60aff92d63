"""The main command: what the command line's parser does not know of.

An option's value may be left out, and standard output may be gone.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from difflib import get_close_matches
from typing import Any

from typer.core import TyperGroup

from kimi_cli.cli.output import judged

OPTIONAL = ("-r", "--resume", "--local")
ONE_WORD = ("--local",)
"""Options whose value has no blanks: a prompt may follow them."""
PROMPT = "kimi.prompt"
"""Where the context keeps the words that are no command."""


class Main(TyperGroup):
    """The main command: ``-r`` without an ID is ``-r ''``, and ``--local`` likewise."""

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
        rest = super().parse_args(ctx, filled(args, flags, OPTIONAL))
        return self._without_prompt(ctx, rest)

    def _without_prompt(self, ctx: Any, rest: list[str]) -> list[str]:
        """Take words that are no command for the prompt that an interactive run begins with."""
        words = [*ctx._protected_args, *ctx.args]
        if not words or self.get_command(ctx, words[0]):
            return rest
        meant = get_close_matches(words[0], self.list_commands(ctx), 1, 0.8)
        if meant:
            ctx.fail(f"there is no command {words[0]!r}; is {meant[0]!r} meant? (a prompt: -p)")
        if any(word.startswith("-") for word in words[1:]):
            ctx.fail("options go before the prompt")
        ctx.meta[PROMPT] = " ".join(words)
        ctx._protected_args, ctx.args = [], []
        return []

    def invoke(self, ctx: Any) -> Any:
        with judged():
            return super().invoke(ctx)


def filled(args: Sequence[str], flags: Collection[str], optional: Collection[str]) -> list[str]:
    """``args`` with an empty value after each option of ``optional`` that is followed by none: by
    the end, by another option, or by what can't be its value. ``flags`` are the options that take
    no value; whatever follows the first word that is no option and no value is left alone."""
    result: list[str] = []
    rest = list(args)
    while rest and rest[0].startswith("-") and rest[0] not in ("-", "--"):
        word = rest.pop(0)
        result.append(word)
        waiting = _waiting(word, flags)
        if waiting in optional and (not rest or not _is_value(waiting, rest[0])):
            result.append("")
        elif waiting and rest:
            result.append(rest.pop(0))
    return result + rest


def _is_value(option: str | None, word: str) -> bool:
    if option in ONE_WORD and len(word.split()) != 1:
        return False
    return not (len(word) > 1 and word[0] == "-")


def _waiting(word: str, flags: Collection[str]) -> str | None:
    """The option in ``word`` that takes the next word as its value."""
    if word.startswith("--"):
        return None if "=" in word or word in flags else word
    for place, letter in enumerate(word[1:], 2):
        if f"-{letter}" not in flags:
            return f"-{letter}" if place == len(word) else None
    return None
