"""A unified diff as coloured lines with their numbers."""

from __future__ import annotations

import re

from kimi_cli.frontends.export.markup import Markup, put, tag
from kimi_cli.frontends.export.text import harmless

_HUNK = re.compile(r"@@ -(\d{1,9})(?:,\d+)? \+(\d{1,9})(?:,\d+)? @@")
_FILE = ("--- ", "+++ ")


def diff(text: str) -> Markup:
    """A ``pre`` in which every line keeps its sign. The numbers are attributes, so that a copy of
    the text is the diff itself; the lines that name the files are left out."""
    rows: list[str] = []
    old = new = 0
    in_hunk = False
    for line in harmless(text).rstrip("\n").split("\n"):
        kind, number = "", ""
        if found := _HUNK.match(line):
            in_hunk, kind = True, "at"
            old, new = int(found[1]), int(found[2])
        elif not in_hunk and line.startswith(_FILE):
            continue
        elif in_hunk and line.startswith("+"):
            kind, number, new = "add", str(new), new + 1
        elif in_hunk and line.startswith("-"):
            kind, number, old = "del", str(old), old + 1
        elif in_hunk and line.startswith(" "):
            number, old, new = str(new), old + 1, new + 1
        rows.append(tag("span", {"class": f"l {kind}".rstrip(), "data-n": number}, line + "\n"))
    return tag("pre", {"class": "diff"}, put(*rows))
