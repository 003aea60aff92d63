"""The result of a headless run, as one JSON object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kimi_cli.frontends.account import Account
from kimi_cli.frontends.plain import rounded, usage_fields
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.live import RetryScheduled, StepStarted, TextDelta, ToolCallDelta
from kimi_cli.protocol.messages import TextPart, ToolCallPart, Usage, added
from kimi_cli.protocol.sandbox import SandboxState
from kimi_cli.protocol.stops import StopReason


class Tally(Account):
    """Adds up the turns of a run from their events. ``past`` and ``past_cost`` are what the
    session used in former runs."""

    def __init__(self, past: Usage | None = None, past_cost: float | None = None) -> None:
        super().__init__()
        self.past = past or Usage()
        self.past_cost = past_cost
        self.reason = StopReason.CONFIGURATION
        self.detail = "no message came over stdin"
        self.structured: Any = None
        self.refused_lines = 0
        """Lines of stdin that were no operations."""
        self.answer = ""
        """The final answer of the last turn; "" where it ended without one."""
        self._final = ""
        self._said = self._calls = False

    def __call__(self, event: Event) -> None:
        super().__call__(event)
        match event:
            case TurnStarted() | UserMessage() | StepStarted() | RetryScheduled():
                self._final = ""
                self._said = self._calls = False
            case TextDelta():
                self._said = True
            case ToolCallDelta():
                self._calls = True
            case AssistantMessage():
                self._final = _final_text(event)
            case TurnEnded():
                self.reason, self.detail = event.reason, event.detail
                final = bool(self._final) and event.answer.endswith(self._final)
                if event.reason is StopReason.STORE_FAILED and not final:
                    # What could not be stored was not published: its pieces were.
                    final = self._said and not self._calls
                self.answer = event.answer if final else ""

    def refuse_line(self) -> None:
        self.refused_lines += 1

    def result(
        self,
        *,
        session: str | None,
        model: str,
        exit_code: int,
        currency: str | None,
        denials: Sequence[dict[str, str]],
        sandbox: SandboxState | None = None,
    ) -> dict[str, Any]:
        """The object that ``--output-format json`` prints, documented in docs/headless.md."""
        return {
            "type": "result",
            "answer": self.answer,
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
            "sandbox": sandbox and sandbox_fields(sandbox),
        }


def sandbox_fields(sandbox: SandboxState) -> dict[str, Any]:
    """What holds for commands, as JSON has it."""
    return {
        "mode": sandbox.mode,
        "way": sandbox.way,
        "network": sandbox.network,
        "lacks": list(sandbox.lacks),
    }


def _final_text(message: AssistantMessage) -> str:
    """The words of a message that ends a turn: whole and without calls; "" for any other."""
    called = any(isinstance(part, ToolCallPart) for part in message.parts)
    if called or message.partial or message.finish_reason == "length":
        return ""
    return "".join(part.text for part in message.parts if isinstance(part, TextPart)).strip()
