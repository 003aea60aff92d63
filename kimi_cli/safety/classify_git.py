"""Which git commands only read.

git runs programs that a repository's own configuration names (a diff driver, an fsmonitor hook).
The configuration of the session's own repository is protected otherwise; that of any other folder
is not, so git elsewhere is never taken for reading.
"""

from __future__ import annotations

from collections.abc import Sequence

from kimi_cli.safety.classify_data import GIT_LISTING, GIT_LISTS, GIT_READERS, GIT_SECOND
from kimi_cli.safety.classify_options import objection
from kimi_cli.safety.shell_parts import Part
from kimi_cli.safety.shell_words import Word
from kimi_cli.safety.wrapping_git import git_subcommand

_BEFORE = frozenset({"--no-pager", "-P", "--no-optional-locks", "--literal-pathspecs"})


def git_words(argv: Sequence[Word]) -> tuple[str, ...]:
    """The subcommand and what follows."""
    return tuple(word.text for word in argv[git_subcommand(tuple(argv)) :])


def git_reads(part: Part) -> str:
    """Why this git command is more than reading; empty when it isn't."""
    at = git_subcommand(part.argv)
    for word in part.argv[1:at]:
        if word.text not in _BEFORE:
            return f"git {word.text} may change what runs"
    if part.moved:
        return "git in another folder runs what that folder's configuration says"
    if at >= len(part.argv) or not part.argv[at].known:
        return "the git command is not known"
    name, rest = part.argv[at].text, part.argv[at + 1 :]
    if any("%G" in word.text for word in rest):
        return "a signature's check runs a program"
    second = GIT_SECOND.get(name)
    if second is not None:
        given = rest[0].text if rest else ""
        if given in second and not any(w.loose for w in rest[:1]):
            return objection(rest[1:], GIT_READERS["log"], part.more)
        if name not in GIT_LISTS:
            return f"git {name} {given} is not known to only read"
    if name in GIT_LISTS:
        return _lists(name, rest, part.more)
    reader = GIT_READERS.get(name)
    if reader is None:
        return f"git {name} is not known to only read"
    return objection(rest, reader, part.more)


def _lists(name: str, rest: Sequence[Word], more: bool) -> str:
    """``branch``, ``tag``, ``remote``, ``config``: with known options alone they list."""
    refusal = f"git {name} with these words is not known to only read"
    allowed = GIT_LISTS[name].split()
    listing = any(word.text.partition("=")[0] in GIT_LISTING[name] and word.known for word in rest)
    operands = 0
    for word in rest:
        if word.loose:
            return f"{word.text} may be an option"
        option = word.text.partition("=")[0]
        if option.startswith("-"):
            if option.lstrip("-") not in allowed or option.startswith("---"):
                return refusal
            if name == "branch" and option == "-l":
                return refusal
        else:
            operands += 1
    if more or (operands and not listing and not (name == "config" and _looks_up(rest, operands))):
        return refusal
    return ""


def _looks_up(rest: Sequence[Word], operands: int) -> bool:
    """``git config NAME`` prints a value; with one word more it would set it."""
    return operands == 1 and "." in rest[-1].text and len(rest) == 1
