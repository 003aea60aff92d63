"""How a turn ended and what it took, in words."""

from __future__ import annotations

from kimi_cli.frontends.plain import counted, money, seconds, tokens_cached
from kimi_cli.frontends.terminal.paint import harmless
from kimi_cli.protocol.events import TurnEnded
from kimi_cli.protocol.stops import StopReason

STOPS: dict[StopReason, tuple[str, str]] = {
    StopReason.VERIFY_FAILED: ("the check failed", ""),
    StopReason.SCHEMA_FAILED: ("the answer does not match the schema", ""),
    StopReason.EMPTY_ANSWER: ("the model answered nothing", "ask again"),
    StopReason.ENDLESS_ANSWER: ("the model's answer had no end", "ask for less at once"),
    StopReason.REPEATED_CALLS: ("the model repeated the same call", "say what to do differently"),
    StopReason.CONFIGURATION: ("a setting is wrong", ""),
    StopReason.MODEL_MISSING: ("the model was not found", "/model chooses another"),
    StopReason.STEP_LIMIT: ("the limit of steps was reached", "go on typing to continue"),
    StopReason.TOKEN_LIMIT: ("the limit of tokens was reached", "go on typing to continue"),
    StopReason.COST_LIMIT: ("the limit of cost was reached", "go on typing to continue"),
    StopReason.TIME_LIMIT: ("the limit of time was reached", "go on typing to continue"),
    StopReason.CONTEXT_TOO_LONG: (
        "the context is too long",
        "/compact makes room, /clear empties it",
    ),
    StopReason.QUESTION: ("a question could not be answered", ""),
    StopReason.AUTHENTICATION: ("the key was refused", "kimi login sets another"),
    StopReason.QUOTA: ("the quota is used up", "see your account, or choose another model: /model"),
    StopReason.CONTENT_FILTER: ("the content filter stopped the answer", "ask in other words"),
    StopReason.INTERNAL: ("an error of kimi itself", "kimi doctor says more"),
    StopReason.STORE_FAILED: ("the session could not be written", "is the disk full?"),
    StopReason.TEMPORARY: ("the model's server failed", "nothing is lost, try again"),
    StopReason.TERMINATED: ("stopped by a signal", ""),
}
LIMITS = frozenset(
    {
        StopReason.STEP_LIMIT,
        StopReason.TOKEN_LIMIT,
        StopReason.COST_LIMIT,
        StopReason.TIME_LIMIT,
    }
)


def why_ended(event: TurnEnded) -> tuple[str, str, bool]:
    """What happened, what the user can do ("" where that is plain), and whether it is a failure.
    Nothing for a turn that is done."""
    if event.reason is StopReason.DONE:
        return "", "", False
    if event.reason is StopReason.INTERRUPTED:
        after = f" after {counted(event.steps, 'step')}" if event.steps else ""
        return f"stopped by you{after}", "nothing is lost, go on typing", False
    words, advice = STOPS.get(event.reason, (event.reason.value, ""))
    detail = harmless(event.detail).strip()
    return f"{words}: {detail}" if detail else words, advice, event.reason not in LIMITS


def figures_of(event: TurnEnded, changed: dict[str, tuple[int, int]]) -> list[str]:
    """``1 file +1 −1``, ``5 steps``, ``18.2k tokens, 91 % cached``, ``$0.012``, ``41 s``; of
    ``changed``, by path, the lines added and removed. Steps that were told already are left out."""
    added = sum(lines for lines, _ in changed.values())
    removed = sum(lines for _, lines in changed.values())
    told = event.reason is StopReason.INTERRUPTED
    pieces = (
        f"{counted(len(changed), 'file')} +{added} −{removed}" if changed else "",
        counted(event.steps, "step") if event.steps and not told else "",
        tokens_cached(event.usage),
        money(event.cost, event.currency),
        seconds(event.seconds),
    )
    return [piece for piece in pieces if piece]
