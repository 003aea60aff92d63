"""Whether a rule means a part of a command.

An allow rule is read strictly: the part's words begin with the pattern's, one by one. A deny or ask
rule is read generously: options may stand between the words and in any order, the program may be
written with any path and in any case of letters.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from kimi_cli.safety.classify import Class
from kimi_cli.safety.classify_data import (
    CHANGES_PROGRAMS,
    PLAIN_VALUE,
    SAFE_TO_EXPORT,
    STANDARD_FOLDERS,
)
from kimi_cli.safety.rules import ANY, Rule, word_matcher
from kimi_cli.safety.shell_parts import Part
from kimi_cli.safety.wrapping_git import git_subcommand

Hit = Literal["yes", "maybe", ""]

_TRICKS = (
    *("base64", "b64", "fromhex", "\\x", "\\u", "\\0", "chr(", "ord(", "exec(", "eval", "getattr"),
    *("__import__", "rot13", "codecs", "decode", "fromCharCode", "atob", "unescape", "pack", "''"),
    *("reverse", "[::-1]", "join", "replace", "concat", "+", "xxd", "printf", "subprocess.run(sys"),
)
"""Text with one of these may make a word that does not stand in it."""


@lru_cache(maxsize=4096)
def _matches(pattern: str, word: str, fold: bool) -> bool:
    return word_matcher(pattern, fold=fold)(word)


def covers(rule: Rule, part: Part, outside: bool) -> int:
    """How many of the part's words an allow rule names; 0 when it doesn't cover the part.

    A bare ``shell`` covers everything and counts as all words. Any other rule doesn't cover a part
    that sets variables which change what runs, or (``outside``) redirects to where it may not
    write. ``**`` counts as all the words that follow.
    """
    if rule.tool != "shell":
        return 0
    if rule.words is None:
        return len(part.argv) + 1
    if not part.argv or outside or _sets_something(part):
        return 0
    program, *rest = rule.words
    if "/" in program:
        if not (part.argv[0].known and _matches(program, part.path, False)):
            return 0
    elif program != ANY:
        folder, slash, _ = part.path.rpartition("/")
        if slash and folder not in STANDARD_FOLDERS:
            return 0
        if not (part.argv[0].known and _matches(program, part.name, False)):
            return 0
    else:
        rest = [program, *rest]
        return _prefix(rest, part, 0)
    return _prefix(rest, part, 1)


def _sets_something(part: Part) -> bool:
    for assignment in part.assignments:
        name, _, value = assignment.partition("=")
        if SAFE_TO_EXPORT.fullmatch(name) and PLAIN_VALUE.fullmatch(value):
            continue
        if CHANGES_PROGRAMS.fullmatch(name):
            return True
    return False


def _prefix(pattern: list[str], part: Part, at: int) -> int:
    """The place behind the words that ``pattern`` takes from ``at`` on, 0 when it doesn't fit."""
    if not pattern:
        return at
    first, *rest = pattern
    if first == ANY:
        if not rest:
            return len(part.argv) + 1
        return max((_prefix(rest, part, i) for i in range(at, len(part.argv))), default=0)
    if at >= len(part.argv):
        return 0
    word = part.argv[at]
    # A pattern of a lone * takes what isn't known too, as long as it is one word.
    fits = word.known or (first == "*" and not word.loose)
    if not fits or not _matches(first, part.words[at], False):
        return 0
    return _prefix(rest, part, at + 1)


def hits(rule: Rule, part: Part, klass: Class) -> Hit:
    """Whether a deny or ask rule means ``part``: certainly, perhaps (words nobody knows could make
    it so), or not."""
    if rule.tool != "shell":
        return ""
    if rule.words is None:
        return "yes"
    hit = _generous(rule.words, part) if part.argv else ""
    if not hit and klass.opaque and not part.transparent:
        return "maybe" if _could_run(rule.words, part) else ""
    return hit


def _could_run(words: tuple[str, ...], part: Part) -> bool:
    """Whether an opaque part could run the rule's command, as far as its text tells."""
    if part.code is None:
        return True
    program = words[0].replace("\\", "").rsplit("/", 1)[-1].strip("*")
    text = part.code.casefold()
    return program.casefold() in text or any(trick.casefold() in text for trick in _TRICKS)


def _generous(pattern: tuple[str, ...], part: Part) -> Hit:
    program, *rest = pattern
    if program == ANY:
        return "yes"
    if not part.argv[0].known:
        return ""
    if "/" in program:
        if not _matches(program, part.path, True):
            return ""
    elif not _matches(program, part.name, True):
        return ""
    flags = [word for word in rest if word.startswith("-") and word != "-"]
    plain = [word for word in rest if word not in flags]
    unsure = False
    for flag in flags:
        hit = _flag(flag, part)
        if not hit:
            return ""
        unsure = unsure or hit == "maybe"
    start = git_subcommand(part.argv) if part.name == "git" else 1
    hit = _in_order(plain, part, start, first=part.name != "git" or start >= len(part.argv))
    if not hit:
        return ""
    return "maybe" if unsure or hit == "maybe" else "yes"


def _flag(flag: str, part: Part) -> Hit:
    """An option counts wherever it stands, with a value behind it, among other letters, or long
    and cut short."""
    hit: Hit = "maybe" if part.more else ""
    for word in part.argv[1:]:
        text = word.text
        if _matches(flag, text, False):
            return "yes"
        name = text.partition("=")[0]
        if flag.startswith("--") and "*" not in flag:
            if name == flag or (len(name) > 4 and flag.startswith(name)):
                return "yes"
        elif (
            not flag.startswith("--")
            and text.startswith("-")
            and not text.startswith("--")
            and set(flag[1:]) <= set(text[1:])
        ):
            return "yes"
        if word.loose:
            hit = "maybe"
    return hit


def _in_order(pattern: list[str], part: Part, at: int, first: bool) -> Hit:
    """The pattern's words in their order, with nothing but options and what may be the value of
    one between them."""
    if not pattern:
        return "yes"
    wanted, *rest = pattern
    if wanted == ANY:
        found = [_in_order(rest, part, i, True) for i in range(at, len(part.argv) + 1)]
        return "yes" if "yes" in found else "maybe" if "maybe" in found else ""
    best: Hit = ""
    while at < len(part.argv):
        word = part.argv[at]
        fits = word.known and _matches(wanted, part.words[at], False)
        if fits or not word.known:
            hit = _in_order(rest, part, at + 1, True)
            if hit == "yes" and fits:
                return "yes"
            best = "maybe" if hit else best
        if word.loose:
            return best or "maybe"
        previous = part.argv[at - 1].text if at > 1 else ""
        option = word.text.startswith("-")
        value = previous.startswith("-") and "=" not in previous and first
        if not option and not value:
            return best
        at += 1
    return "maybe" if part.more else best
