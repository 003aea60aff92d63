"""What the modes of a session make of a call that no deny rule stops."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.protocol.sandbox import Grant
from kimi_cli.safety.policy import Decision

if TYPE_CHECKING:
    from kimi_cli.safety.shell_policy import Judgement

PLAN = (
    "the session is in plan mode, which changes nothing: look at what you need, and end the turn "
    "with the plan as your answer"
)


def planned_command(judged: Judgement) -> Decision:
    """A command in plan mode: what was judged without counting on a sandbox, in a session that only
    reads. No rule and no question lets one run that does more than read."""
    if judged.verdict == "deny":
        return Decision("deny", judged.reason)
    if judged.trouble:
        return Decision("deny", f"{judged.reason}; {PLAN}")
    if judged.active:
        return Decision(
            "deny", f"`{_short(judged.active[0].part.raw)}` does more than read; {PLAN}"
        )
    return Decision(judged.verdict, judged.reason, judged.grant, marks=judged.marks)


def planned_leave(reason: str, lacked: Grant) -> Decision | None:
    """What the sandbox refused a command in plan mode; None where the usual question may be
    asked."""
    return Decision("deny", f"{reason}; {PLAN}") if lacked.write or lacked.unconfined else None


def planned_write(path: Path) -> Decision:
    """A file that a tool would change in plan mode."""
    return Decision("deny", f"{path} would be changed; {PLAN}")


def asked_write(path: Path, rule: str) -> Decision:
    """A file that a tool would change in ask mode, and the rule that would let it."""
    return Decision("ask", f"ask mode: {path} would be changed", rule=rule)


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:79] + "…"
