"""A scripted model whose every call leaves exactly one mark, so that a second run of it shows."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from tests.support.recorded import Recorded
from tests.support.replies import Reply, text, tool_calls
from tests.support.worker import NOTE, asks_for_note

UNKNOWN = "It is unknown whether it ran"


class Marker:
    """Each answer is a call that appends its own number to ``marks`` in the project, and now and
    then a write and an edit; a conversation ends after ``steps`` calls of a request."""

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.issued = 0
        self.requests: list[list[dict[str, Any]]] = []
        self._since = 0
        self._lock = threading.Lock()

    def __call__(self, index: int, record: Recorded) -> Reply:
        with self._lock:
            messages = record.messages
            if asks_for_note(record):
                return text(NOTE)
            self.requests.append(messages)
            if messages[-1]["role"] == "user":
                self._since = 0
            if self._since >= self.steps:
                return text("That is all.")
            self._since += 1
            self.issued += 1
            mark = f"echo mark-{self.issued} >> marks; python3 -S -c \"print('x' * 400)\""
            calls: list[Any] = [("shell", {"command": mark})]
            if self.issued % 3 == 0:
                name = f"made-{self.issued}.txt"
                calls.append(("write", {"path": name, "content": "one\ntwo\n"}))
                calls.append(("grep", {"pattern": "two"}))
            return tool_calls(calls, thinking="on it")


def marks(project: Path) -> list[str]:
    """The marks that were really left, in order."""
    path = project / "marks"
    return path.read_text().split() if path.exists() else []


def told(messages: list[dict[str, Any]]) -> dict[str, str]:
    """What the model was told of each call: its mark, or its arguments, and the result."""
    results = {m["tool_call_id"]: str(m["content"]) for m in messages if m["role"] == "tool"}
    answer: dict[str, str] = {}
    for message in messages:
        for call in message.get("tool_calls") or ():
            arguments = call["function"]["arguments"]
            answer[_mark(arguments)] = results[call["id"]]
    return answer


def _mark(arguments: str) -> str:
    command = str(json.loads(arguments).get("command", ""))
    return command.split()[1] if command.startswith("echo mark-") else arguments
