"""Here-documents: where bash ends them, and what it expands in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from kimi_cli.safety.shell_words import Hole, Mismatch, unquote


@dataclass(frozen=True, slots=True)
class Heredoc:
    """``content`` begins at ``start`` of the text. ``plain`` is what the program reads when
    nothing in it is expanded, None otherwise."""

    start: int
    content: str
    quoted: bool
    plain: str | None


def read_heredoc(
    text: str, opening: tuple[int, int], body: int, closing: tuple[int, int], *, tabs: bool
) -> Heredoc:
    """The document whose delimiter stands at ``opening``.

    ``body`` and ``closing`` are where the syntax tree sees it begin and end; ``tabs`` says that
    leading ones don't count (``<<-``). Raises Mismatch when bash sees it elsewhere.
    """
    word = text[slice(*opening)]
    delimiter = unquote(word)
    if delimiter is None or "\n" in delimiter:
        raise Mismatch("a here-document's end is not understood")
    start = text.find("\n", opening[1]) + 1
    line = text.rfind("\n", 0, closing[0]) + 1
    if not start or start > line or body < start or text[start:body].strip():
        raise Mismatch("a here-document is not understood")
    if text[closing[1] : closing[1] + 1] not in ("", "\n"):
        raise Mismatch("a here-document has no end")
    content = text[start:line]
    quoted = word != delimiter
    lines = content.split("\n")
    if not quoted:
        lines += re.sub(r"(?<!\\)((?:\\\\)*)\\\n", r"\1", content).split("\n")

    def ends(each: str) -> bool:
        return (each.lstrip("\t") if tabs else each) == delimiter

    if not ends(text[line : closing[1]]):
        raise Mismatch("a here-document is not understood")
    if any(ends(each) for each in lines):
        raise Mismatch("a here-document ends earlier than it seems to")
    plain = None
    if quoted or not re.search(r"[$`\\]", content):
        plain = re.sub(r"^\t+", "", content, flags=re.MULTILINE) if tabs else content
    return Heredoc(start, content, quoted, plain)


def check_expansions(text: str, start: int, end: int, holes: Mapping[int, Hole]) -> None:
    """Raises Mismatch when the content expands something that ``holes`` doesn't know."""
    at = start
    while at < end:
        if at in holes:
            at = holes[at].end
        elif text[at] == "\\":
            at += 2
        elif text[at] == "`" or text.startswith(("$(", "${", "$["), at):
            raise Mismatch("an expansion in a here-document is not understood")
        else:
            at += 1
