"""Whether the options of a program that only reads leave it at that."""

from __future__ import annotations

from collections.abc import Sequence

from kimi_cli.safety.classify_data import Reader
from kimi_cli.safety.shell_words import Word


def objection(words: Sequence[Word], reader: Reader, more: bool) -> str:
    """Why ``words`` make it more than reading; empty when they don't.

    A long option may be cut short, and letters may stand together behind one dash: both count as
    the option they could be. Words nobody knows count as every option. After ``--`` there are none.
    """
    bad = reader.bad.split()
    letters = {name for name in bad if len(name) == 1}
    names = [name for name in bad if len(name) > 1]
    if more and (bad or reader.most is not None):
        return "words will be added that are not known"
    operands, options = 0, True
    for word in words:
        text = word.text
        if (bad or reader.most is not None) and options and word.loose:
            return f"{text} may be an option"
        if options and text == "--":
            options = False
        elif options and text.startswith("--"):
            name = text[2:].partition("=")[0]
            if any(each.startswith(name) for each in names):
                return f"{text} does more than read"
        elif options and text.startswith("-") and len(text) > 1:
            if letters.intersection(text[1:]) or text[1:] in names:
                return f"{text} does more than read"
        else:
            operands += 1
            if reader.most is not None and not word.known and (word.loose or _globs(word)):
                return f"{text} may be several words"
    if reader.most is not None and operands > reader.most:
        return "its last word may be a file to write"
    return ""


def _globs(word: Word) -> bool:
    return any(char in word.text for char in "*?[@")
