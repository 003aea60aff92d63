"""Reading git's configuration files, as far as it takes to see which programs they name.

The syntax is that of git-config(1), "Syntax".
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_LARGEST = 1 << 20
_SECTION = re.compile(r'\[\s*([-.A-Za-z0-9]+)\s*(?:"((?:[^"\\]|\\.)*)")?\s*\]')
_KEY = re.compile(r"([A-Za-z][-A-Za-z0-9]*)[ \t]*(=?)")
# Not str.isspace: git knows no other (ctype.c).
_SPACE = " \t\n\r"
# With these a value turns something of git's own on or off.
_SWITCHES = re.compile(r"core\.fsmonitor|pager\..+")
_ESCAPES = {"n": "\n", "t": "\t", "b": "\b"}

_PROGRAMS = re.compile(
    r"core\.(fsmonitor|hookspath|sshcommand|gitproxy|pager|editor|askpass|alternaterefscommand)"
    r"|(alias|pager|interactive|sequence|browser|man|guitool)\..+|credential\.(.+\.)?helper"
    r"|(filter|diff|difftool|merge|mergetool)\..+\.(clean|smudge|process|textconv|command|driver|cmd)"
    r"|(difftool|mergetool)\..+\.path|hook\..+\.command|tar\..+\.command|protocol\.allow"
    r"|diff\.external|gpg\.(.+\.)?program|include\.path|includeif\..+\.path|submodule\..+\.update"
    r"|uploadpack\.packobjectshook|remote\..+\.(uploadpack|receivepack|vcs)"
    r"|protocol\.ext\.allow|trailer\..+\.(command|cmd)"
)


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """What a configuration file says: names as git compares them (section and key in small letters,
    a subsection as it is written, joined with dots) and values, in the order of the file."""

    path: Path
    values: tuple[tuple[str, str], ...] = field(default=())

    def last(self, name: str) -> str | None:
        """The value that holds, None without one."""
        return next((value for key, value in reversed(self.values) if key == name), None)

    def includes(self) -> Iterator[str]:
        """Paths of the files that it may include, whatever the condition."""
        for key, value in self.values:
            if key == "include.path" or (key.startswith("includeif.") and key.endswith(".path")):
                yield os.path.join(self.path.parent, os.path.expanduser(value))

    def programs(self) -> list[str]:
        """The settings that name a program to run, or a file with such settings."""
        return [key for key, value in self.values if names_program(key, value)]


def names_program(key: str, value: str) -> bool:
    """Whether the setting names a program to run, or a file with such settings."""
    if not value or not _PROGRAMS.fullmatch(key):
        return False
    if key.startswith("submodule."):
        # The others are ways to update, gitmodules(5).
        return value.startswith("!")
    return not (value in ("true", "false") and _SWITCHES.fullmatch(key))


def read_config(path: Path) -> ConfigFile:
    """The file, empty when it can't be read; of a large one the first megabyte."""
    try:
        # A FIFO would make us wait for somebody to write to it.
        with open(path, "rb", opener=_at_once) as file:
            data = file.read(_LARGEST) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except OSError:
        return ConfigFile(path)
    return parse_config(path, data)


def parse_config(path: Path, data: bytes) -> ConfigFile:
    """What the file at ``path`` says, ``data`` being its content."""
    return ConfigFile(path, tuple(_parse(os.fsdecode(data).replace("\r\n", "\n"))))


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _parse(text: str) -> Iterator[tuple[str, str]]:
    section = ""
    place = 0
    while place < len(text):
        char = text[place]
        if char in " \t\n":
            place += 1
        elif char in "#;":
            place = _line_end(text, place)
        elif char == "[" and (found := _SECTION.match(text, place)):
            section = found[1].lower()
            if found[2] is not None:
                section += "." + re.sub(r"\\(.)", r"\1", found[2])
            place = found.end()
        elif found := _KEY.match(text, place):
            value, place = _value(text, found.end()) if found[2] else ("true", found.end())
            yield f"{section}.{found[1].lower()}", value
        else:
            place = _line_end(text, place)


def _value(text: str, place: int) -> tuple[str, int]:
    """The value that starts at ``place``, and where it ends."""
    made: list[str] = []
    # What follows a space counts only when something else follows: blanks at the end don't.
    kept = 0
    quoted = False
    while place < len(text):
        char = text[place]
        place += 1
        if char == "\n":
            break
        if char == '"':
            quoted = not quoted
            kept = len(made)
        elif char == "\\" and place < len(text):
            if text[place] != "\n":
                made.append(_ESCAPES.get(text[place], text[place]))
                kept = len(made)
            place += 1
        elif char in "#;" and not quoted:
            place = _line_end(text, place)
        elif made or quoted or char not in _SPACE:
            made.append(char)
            if quoted or char not in _SPACE:
                kept = len(made)
    return "".join(made[:kept]), place


def _line_end(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end
