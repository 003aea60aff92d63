"""Which of the files that a command names it shows, copies or sends, and which it replaces."""

from __future__ import annotations

from collections.abc import Iterable

from kimi_cli.safety.shell_parts import Part
from kimi_cli.safety.shell_words import Word

SHOWING = frozenset(
    {
        *("cat", "tac", "nl", "head", "tail", "less", "more", "bat", "strings", "xxd", "od"),
        *("hexdump", "grep", "egrep", "fgrep", "rg", "sed", "awk", "cut", "sort", "uniq", "diff"),
        *("jq", "yq", "base64", "base32", "cp", "mv", "tar", "zip", "gzip", "scp", "rsync", "curl"),
        "openssl",
    }
)
"""Programs that show, copy or send the files they are given."""
COPYING = frozenset({"cp", "mv"})
"""Programs whose last word is where to; it is the first with -t (cp(1), mv(1))."""
_TARGET = ("-t", "--target-directory")
_NOT_SHOWN = {
    **dict.fromkeys(
        ("grep", "egrep", "fgrep", "tar", "rsync", "diff"),
        frozenset({"--exclude", "--exclude-dir", "--include"}),
    ),
    # openssl-req(1), openssl-genpkey(1): files that it makes.
    "openssl": frozenset({"-keyout", "-out"}),
}
"""Options whose word names no file to show."""


def named(part: Part) -> list[str]:
    """Words that could be files it reads."""
    return [*part.reads, *_files(part.argv[1:])]


def shown(part: Part) -> list[str]:
    """Files that are shown, copied or sent."""
    if part.name not in SHOWING:
        return []
    passed = _NOT_SHOWN.get(part.name, frozenset())
    words = [
        word
        for before, word in zip(part.argv, part.argv[1:], strict=False)
        if before.text not in passed and word.text.partition("=")[0] not in passed
    ]
    return [*part.reads, *_files(words[:-1] if replaced(part) else words)]


def replaced(part: Part) -> str:
    """The file or folder that is copied or moved to; "" where that can't be told."""
    words = part.argv[1:]
    if part.name not in COPYING or len(words) < 2 or not words[-1].known:
        return ""
    if any(word.text.startswith(_TARGET) for word in words):
        return ""
    return words[-1].text


def _files(words: Iterable[Word]) -> list[str]:
    known = [word.text for word in words if word.known]
    known += [word.partition("=")[2] for word in known if "=" in word]
    return [word for word in known if word and not word.startswith("-")]
