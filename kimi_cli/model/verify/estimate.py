"""How much a verification takes, told before it begins."""

from __future__ import annotations

import json
from dataclasses import dataclass

from kimi_cli.model.catalogue import Price
from kimi_cli.model.verify import basics, calls, limits, steps, thinking
from kimi_cli.model.verify.bench import PLAIN_CAP, THINKING_CAP
from kimi_cli.model.verify.cases import CASES
from kimi_cli.model.verify.subject import Subject

_OTHER_INPUT, _OTHER_OUTPUT = 250, 100
"""About what a request takes that is no case of a tool call."""
_REASONING = 500
"""About what a model thinks of such small tasks."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Requests; tokens that go out and come back as a rule, and that can come back at most.
    `too_long` are those of the prompt that has to be refused, which costs nothing then. `most` is
    what it costs at most in the price's currency, None where there is no price."""

    requests: int
    input_tokens: int
    output_tokens: int
    most_output_tokens: int
    too_long: int
    most: float | None = None
    currency: str = ""


def estimate(subject: Subject, rounds: int, concurrency: int, price: Price | None) -> Estimate:
    """What the checks take for this subject. `price` is per million tokens."""
    thinks = subject.info.thinking != "none"
    cap = THINKING_CAP if thinks else PLAIN_CAP
    others = (
        basics.REQUESTS
        + calls.OTHER_REQUESTS
        + steps.STEP_REQUESTS
        + concurrency
        + (steps.REASONING_REQUESTS + thinking.REQUESTS) * thinks
    )
    tries = 2 * rounds
    extra = _REASONING if subject.info.thinking in ("always", "switchable") else 0
    size = sum(
        len(case.prompt) + sum(len(json.dumps(tool.document())) for tool in case.tools)
        for case in CASES
    )
    asked = size // 3 * tries + others * _OTHER_INPUT
    made = sum(case.output + extra for case in CASES) * tries + others * (_OTHER_OUTPUT + extra)
    most = sum(cap + case.output * 3 // 2 for case in CASES) * tries + others * cap
    refused = int((subject.window or subject.info.context) * limits.OVER)
    cost = None
    if price is not None:
        # Each request's own input counted generously: a template adds to it.
        cost = ((asked * 2 + refused) * price.input + most * price.output) / 1e6
    return Estimate(
        len(CASES) * tries + others + 1,
        asked,
        made,
        most,
        refused,
        cost,
        price.currency if price else "",
    )
