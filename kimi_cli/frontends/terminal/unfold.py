"""Showing what was folded: printed below as a whole, or in a pager where it is very long."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path

from kimi_cli.frontends.plain import clean, clean_block, counted, revealed
from kimi_cli.frontends.terminal.folds import Fold, Folds
from kimi_cli.frontends.terminal.ink import Ink, Style, wrapped
from kimi_cli.workspace.programs import find_trusted

MOST_LINES = 500
"""More than this is for a pager."""


def latest(folds: Folds, thinking: bool) -> Fold | None:
    """The newest fold that holds thinking, or the newest that does not."""
    for fold in reversed(folds.all()):
        if (fold.kind == "thinking") == thinking:
            return fold
    return None


def fold_lines(fold: Fold, ink: Ink, width: int) -> list[str]:
    """The whole fold, four columns in, under its title."""
    styles: dict[str, Style] = {"+": "good", "-": "bad", "@": "dim"} if fold.kind == "diff" else {}
    base: Style = "dim" if fold.kind == "thinking" else ""
    glyph = ink.look.think if fold.kind == "thinking" else ink.look.tool
    lines = [ink.line([(f"{glyph} ", "dim"), (clean(fold.title), "bold")], width)]
    for line in _text_of(fold).strip("\n").split("\n"):
        style = styles.get(line[:1], base)
        lines += [f"    {ink(piece, style)}".rstrip() for piece in wrapped(line, width - 4)]
    return lines


def _text_of(fold: Fold) -> str:
    """Its text, made harmless; what is to be judged, a diff or a question, hides nothing."""
    text = fold.text.expandtabs(4)
    return revealed(text) if fold.kind == "diff" or not fold.number else clean_block(text)


def clipped(lines: list[str], ink: Ink) -> list[str]:
    """The lines, of very many the last."""
    if len(lines) <= MOST_LINES:
        return lines
    gone = counted(len(lines) - MOST_LINES, "line")
    return [lines[0], ink(f"    {ink.look.ellipsis} {gone} before", "dim"), *lines[-MOST_LINES:]]


def find_pager(folders: Sequence[Path]) -> str | None:
    """The pager there is, unless a command could have put it there: it runs outside the sandbox.
    ``folders`` are those of the workspace."""
    try:
        return find_trusted("less", folders)
    except PermissionError:
        return None


async def page(pager: str, fold: Fold, env: Mapping[str, str]) -> None:
    """Show a fold in the pager until the user leaves it. Raises OSError."""
    secure = {**env, "LESSSECURE": "1", "LESSCHARSET": "utf-8"}
    process = await asyncio.create_subprocess_exec(
        pager, "-R", "--", "-", stdin=asyncio.subprocess.PIPE, env=secure
    )
    try:
        await process.communicate(_text_of(fold).encode("utf-8", "replace"))
    finally:
        if process.returncode is None:
            process.kill()
