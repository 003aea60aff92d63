"""What a tool call may do: one decision for every tool, made before it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from kimi_cli.protocol.sandbox import NOTHING, Denial, Grant
from kimi_cli.protocol.tools import Intent

Verdict = Literal["allow", "ask", "deny"]


@dataclass(frozen=True, slots=True)
class Decision:
    """``reason`` is written for the model and for people: what stands in the way, in a clause.
    ``grant`` is what the call may do beyond the sandbox (when allowed, or once the user says yes),
    ``rule`` what would allow it from now on, ``marks`` the character ranges of the command that
    need a decision."""

    verdict: Verdict
    reason: str = ""
    grant: Grant = NOTHING
    rule: str = ""
    marks: Sequence[tuple[int, int]] = ()


class Policy(Protocol):
    """Judges what a call wants; the strictest part decides."""

    def decide(self, tool: str, intents: Sequence[Intent]) -> Decision: ...

    def beyond(self, intents: Sequence[Intent], denial: Denial) -> Decision:
        """Whether a call that the sandbox stopped may run again with what it lacked."""
        ...

    def remember(self, rule: str, scope: Literal["session", "project"]) -> None:
        """Let a rule of an earlier decision hold from now on. Raises OSError."""
        ...


ALLOW = Decision("allow")
