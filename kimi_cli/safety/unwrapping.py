"""How wrapped words are found behind a wrapper's own options."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kimi_cli.safety.shell_words import Word
from kimi_cli.safety.wrappers_data import Wrapper

Argv = tuple[Word, ...]
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")


@dataclass(frozen=True, slots=True)
class Unwrapped:
    """``commands`` are the words of wrapped commands with the place of the first in the wrapper's
    own words, ``scripts`` are wrapped commands as text for a shell; the rest is as in Part."""

    commands: tuple[tuple[Argv, int], ...] = ()
    scripts: tuple[str, ...] = ()
    opaque: str = ""
    code: str | None = None
    transparent: bool = False
    more: bool = False
    assignments: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    quirks: tuple[str, ...] = ()


def wrapped(argv: Argv, wrapper: Wrapper, start: int) -> Unwrapped:
    at, objection = options(argv, wrapper, start)
    if objection:
        return Unwrapped(opaque=objection)
    at += wrapper.skip
    assignments: list[str] = []
    while wrapper.assigns and at < len(argv) and ASSIGNMENT.match(argv[at].text):
        assignments.append(argv[at].text)
        at += 1
    if at >= len(argv):
        # xargs alone prints; the others show something, or start a shell on what they read.
        alone = argv[0].text in ("xargs", "time", "exec", "nice")
        return Unwrapped(transparent=alone, assignments=tuple(assignments))
    rest = argv[at:]
    if wrapper.joins and " " in rest[0].text:
        return script(rest, wrapper, tuple(assignments))
    return Unwrapped(
        commands=((rest, at),),
        transparent=wrapper.transparent,
        more=wrapper.more,
        assignments=tuple(assignments),
    )


def script(words: Sequence[Word], wrapper: Wrapper, assignments: tuple[str, ...]) -> Unwrapped:
    if not all(word.known for word in words):
        return Unwrapped(opaque="the command it is given is not known")
    return Unwrapped(
        scripts=(" ".join(word.text for word in words),),
        opaque="it puts words into the command it is given" if wrapper.more else "",
        assignments=assignments,
    )


def options(argv: Argv, wrapper: Wrapper, at: int) -> tuple[int, str]:
    """The place behind the options, or why it can't be told."""
    values, flags = wrapper.values.split(), wrapper.flags.split()
    while at < len(argv):
        word = argv[at]
        text = word.text
        if word.loose:
            return at, f"what {argv[0].text} runs is not known: {text}"
        if text == "--":
            return at + 1, ""
        if not text.startswith("-") or text == "-":
            return at, ""
        if text.startswith("--"):
            name, equals, _ = text[2:].partition("=")
            if name not in values and name not in flags:
                return at, f"{argv[0].text}'s option {text} is not known"
            at += 1 if equals or name in flags else 2
            continue
        at += 1
        for i, letter in enumerate(text[1:], start=1):
            if letter in values:
                at += 1 if i == len(text) - 1 else 0
                break
            if letter not in flags:
                return at, f"{argv[0].text}'s option {text} is not known"
            if letter in "ilexd" and argv[0].text == "xargs":
                break
    return at, ""


def after(argv: Argv, *names: str) -> list[Word]:
    """The values of the options ``names``, given in the next word or behind ``=``."""
    found = [argv[i + 1] for i, w in enumerate(argv[:-1]) if w.text in names]
    for word in argv:
        name, equals, value = word.text.partition("=")
        if equals and name in names:
            found.append(replace(word, text=value))
    return found


def given(words: Sequence[Word], what: str, transparent: bool = False) -> Unwrapped | None:
    if not words:
        return None
    if not all(word.known for word in words):
        return Unwrapped(opaque=f"the command that {what} runs is not known")
    return Unwrapped(scripts=tuple(word.text for word in words), transparent=transparent)
