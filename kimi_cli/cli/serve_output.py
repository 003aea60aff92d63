"""What the commands of `kimi serve` have in common that print: widths, lines, refusals."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

from kimi_cli.cli.output import json_line

if TYPE_CHECKING:
    from kimi_cli.frontends.serve.pane import Pane

GOOD, FAILED, USAGE = 0, 1, 2
NO_TERMINAL, WIDEST = 80, 100
PLAIN = str.maketrans({"×": "x", "·": "-", "–": "-", "’": "'"})
"""For terminals without UTF-8."""


def width(stream: TextIO) -> int:
    """The terminal's columns, as far as they are good to read; 80 where there is no terminal."""
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return NO_TERMINAL
    return min(columns, WIDEST) if columns else NO_TERMINAL


def show(lines: Iterable[str], stream: TextIO) -> None:
    """Print lines, cleaned, in what the terminal's encoding has."""
    from kimi_cli.frontends.plain import clean

    for line in lines:
        text = clean(line)
        try:
            text.encode(stream.encoding)
        except UnicodeEncodeError:
            text = text.translate(PLAIN)
        print(text, file=stream)


def pane(stream: TextIO) -> Pane:
    """Where styled lines go."""
    from kimi_cli.frontends.serve.pane import Pane

    return Pane(stream, os.environ)


def plan_fail(kind: str, message: str, as_json: bool, code: int, **more: Any) -> NoReturn:
    """End because nothing could be planned."""
    if as_json:
        print(json_line({"fits": None, "error": {"kind": kind, "message": message, **more}}))
    else:
        _say(message, "")
    raise typer.Exit(code)


def fail(kind: str, message: str, as_json: bool, code: int, todo: str = "") -> NoReturn:
    """End because nothing was started or found, and say what to do."""
    if as_json:
        error = {"kind": kind, "message": message, "todo": todo, "evidence": ""}
        print(json_line({"state": None, "error": error}))
    else:
        _say(message, todo)
    raise typer.Exit(code)


def _say(message: str, todo: str) -> None:
    from kimi_cli.frontends.plain import clean

    print(f"kimi: {clean(message)}", file=sys.stderr)
    for line in todo.splitlines():
        print(f"  {clean(line)}", file=sys.stderr)
