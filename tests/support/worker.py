"""A scripted model that works for hundreds of steps and watches each request it gets.

It reads, writes, searches, runs commands and keeps a todo list; asked for a hand-off note it gives
one. What the endpoint's prefix cache would lose is counted as it happens, so that the bodies need
not be kept.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.recorded import Recorded
from tests.support.replies import Reply, text, tool_calls

ASKING = "write a hand-off note to yourself"
NOTE = "Goal: finish the rounds. State: I am in the middle of them. Next: the next step, as before."


@dataclass
class Worker:
    """``rounds`` are the numbers of steps that each user message takes."""

    rounds: Sequence[int]
    note: Reply = field(default_factory=lambda: text(NOTE))
    thinking: str | None = None
    steps: int = 0
    answered: int = 0
    notes: int = 0
    broken_prefixes: list[int] = field(default_factory=list)
    written: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    """The last two requests."""

    _former: bytes = b""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._left = list(self.rounds)
        self._may_break = True

    def __call__(self, index: int, record: Recorded) -> Reply:
        with self._lock:
            return self._reply(index, record)

    @property
    def messages(self) -> list[dict[str, Any]]:
        """Those of the last request."""
        messages: list[dict[str, Any]] = json.loads(self.bodies[-1])["messages"]
        return messages

    @property
    def last_text(self) -> str:
        """All texts of the last request."""
        return "\n".join(str(message.get("content")) for message in self.messages)

    def _reply(self, index: int, record: Recorded) -> Reply:
        if self.bodies and not self._may_break and not record.raw.startswith(self._former):
            self.broken_prefixes.append(index)
        self._former = record.conversation
        self.bodies = [*self.bodies[-1:], record.raw]
        # Only the request after one for a note may begin anew.
        self._may_break = asks_for_note(record)
        if self._may_break:
            self.notes += 1
            return self.note
        if not self._left[0]:
            del self._left[0]
            self.answered += 1
            return text(f"Round {self.answered} is finished.")
        self._left[0] -= 1
        self.steps += 1
        return tool_calls([self._call(self.steps)], thinking=self.thinking)

    def _call(self, number: int) -> tuple[str, dict[str, Any]]:
        if number % 50 == 1:
            items = [
                {"text": f"step {number} and those after it", "status": "in_progress"},
                {"text": "close the round", "status": "pending"},
            ]
            return "todo", {"items": items}
        if number % 10 == 2:
            name = f"made/file_{number:04}.txt"
            self.written.append(name)
            return "write", {"path": name, "content": f"file {number}\n" * 20}
        if number % 10 == 5:
            return "read", {"path": "README.md"}
        if number % 10 == 7:
            return "grep", {"pattern": f"no such text {number}"}
        words = f"print('{number} ' + 'output ' * 120)"
        return "shell", {"command": f'echo "step {number}"; {PYTHON} -c "{words}"'}


PYTHON = "python3 -S -E"


def asks_for_note(record: Recorded) -> bool:
    """Whether the request is the one for a hand-off note."""
    content = record.messages[-1].get("content") if ASKING.encode() in record.raw[-8000:] else ""
    return ASKING in str(content)
