"""Which recorded calls may run again: those that ran, as long as they stay in the copy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from kimi_cli.agent.replay.scratch import Scratch
from kimi_cli.protocol.sandbox import Denial
from kimi_cli.protocol.tools import Intent
from kimi_cli.safety.policy import Decision, Policy

ALLOWED = ""
OUTSIDE = "it writes outside of the copy: "


class AskEach:
    """Asks about every call, because a question names the call it is about and so can be answered
    as it was then. The question's reason says what ``policy`` thinks of it now: its objection,
    ``ALLOWED`` when it has none, or ``OUTSIDE`` and a path.

    Files may be written in the copy and in the temporary folder around it, as far as that is not
    the original project.
    """

    def __init__(self, policy: Policy, scratch: Scratch) -> None:
        self._policy = policy
        self._scratch = scratch

    def decide(self, tool: str, intents: Sequence[Intent]) -> Decision:
        for intent in intents:
            if intent.kind == "write" and self._is_outside(intent.target):
                return Decision("ask", f"{OUTSIDE}{intent.target}")
        decision = self._policy.decide(tool, intents)
        return Decision("ask", ALLOWED if decision.verdict == "allow" else decision.reason or "no")

    def beyond(self, intents: Sequence[Intent], denial: Denial) -> Decision:
        return Decision("deny", f"{denial.reason}, and a replay stays in its sandbox")

    def remember(self, rule: str, scope: Literal["session", "project"]) -> None:
        """Nothing: each call is asked for."""

    def _is_outside(self, target: str) -> bool:
        try:
            real = Path(target).resolve()
        except (OSError, RuntimeError):
            return True
        if real.is_relative_to(self._scratch.root):
            return False
        in_temporary = real.is_relative_to(self._scratch.temporary)
        return real.is_relative_to(self._scratch.project) or not in_temporary
