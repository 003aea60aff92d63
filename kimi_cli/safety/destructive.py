"""Commands that are asked about even in a sandbox: what they remove, nothing brings back.

Kept short on purpose. It names what neither the sandbox (they stay inside the workspace) nor undo
(they take what git and the snapshots live on, or what lies on another machine) can make good.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from kimi_cli.safety.shell_parts import Part
from kimi_cli.safety.wrapping_git import git_subcommand

_ALL_OF_A_VARIABLE = re.compile(r"\$(\w+|\{\w+\})/+\.?\*?")
"""All of ``/`` when the variable is empty."""


def destructive(
    part: Part, folders: Sequence[Path] = (), home: Path | None = None, cwd: Path | None = None
) -> tuple[str, int]:
    """Why ``part`` is asked about, and the index of the word that makes it so; empty and 0 when it
    isn't."""
    if part.name == "rm":
        return _rm(part, [*folders, *([home] if home else [])], cwd)
    if part.name == "git":
        return _git(part)
    if part.name in ("mkfs", "wipefs", "shred", "fdisk") or part.name.startswith("mkfs."):
        return f"{part.name} destroys what was there", 0
    if part.name == "dd":
        at = next((i for i, w in enumerate(part.argv) if w.text.startswith("of=/dev/")), 0)
        if at and part.argv[at].text not in ("of=/dev/null", "of=/dev/stdout"):
            return "dd writes over a device", at
    return "", 0


def _rm(part: Part, places: Sequence[Path], cwd: Path | None) -> tuple[str, int]:
    options = [w.text for w in part.argv[1:] if w.text.startswith("-")]
    if not any(o.startswith("--r") or (o[:2] != "--" and set(o) & {"r", "R"}) for o in options):
        return "", 0
    for at, word in enumerate(part.argv[1:], start=1):
        if word.text.startswith("-") and word.known:
            continue
        if _everything(word.text, places, None if part.moved else cwd):
            return f"rm would remove all of {word.text}", at
    return "", 0


def _everything(text: str, places: Sequence[Path], cwd: Path | None) -> bool:
    """Whether a path stands for ``/``, the home folder, or a workspace folder or one above."""
    if _ALL_OF_A_VARIABLE.fullmatch(text):
        return True
    path = text.removesuffix("/*").removesuffix("/.*").rstrip("/")
    if path in (
        "",
        ".",
        "*",
        ".*",
        "..",
        ".git",
        "./.git",
        "~",
        "$HOME",
        "${HOME}",
        "$PWD",
        "${PWD}",
    ):
        return True
    if path.endswith("/.git") or set(path.split("/")) <= {"..", "."}:
        return True
    if not path.startswith("/") and cwd is None:
        return False
    real = Path(os.path.normpath(f"{cwd}/{path}" if not path.startswith("/") else path))
    return any(place.is_relative_to(real) for place in places)


_GIT: dict[str, tuple[frozenset[str], str]] = {
    "clean": (frozenset({"-x", "-X"}), "git clean -x removes ignored files, which nothing keeps"),
    "stash": (frozenset({"drop", "clear"}), "a dropped stash is gone"),
    "reflog": (frozenset({"expire", "delete"}), "the reflog is what lost commits are found by"),
    "gc": (frozenset({"--prune"}), "pruning removes what no branch holds any more"),
    "prune": (frozenset(), "pruning removes what no branch holds any more"),
    "push": (
        frozenset({"-f", "--force", "--force-with-lease", "--mirror", "--delete", "-d", "--prune"}),
        "it replaces or removes what others have pushed",
    ),
    "filter-branch": (frozenset(), "it rewrites every commit"),
    "filter-repo": (frozenset(), "it rewrites every commit and drops the old ones"),
    "update-ref": (frozenset({"-d", "--stdin"}), "it removes a reference without a trace"),
}


def _git(part: Part) -> tuple[str, int]:
    at = git_subcommand(part.argv)
    name = part.argv[at].text if at < len(part.argv) else ""
    marks, reason = _GIT.get(name, (frozenset(), ""))
    if not reason:
        return "", 0
    if not marks:
        return reason, at
    letters = {mark[1] for mark in marks if len(mark) == 2 and mark[0] == "-"}
    for i, word in enumerate(part.argv[at + 1 :], start=at + 1):
        text = word.text
        option = text.partition("=")[0]
        long = text.startswith("--") and len(option) > 4
        if option in marks or (long and any(mark.startswith(option) for mark in marks)):
            return reason, i
        if text.startswith("-") and not text.startswith("--") and letters & set(text[1:]):
            return reason, i
        if name == "push" and text.startswith("+"):
            return reason, i
        if name == "push" and text.startswith(":"):
            return reason, i
    return "", 0
