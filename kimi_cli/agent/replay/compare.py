"""Whether a tool call gave the result that was recorded, and where it did not."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from kimi_cli.agent.replay.normalise import normalise
from kimi_cli.agent.replay.places import Places
from kimi_cli.protocol.events import ToolResult
from kimi_cli.protocol.messages import MediaPart, TextPart, ToolCallPart

LEFT_OUT = "[... left out"


def difference(
    call: ToolCallPart, then: ToolResult, now: ToolResult, places: Places, project: Path
) -> list[str]:
    """The lines of a unified diff from the recorded result to the one of now; none when they are
    the same but for what is volatile.

    Compared are status, text, media and what was done to which files. Of a command in the
    background only how it ended, if it did: how far its output had got is chance. The results of
    tools that read the project's own files are compared to the letter; ``project`` is where these
    are as they were at the beginning.
    """
    if _in_background(then) or _in_background(now):
        before, after = _outcome(then, now), _outcome(now, then)
    else:
        command = _command(call, then, places, project)
        before, after = (list(_lines(result, places, command)) for result in (then, now))
        before, after = _aligned(before, after)
    return list(difflib.unified_diff(before, after, "recorded", "now", lineterm="", n=3))


def _in_background(result: ToolResult) -> bool:
    return bool(result.data.get("background"))


def _outcome(result: ToolResult, other: ToolResult) -> list[str]:
    """Status and, where both have ended, exit code."""
    lines = [f"status: {result.status}"]
    codes = [one.data.get("exit_code") for one in (result, other)]
    return lines if None in codes else [*lines, f"exit status: {codes[0]}"]


def _command(call: ToolCallPart, then: ToolResult, places: Places, project: Path) -> str | None:
    """The command whose output is compared; None for files that are the project's own."""
    if then.name == "shell":
        try:
            return str(json.loads(call.arguments, strict=False).get("command", ""))
        except (ValueError, AttributeError, RecursionError):
            return ""
    read = [touch.path for touch in then.files if touch.action == "read"]
    made = [path for path in read if not _is_of(project, places.neutral(path))]
    return "" if made else None


def _is_of(project: Path, neutral: str) -> bool:
    """Whether a file was there before the session."""
    inside = neutral.partition("<project>/")[2]
    return bool(inside) and (project / inside).is_file()


def _lines(result: ToolResult, places: Places, command: str | None) -> Iterator[str]:
    """The result as lines, without what may differ."""
    yield f"status: {result.status}"
    text = "".join(part.text for part in result.parts if isinstance(part, TextPart))
    yield from _clean(text, places, command)
    for part in result.parts:
        if isinstance(part, MediaPart):
            digest = sha256(part.url.encode("utf-8", "surrogatepass")).hexdigest()[:12]
            yield f"[{part.kind} {part.name or ''} {digest}]"
    for touch in result.files:
        if touch.action == "read":
            continue
        yield f"{touch.action} {places.neutral(touch.path)} (+{touch.added} -{touch.removed})"
        hunks = "\n".join(touch.diff.splitlines()[2:])
        if hunks not in text:
            yield from _clean(hunks, places, command)


def _clean(text: str, places: Places, command: str | None) -> list[str]:
    return normalise(places.neutral(text), command).splitlines()


def _aligned(before: list[str], after: list[str]) -> tuple[list[str], list[str]]:
    """Two outputs whose middle was left out, cut to what is in both: how much stays of each
    depends on the length of the paths in it."""
    cuts = [_cut(before), _cut(after)]
    if None in cuts:
        return before, after
    (first, second) = (cut or 0 for cut in cuts)
    head = max(min(first, second) - 1, 0)
    tail = max(min(len(before) - first, len(after) - second) - 2, 0)
    return _ends(before, head, tail), _ends(after, head, tail)


def _cut(lines: list[str]) -> int | None:
    return next((n for n, line in enumerate(lines) if line.startswith(LEFT_OUT)), None)


def _ends(lines: list[str], head: int, tail: int) -> list[str]:
    return [*lines[:head], f"{LEFT_OUT} ...]", *lines[len(lines) - tail :]]
