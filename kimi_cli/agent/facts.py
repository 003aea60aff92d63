"""What must survive every compaction: the user's words, the todo list, the files touched.

It is read off the events themselves, never off an earlier compaction, so nothing decays however
often the context is compacted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import ToolResult, UserMessage
from kimi_cli.protocol.messages import MediaPart, TextPart


@dataclass(frozen=True, slots=True)
class Said:
    """A message of the user: the number of its event, its text, its media, and whether it came
    while the model worked."""

    seq: int
    text: str
    media: tuple[MediaPart, ...] = ()
    steer: bool = False


@dataclass(frozen=True, slots=True)
class Todo:
    text: str
    status: str


@dataclass(slots=True)
class Facts:
    """The facts of a session so far. ``changed`` maps each file to what became of it over all,
    ``read`` holds those that were only read; both are ordered by the last touch."""

    said: list[Said] = field(default_factory=list)
    todos: list[Todo] = field(default_factory=list)
    changed: dict[str, str] = field(default_factory=dict)
    read: dict[str, None] = field(default_factory=dict)

    def note(self, event: Event) -> None:
        """Take the next durable event."""
        if isinstance(event, UserMessage) and event.origin != "program":
            text = "\n\n".join(p.text for p in event.parts if isinstance(p, TextPart))
            media = tuple(p for p in event.parts if isinstance(p, MediaPart))
            self.said.append(Said(event.seq, text, media, event.origin == "steer"))
        elif isinstance(event, ToolResult):
            self._result(event)

    def _result(self, event: ToolResult) -> None:
        todos = event.data.get("todos")
        if event.name == "todo" and isinstance(todos, list):
            self.todos = [
                Todo(str(item.get("text", "")), str(item.get("status", "")))
                for item in todos
                if isinstance(item, dict)
            ]
        for touch in event.files:
            self.read.pop(touch.path, None)
            before = self.changed.pop(touch.path, None)
            if touch.action == "read":
                if before:
                    self.changed[touch.path] = before
                else:
                    self.read[touch.path] = None
            elif before == "created" and touch.action == "modified":
                self.changed[touch.path] = before
            else:
                self.changed[touch.path] = touch.action
