"""Tool call arguments as the model wrote them: are they sound enough to run and to send back?"""

from __future__ import annotations

import json
from typing import Any

MAX_ARGUMENT_BYTES = 1 << 20
"""More than any output cap lets a model write; one such call sent back with every later request
would overflow the context window for good."""


class BadArguments(ValueError):
    """The arguments can't be used; the message is written for the model."""


def parse_arguments(raw: str) -> dict[str, Any]:
    """The arguments as a dict; no text at all counts as no arguments.

    Raises BadArguments when they are too large, not JSON, or not a JSON object.
    """
    if len(raw) > MAX_ARGUMENT_BYTES:
        raise BadArguments(
            f"the arguments are too large ({len(raw):,} characters; at most "
            f"{MAX_ARGUMENT_BYTES:,}). Do it in several smaller calls."
        )
    if not raw.strip():
        return {}
    try:
        value = json.loads(raw, strict=False)
    except (ValueError, RecursionError) as error:
        raise BadArguments(f"the arguments are not valid JSON: {_explain(error, raw)}") from None
    if not isinstance(value, dict):
        kind = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}.get(
            type(value), "a number"
        )
        raise BadArguments(f"the arguments must be a JSON object, not {kind}")
    return value


def sendable(raw: str) -> str | None:
    """The text to send back as a call's arguments, or None when ``raw`` would make an endpoint
    refuse the whole request (malformed history is sent with every later one)."""
    try:
        value = parse_arguments(raw)
    except BadArguments:
        return None
    try:
        strict = json.loads(raw) if raw.strip() else None
    except ValueError:
        strict = None
    return raw if isinstance(strict, dict) else json.dumps(value, ensure_ascii=False)


def _explain(error: Exception, raw: str) -> str:
    if not isinstance(error, json.JSONDecodeError):
        return "nested too deeply"
    near = raw[max(0, error.pos - 20) : error.pos + 20]
    return f"{error.msg} at character {error.pos}, near {near!r}"
