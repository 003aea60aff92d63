"""Stop reasons as exit codes: the contract with scripts and CI."""

from __future__ import annotations

from kimi_cli.protocol.stops import StopReason

EXIT_CODES: dict[StopReason, int] = {
    StopReason.DONE: 0,
    StopReason.VERIFY_FAILED: 1,
    StopReason.SCHEMA_FAILED: 1,
    StopReason.EMPTY_ANSWER: 1,
    StopReason.ENDLESS_ANSWER: 1,
    StopReason.REPEATED_CALLS: 1,
    StopReason.CONFIGURATION: 2,
    StopReason.MODEL_MISSING: 2,
    StopReason.STEP_LIMIT: 10,
    StopReason.TOKEN_LIMIT: 11,
    StopReason.COST_LIMIT: 12,
    StopReason.TIME_LIMIT: 13,
    StopReason.CONTEXT_TOO_LONG: 14,
    StopReason.QUESTION: 20,
    StopReason.AUTHENTICATION: 30,
    StopReason.QUOTA: 31,
    StopReason.CONTENT_FILTER: 32,
    StopReason.INTERNAL: 70,
    StopReason.STORE_FAILED: 74,
    StopReason.TEMPORARY: 75,
    StopReason.INTERRUPTED: 130,
    StopReason.TERMINATED: 143,
}

MEANINGS: dict[int, str] = {
    0: "done",
    1: "task failed: --verify or --json-schema not met, empty or endless answers, repeated calls",
    2: "usage or configuration, model missing",
    10: "step limit",
    11: "token limit",
    12: "cost limit",
    13: "time limit",
    14: "context too long even after compaction",
    20: "a question under --on-ask fail",
    30: "authentication or permission",
    31: "quota",
    32: "content filter",
    70: "internal error",
    74: "the session or the output could not be written",
    75: "temporary: unreachable, overloaded, stalled or protocol errors after all retries",
    130: "SIGINT",
    143: "SIGTERM, or the reader of the output left",
}


def help_text() -> str:
    """The table for ``kimi --help`` and the README."""
    return "\n".join(f"{code:>4}  {meaning}" for code, meaning in MEANINGS.items())
