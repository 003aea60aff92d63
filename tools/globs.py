"""Glob patterns as options of ripgrep.

ripgrep's ``--glob`` overrides the ignore files for whatever it matches, folders included; its file
types do not, but they look at names only. So a pattern is taken apart: leading folders become the
folder to start in, the name a file type, and only a wildcard folder in between needs ``--glob``.
"""

from __future__ import annotations

import os
import re

_WILD = re.compile(r"[*?\[{]")


def split_pattern(path: str, pattern: str) -> tuple[str, str]:
    """(folder to walk, rest of the pattern): leading folders without wildcards join the path.

    The rest starts with ``/`` when the pattern is anchored in the folder; a pattern of a name
    only is matched at any depth.
    """
    *folders, last = re.sub(r"^(\./)+", "", pattern).split("/")
    if not folders:
        return path, last
    fixed = 0
    while fixed < len(folders) and not _WILD.search(folders[fixed]):
        fixed += 1
    base = "/".join(folders[:fixed])
    if fixed and not base:
        base = "/"
    rest = "/".join([*folders[fixed:], last or "**"])
    # An absolute pattern, or one from the home folder, does not start in ``path``.
    return base if base.startswith(("/", "~")) else os.path.join(path, base), f"/{rest}"


def options(rest: str) -> list[str]:
    """ripgrep's options for the rest of a pattern that ``split_pattern`` gave."""
    plain = re.sub(r"^/(\*\*/)+", "", rest)
    if plain in ("*", "**", "/**"):
        return []
    if re.fullmatch(r"/?[^/:!][^/:]*", plain) and "**" not in plain:
        depth = ["--max-depth=1"] if plain.startswith("/") else []
        name = plain.removeprefix("/")
        # A pattern of one file type: the type's own name is arbitrary.
        return [*depth, *(() if name == "*" else (f"--type-add=wanted:{name}", "--type=wanted"))]
    return [f"--glob={rest}"]
