"""A git configuration file without the settings that name programs.

What is left is written anew from what was read: whatever git might read in the text that
``git_config`` does not is gone too.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kimi_cli.workspace import nofollow
from kimi_cli.workspace.git_config import names_program, parse_config

_LARGEST = 1 << 20
TOO_LARGE = "it is larger than a megabyte"
NO_FILE = "it is no regular file"


@dataclass(frozen=True, slots=True)
class Defused:
    """``programs`` are the settings left out, or why all is; ``content`` and ``mode`` are what the
    file is to have."""

    programs: tuple[str, ...]
    content: bytes
    mode: int


def without_programs(path: Path) -> Defused | None:
    """The configuration file at the resolved ``path`` without what names programs; None when it
    names none, or is not there. Of what is no regular file, and of one larger than a megabyte,
    nothing is left. Raises OSError, with ELOOP where a symlink is on the way."""
    try:
        with nofollow.folder(path.parent) as parent:
            kind = stat.S_IFMT(os.stat(path.name, dir_fd=parent, follow_symlinks=False).st_mode)
            if kind != stat.S_IFREG:
                return Defused((NO_FILE,), b"", 0o644)
            with os.fdopen(nofollow.open_file(parent, path.name, path), "rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                data = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    if len(data) > _LARGEST:
        return Defused((TOO_LARGE,), b"", mode)
    values = parse_config(path, data).values
    programs = [key for key, value in values if names_program(key, value)]
    # Without the filter git would refuse each file that it is required for.
    stripped = {key.rpartition(".")[0] for key in programs if key.startswith("filter.")}
    left_out = {*programs, *(f"{section}.required" for section in stripped)}
    if not programs:
        return None
    kept = [(key, value) for key, value in values if key not in left_out and key[0] != "."]
    return Defused(tuple(dict.fromkeys(programs)), written(kept), mode)


def written(values: Sequence[tuple[str, str]]) -> bytes:
    """The text of a configuration file that git reads as these names and values."""
    lines: list[str] = []
    current = None
    for key, value in values:
        section, subsection, name = _parts(key)
        if (section, subsection) != current:
            current = (section, subsection)
            lines.append(f"[{section}{_quoted(subsection)}]")
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        escaped = escaped.replace("\n", "\\n").replace("\t", "\\t").replace("\b", "\\b")
        lines.append(f'\t{name} = "{escaped}"')
    return os.fsencode("".join(f"{line}\n" for line in lines))


def _parts(key: str) -> tuple[str, str | None, str]:
    rest, _, name = key.rpartition(".")
    section, dot, subsection = rest.partition(".")
    return section, subsection if dot else None, name


def _quoted(subsection: str | None) -> str:
    if subsection is None:
        return ""
    return ' "' + subsection.replace("\\", "\\\\").replace('"', '\\"') + '"'
