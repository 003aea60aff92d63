"""A tool call in words: what, on what, and how it went."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from kimi_cli.frontends.plain import seconds
from kimi_cli.frontends.terminal.paint import one_line
from kimi_cli.protocol.events import ToolResult

WORTH_SAYING = 1.0
"""Seconds from which the time of a call other than a command is shown."""
TOLD_BY_ARGUMENTS = ("grep", "read")
"""Tools whose calls are told by their arguments, better than by their summary."""
_TIME = re.compile(r"(?:^|, )\d+(?:\.\d+)? s$")
_CHANGE = re.compile(r"\+(\d+) -(\d+)")
_PART = re.compile(r"(\d+) of ([\d,]+) lines?$")
_OUTCOME = re.compile(r"\[[^\[\]]*\]$")
_OBJECTS = ("command", "path", "pattern", "url")
"""Arguments that say best what a call is about, where it has no summary."""


def call_words(name: str, summary: str, arguments: str = "", display: str = "") -> str:
    """``grep "coupon" src/``, ``read src/cart.py:40-112``: the call on one line. ``arguments`` is
    the JSON the model wrote and ``display`` the outcome, as far as they are known."""
    words = ""
    if name in TOLD_BY_ARGUMENTS:
        given = _parsed(arguments)
        words = _grep(given) if name == "grep" else _read(given, display)
    return one_line(f"{name} {words or summary or _object(arguments)}")


def outcome_words(result: ToolResult) -> str:
    """``14 matches in 5 files``, ``exit 2``, ``+1 −1``; empty where the call says it all."""
    display = _TIME.sub("", one_line(result.display))
    if result.status == "error":
        display = display.removeprefix("error: ").replace("exit status ", "exit ") or "failed"
    elif result.status != "ok":
        display = display or result.status
    elif result.name == "read" and _PART.match(display):
        return ""
    return _CHANGE.sub(r"+\1 −\2", display)


def time_words(result: ToolResult) -> str:
    """How long the call took, where that is of interest."""
    told = result.name == "shell" or result.seconds >= WORTH_SAYING
    return seconds(result.seconds) if told else ""


def output_lines(result: ToolResult, text: str) -> list[str]:
    """The lines of a command's output, without what was added for the model: how it ended, and
    that there was none."""
    lines = text.rstrip().split("\n")
    if result.name == "shell":
        while lines and (_OUTCOME.match(lines[-1]) or not lines[-1].strip()):
            lines.pop()
        if lines in (["(no output)"], ["(no new output)"]):
            return []
    while lines and not lines[0].strip():
        lines.pop(0)
    return lines


def after_cut(lines: Sequence[str], path: str | None) -> Sequence[str] | None:
    """Of the lines of an output that was cut in the middle, those after the cut; None where it is
    whole. ``path`` is the file that has the whole."""
    note = f"left out; the whole output is in {path} ...]"
    places = [place for place, line in enumerate(lines) if line.endswith(note)] if path else []
    return lines[places[-1] + 1 :] if places else None


def size_words(count: int) -> str:
    """``15 kB``, ``30 MB``: a size in bytes."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:.1f}".removesuffix(".0") + f" {unit}"
    return f"{count} bytes"


def _object(arguments: str) -> str:
    given = _parsed(arguments)
    return next((text for key in _OBJECTS if isinstance(text := given.get(key), str)), "")


def _parsed(arguments: str) -> dict[str, Any]:
    try:
        given = json.loads(arguments, strict=False)
    except (ValueError, RecursionError):
        return {}
    return given if isinstance(given, dict) else {}


def _grep(given: dict[str, Any]) -> str:
    pattern, path, glob = (given.get(key) for key in ("pattern", "path", "glob"))
    if not isinstance(pattern, str):
        return ""
    pieces = [f'"{pattern}"', path if path and path != "." else "", f"({glob})" if glob else ""]
    return " ".join(str(piece) for piece in pieces if piece)


def _read(given: dict[str, Any], display: str) -> str:
    path, first, part = given.get("path"), given.get("offset", 1), _PART.match(display)
    if not isinstance(path, str) or not isinstance(first, int) or not part:
        return ""
    if first < 0:
        first = max(int(part[2].replace(",", "")) + first + 1, 1)
    return f"{path}:{max(first, 1)}-{max(first, 1) + int(part[1]) - 1}"
