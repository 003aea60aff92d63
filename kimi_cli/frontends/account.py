"""What a session's events add up to: its turns, what they used, the files they changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kimi_cli.frontends.plain import rounded, usage_fields
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Aside,
    AssistantMessage,
    Compaction,
    SessionResumed,
    ToolResult,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import ContentPart, TextPart, Usage, added


@dataclass(slots=True)
class TurnAccount:
    """One turn. ``ended`` is None for one that has no end: the process was killed, or it is still
    running; the numbers are then what was recorded of it."""

    turn: int
    text: str = ""
    ended: TurnEnded | None = None
    compactions: list[Compaction] = field(default_factory=list)
    steps: int = 0
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    seconds: float = 0.0

    def add(self, event: Event) -> None:
        """Take in an event of the turn."""
        match event:
            case UserMessage(origin="user") if not self.text:
                self.text = _text(event.parts)
            case AssistantMessage():
                self.steps += not event.partial
                self.seconds += event.seconds
                self._spend(event.usage, event.cost)
            case Compaction():
                self.compactions.append(event)
                self.seconds += event.seconds
                self._spend(event.usage, event.cost)
            case TurnEnded():
                self.ended = event
                self.steps, self.seconds = event.steps, event.seconds
                self.usage, self.cost = event.usage, event.cost

    def _spend(self, usage: Usage | None, cost: float | None) -> None:
        self.usage = self.usage + (usage or Usage())
        self.cost = added(self.cost, cost)

    def result(self) -> dict[str, Any]:
        """The turn in the JSON of a result, documented in docs/headless.md."""
        return {
            "turn": self.turn,
            "stop_reason": self.ended.reason.value if self.ended else None,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "usage": usage_fields(self.usage),
            "cost": rounded(self.cost),
        }


class Account:
    """Adds up events as they come, live or from a file. ``aside`` are the compactions between
    turns, ``questions`` those beside the work: they were paid for, too."""

    def __init__(self) -> None:
        self.turns: list[TurnAccount] = []
        self.aside: list[Compaction] = []
        self.questions: list[Aside] = []
        self._running: TurnAccount | None = None
        self._changed: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, TurnStarted):
            self._running = TurnAccount(event.turn)
            self.turns.append(self._running)
        elif isinstance(event, ToolResult):
            for touch in event.files:
                if touch.action != "read":
                    first = self._changed.get(touch.path)
                    self._changed[touch.path] = "created" if first == "created" else touch.action
        elif isinstance(event, SessionResumed):
            # A turn that was not ended will not be any more.
            self._running = None
        elif isinstance(event, Aside):
            self.questions.append(event)
        if self._running:
            self._running.add(event)
        elif isinstance(event, Compaction):
            self.aside.append(event)
        if isinstance(event, TurnEnded):
            self._running = None

    @property
    def compactions(self) -> int:
        return len(self.aside) + sum(len(turn.compactions) for turn in self.turns)

    @property
    def steps(self) -> int:
        return sum(turn.steps for turn in self.turns)

    @property
    def seconds(self) -> float:
        return sum(entry.seconds for entry in self._spenders())

    @property
    def usage(self) -> Usage:
        return sum((entry.usage or Usage() for entry in self._spenders()), Usage())

    @property
    def cost(self) -> float | None:
        """None when no price is known."""
        whole: float | None = None
        for entry in self._spenders():
            whole = added(whole, entry.cost)
        return whole

    def _spenders(self) -> list[TurnAccount | Compaction | Aside]:
        return [*self.turns, *self.aside, *self.questions]

    def changed_files(self) -> list[dict[str, str]]:
        """``path`` and ``action`` of each file that the file tools changed, by path."""
        return [{"path": path, "action": how} for path, how in sorted(self._changed.items())]


def _text(parts: Sequence[ContentPart]) -> str:
    return "".join(p.text if isinstance(p, TextPart) else f"[{p.kind}]" for p in parts)
