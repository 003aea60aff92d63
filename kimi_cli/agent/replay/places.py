"""Where things were when a session was recorded, and where they are now."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

PROJECT = "<project>"
_HOME = re.compile(r"/(?:home/[^/]+|Users/[^/]+|root)/(.+)")
_UNMAPPED = {"grep": ("pattern",)}
"""Arguments that are no paths: the files that are searched are as they were."""


class Places:
    """Maps paths of a recording to those of a copy of its project, and both to one form.

    ``recorded`` is the top of the project then, ``copy`` that of the copy, ``project`` that of
    what was copied, ``temporary`` the folder for temporary files of now; all absolute and
    resolved. More pairs become known as the replay goes on.
    """

    def __init__(self, recorded: str, copy: str, project: str, temporary: str = "/tmp") -> None:
        self._copy = copy
        self._temporary = temporary
        self._into = _pattern([recorded], _spelled_from_home(recorded))
        self._neutral = _pattern([recorded, project], [])
        self._outputs: dict[str, str] = {}
        self._tasks: dict[str, str] = {}

    def learn_output(self, then: str | None, now: str | None) -> None:
        """The file with the whole output of a call."""
        if then and now:
            self._outputs[then] = now

    def learn_task(self, then: object, now: object) -> None:
        """The id of a background task."""
        if isinstance(then, str) and isinstance(now, str):
            self._tasks[then] = now

    def into_copy(self, text: str) -> str:
        """A text with the recorded paths replaced by those that hold now."""
        for then, now in self._outputs.items():
            text = text.replace(then, now)
        return self._into.sub(lambda _: self._copy, text)

    def neutral(self, text: str) -> str:
        """A text without a trace of where the project is, for comparing."""
        text = self._neutral.sub(PROJECT, text.replace(self._copy, PROJECT))
        return text.replace(f"{self._temporary}/", "/tmp/")

    def arguments(self, tool: str, raw: str) -> str:
        """A call's arguments, ready to run in the copy; what does not parse stays as it is, so
        that its error does too."""
        try:
            given = json.loads(raw, strict=False)
        except (ValueError, RecursionError):
            return raw
        if not isinstance(given, dict):
            return raw
        if tool == "edit":
            mapped = self._edit(given)
        else:
            kept = {name: given[name] for name in _UNMAPPED.get(tool, ()) if name in given}
            mapped = {**_deep(given, self.into_copy), **kept}
        if tool == "shell" and given.get("task") in self._tasks:
            mapped["task"] = self._tasks[given["task"]]
        return raw if mapped == given else json.dumps(mapped, ensure_ascii=False)

    def _edit(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """An edit, in which the old text must stay as the file has it: a file of the project may
        name the project's place in its text, one that the session wrote names the copy's."""
        mapped: dict[str, Any] = _deep(dict(given), self.into_copy)
        content = self._content(mapped.get("path"))
        for before, after in zip(_edits(given), _edits(mapped), strict=True):
            old = before.get("old")
            if isinstance(old, str) and old != after["old"] and old in content:
                after.update(before)
        return mapped

    def _content(self, path: object) -> str:
        try:
            return (Path(self._copy) / str(path)).read_text("utf-8", "replace")
        except (OSError, ValueError):
            return ""


def _edits(arguments: Mapping[str, Any]) -> list[dict[str, Any]]:
    edits = arguments.get("edits")
    return [e for e in edits if isinstance(e, dict)] if isinstance(edits, list) else []


def _spelled_from_home(path: str) -> list[str]:
    """Other ways to write a path below a home folder, which on this machine may be elsewhere."""
    found = _HOME.fullmatch(path)
    return [f"{home}/{found[1]}" for home in ("~", "$HOME", "${HOME}")] if found else []


def _pattern(paths: list[str], more: list[str]) -> re.Pattern[str]:
    """Matches any of the paths where it stands for itself: ``/app`` in ``cd /app/x``,
    ``-I/app`` and ``file:///app``, but not in ``/usr/app``, ``/app-2`` or ``/app.py``."""
    known = sorted({p for p in paths if p.strip("/")} | set(more), key=len, reverse=True)
    if not known:
        return re.compile(r"(?!)")
    before = r"(?:(?<![\w.~/$}-])|(?<=://)|(?<=\s-[A-Z]))"
    return re.compile(f"{before}(?:{'|'.join(map(re.escape, known))})(?![\\w-]|\\.\\w)")


def _deep(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_deep(item, change) for item in value]
    if isinstance(value, dict):
        return {key: _deep(item, change) for key, item in value.items()}
    return value
