"""The result of a headless run, as one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kimi_cli.protocol.event import (
    Event,
)
from kimi_cli.protocol.events import (
    ToolResult,
    TurnEnded,
)
from kimi_cli.protocol.messages import Usage
from kimi_cli.protocol.stops import StopReason


class Tally:
    """Adds up the turns of a run from their events."""

    def __init__(self) -> None:
        self.last: TurnEnded | None = None
        self.reason = StopReason.CONFIGURATION
        self.detail = "no message came over stdin"
        self.usage = Usage()
        self.cost: float | None = None
        self.steps = 0
        self.seconds = 0.0
        self.structured: Any = None
        self._changed: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        if isinstance(event, ToolResult):
            for touch in event.files:
                if touch.action != "read":
                    first = self._changed.get(touch.path)
                    self._changed[touch.path] = "created" if first == "created" else touch.action
        elif isinstance(event, TurnEnded):
            self.last = event
            self.reason, self.detail = event.reason, event.detail
            self.usage = self.usage + event.usage
            self.steps += event.steps
            self.seconds += event.seconds
            if event.cost is not None:
                self.cost = (self.cost or 0.0) + event.cost

    def result(
        self,
        *,
        session: str | None,
        model: str,
        exit_code: int,
        denials: Sequence[dict[str, str]],
    ) -> dict[str, Any]:
        """The object that ``--output-format json`` prints, documented in docs/headless.md."""
        ended = self.last
        return {
            "type": "result",
            "answer": ended.answer if ended else "",
            "structured": self.structured,
            "stop_reason": self.reason.value,
            "detail": self.detail,
            "exit_code": exit_code,
            "session_id": session,
            "model": model,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "usage": {
                "input_tokens": self.usage.input_tokens,
                "cached_tokens": self.usage.cached_tokens,
                "output_tokens": self.usage.output_tokens,
                "total_tokens": self.usage.total_tokens,
            },
            "cost": None if self.cost is None else round(self.cost, 6),
            "currency": ended.currency if ended else None,
            "changed_files": [
                {"path": path, "action": action} for path, action in sorted(self._changed.items())
            ],
            "denials": list(denials),
        }
