"""The result of a headless run, as one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kimi_cli.frontends.account import Account
from kimi_cli.frontends.plain import rounded, usage_fields
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import TurnEnded
from kimi_cli.protocol.messages import Usage, added
from kimi_cli.protocol.stops import StopReason


class Tally(Account):
    """Adds up the turns of a run from their events. ``past`` and ``past_cost`` are what the
    session used in former runs."""

    def __init__(self, past: Usage | None = None, past_cost: float | None = None) -> None:
        super().__init__()
        self.past = past or Usage()
        self.past_cost = past_cost
        self.last: TurnEnded | None = None
        self.reason = StopReason.CONFIGURATION
        self.detail = "no message came over stdin"
        self.structured: Any = None

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        if isinstance(event, TurnEnded):
            self.last = event
            self.reason, self.detail = event.reason, event.detail

    def result(
        self,
        *,
        session: str | None,
        model: str,
        exit_code: int,
        currency: str | None,
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
            "usage": usage_fields(self.usage),
            "cost": rounded(self.cost),
            "currency": currency,
            "turns": [turn.result() for turn in self.turns],
            "compactions": self.compactions,
            "session_usage": usage_fields(self.past + self.usage),
            "session_cost": rounded(added(self.past_cost, self.cost)),
            "changed_files": self.changed_files(),
            "denials": list(denials),
        }
