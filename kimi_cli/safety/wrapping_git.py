"""What git runs besides itself: aliases, programs that settings name, commands it is given."""

from __future__ import annotations

import re
from dataclasses import replace

from kimi_cli.safety.shell_parts import Part
from kimi_cli.safety.shell_words import Word
from kimi_cli.safety.unwrapping import Argv, Unwrapped, after, given
from kimi_cli.safety.wrappers_data import GIT_VALUES

_EXECUTING_KEYS = re.compile(
    r"(alias\.|core\.(pager|editor|sshcommand|fsmonitor|askpass|gitproxy|hookspath|alternaterefs)"
    r"|pager\.|diff\.external|.*\.(textconv|command|cmd|path|program|helper|clean|smudge|process"
    r"|driver|uploadpack|receivepack|vcs|proxy)$|sequence\.editor|protocol\.|gpg|include)",
    re.IGNORECASE,
)


def git_subcommand(argv: Argv) -> int:
    """The place of git's subcommand, behind its options; the number of words when there is none."""
    at = 1
    while at < len(argv) and argv[at].text.startswith("-"):
        at += 2 if argv[at].text in GIT_VALUES else 1
    return min(at, len(argv))


def git(part: Part) -> Unwrapped | None:
    argv = part.argv
    at = git_subcommand(argv)
    commands: list[tuple[Argv, int]] = []
    scripts: list[Word] = []
    for setting in after(argv[:at], "-c"):
        key, _, value = setting.text.partition("=")
        if key.lower().startswith("alias.") and not value.startswith("!"):
            words = tuple(Word(text, setting.known) for text in value.split())
            commands.append(((Word("git"), *words, *argv[at + 1 :]), -1))
        elif _EXECUTING_KEYS.match(key):
            scripts.append(replace(setting, text=value.removeprefix("!")))
    name = argv[at].text if at < len(argv) else ""
    rest = argv[at + 1 :]
    if name == "bisect" and rest and rest[0].text == "run":
        commands.append((rest[1:], at + 2))
    elif name == "submodule" and "foreach" in [w.text for w in rest]:
        start = [w.text for w in rest].index("foreach") + 1
        while start < len(rest) and rest[start].text.startswith("-"):
            start += 1
        scripts.append(
            Word(" ".join(w.text for w in rest[start:]), all(w.known for w in rest[start:]))
        )
    elif name == "rebase":
        scripts += after(rest, "-x", "--exec")
    elif name == "filter-branch":
        scripts += [rest[i + 1] for i, w in enumerate(rest[:-1]) if w.text.endswith("-filter")]
    found = given(scripts, "git") or Unwrapped()
    commands = [(words, place) for words, place in commands if words]
    if not commands and found == Unwrapped():
        return None
    return replace(found, commands=tuple(commands))
