"""A shell command line taken apart: every program it would start, wherever it hides.

The syntax tree of tree-sitter-bash says where commands, expansions and substitutions lie. It is
more forgiving than bash, so what it says is checked: words and redirections are read again by
bash's own rules (shell_words.py), the gaps between the nodes must be blank, and whatever the tree
takes for plain text must be. Where the two disagree the command is not judged but refused.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING

from kimi_cli.safety.shell_parts import Parsed, Part
from kimi_cli.safety.shell_tree import Walk
from kimi_cli.safety.shell_words import Mismatch
from kimi_cli.safety.wrappers import unwrap

if TYPE_CHECKING:
    from tree_sitter import Parser

LONGEST = 64 * 1024
"""Characters; a longer command is not judged."""
DEEPEST = 6
"""Shells within shells that are looked into."""


def parse(command: str) -> Parsed:
    """The parts of ``command`` in the order of the text, wrapped ones after their wrapper."""
    return _parse(command, 0)


@lru_cache(maxsize=1)
def _parser() -> Parser:
    """Made on first use: the import costs more than a hundred judgements."""
    import tree_sitter_bash
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_bash.language()))


def _parse(command: str, depth: int) -> Parsed:
    if len(command) > LONGEST:
        return Parsed((), f"it is longer than {LONGEST // 1024} KiB")
    if "\0" in command:
        return Parsed((), "it holds a NUL character")
    try:
        source = command.encode()
    except UnicodeEncodeError:
        return Parsed((), "it is not valid Unicode")
    root = _parser().parse(source).root_node
    if root.has_error:
        return Parsed((), "its syntax is not understood")
    walk = Walk(command, source, lambda part, index: _wrapped(part, index, depth))
    try:
        walk.program(root)
    except Mismatch as mismatch:
        return Parsed((), str(mismatch))
    except RecursionError:
        return Parsed((), "it is nested too deeply")
    moved = any(part.name in ("cd", "pushd", "popd") for part in walk.parts)
    parts = [replace(p, moved=True) for p in walk.parts] if moved else walk.parts
    return Parsed(tuple(parts))


def _wrapped(part: Part, index: int, depth: int) -> list[Part]:
    """``part``, which will stand at ``index``, followed by the parts it runs in its turn.

    Raises Mismatch when a command in a string can't be parsed, or is nested too deeply.
    """
    found = unwrap(part)
    if found is None:
        return [part]
    if depth >= DEEPEST:
        return [replace(part, opaque="too many shells in one another")]
    outer = replace(
        part,
        opaque=found.opaque,
        code=found.code,
        transparent=found.transparent,
        assignments=(*part.assignments, *found.assignments),
        writes=(*part.writes, *found.writes),
        quirks=(*part.quirks, *found.quirks),
    )
    parts = [outer]
    via = (*part.via, part.name)
    for argv, at in found.commands:
        inner = Part(
            argv,
            " ".join(word.text for word in argv),
            part.start,
            part.end,
            via=via,
            more=found.more,
            outer=index,
            at=at,
        )
        parts += _wrapped(inner, index + len(parts), depth + 1)
    for script in found.scripts:
        parsed = _parse(script, depth + 1)
        if parsed.trouble:
            parts[0] = replace(
                parts[0], opaque=f"what it is given to run can't be parsed: {parsed.trouble}"
            )
        base = index + len(parts)
        for inner in parsed.parts:
            place = inner.outer + base if inner.outer >= 0 else -1
            parts.append(
                replace(inner, start=part.start, end=part.end, via=(*via, *inner.via), outer=place)
            )
    return parts
