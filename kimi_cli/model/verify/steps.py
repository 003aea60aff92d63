"""A conversation over several steps, and whether reasoning that is sent back is read."""

from __future__ import annotations

import asyncio
from typing import Any

from kimi_cli.model.verify.bench import Bench
from kimi_cli.model.verify.calls import uncalled
from kimi_cli.model.verify.cases import LOOK_UP, STEP_RESULTS, STEPS, WORD
from kimi_cli.model.verify.judge import arguments_of, call_problem
from kimi_cli.model.verify.report import Check, short

STEP_REQUESTS, REASONING_REQUESTS = 3, 2
LONG_REASONING = " ".join(f"Shelf {number} may have it." for number in range(1, 61))
SHORT_REASONING = "Shelf 1 may have it."
_FEWEST = 120
"""Tokens that the longer reasoning must at least add: it has 360 words and marks more."""


async def check_steps(bench: Bench, callable_: bool) -> Check:
    """Two calls, one after the other, and an answer that needs both; reasoning goes back as the
    dialect has it."""
    name = "several steps"
    if not callable_:
        return Check(name, "not applicable", "no call ever came")
    field = bench.subject.dialect.reasoning_field if bench.reasons else ""
    messages: list[dict[str, Any]] = [{"role": "user", "content": STEPS}]
    for step, (number, result) in enumerate(STEP_RESULTS, 1):
        answer = await bench.ask(list(messages), tools=(LOOK_UP,))
        if answer.error is not None:
            words = f"step {step} got no answer"
            return Check(name, "failed", words, short(answer.error.message))
        if not answer.calls:
            return Check(name, "failed", f"step {step} brought no call", uncalled(answer))
        call = answer.calls[0]
        if problem := call_problem(call, (LOOK_UP,)):
            return Check(name, "failed", f"the call of step {step} is not valid", problem)
        asked = arguments_of(call)["number"]
        if asked != number:
            words = f"step {step} does not follow the one before"
            return Check(name, "failed", words, f"it asks for {asked}, not {number}", hard=False)
        messages.append(answer.message(field))
        messages += [
            {"role": "tool", "tool_call_id": one.id, "content": result} for one in answer.calls
        ]
    last = await bench.ask(messages, tools=(LOOK_UP,))
    if last.error is not None:
        return Check(name, "failed", "the last step got no answer", short(last.error.message))
    if WORD not in last.text.lower():
        words = "the answer does not use what the tool said"
        return Check(name, "failed", words, uncalled(last) if last.text else "", hard=False)
    return Check(name, "ok", f"{len(STEP_RESULTS)} calls and an answer that uses both")


async def check_reasoning_returns(bench: Bench) -> Check:
    """Whether reasoning beside an earlier call reaches the prompt: told by the prompt's tokens
    with a long reasoning and with a short one. vLLM has dropped the field silently
    (vllm#33402)."""
    name = "reasoning goes back"
    subject = bench.subject
    # A model of ours needs it for its calls; what other templates do is their business.
    hard = subject.info.listed
    if not bench.reasons:
        return Check(name, "not applicable", "it does not reason", hard=hard)
    field = subject.dialect.reasoning_field
    if not field:
        words = f"the dialect {subject.dialect.name} never sends it back"
        return Check(name, "not applicable", words, hard=hard)
    long, brief = await asyncio.gather(
        *(
            bench.ask(_history(field, text), tools=(LOOK_UP,), cap=1)
            for text in (LONG_REASONING, SHORT_REASONING)
        )
    )
    error = long.error or brief.error
    if error is not None:
        return Check(name, "failed", "a conversation with it is refused", short(error.message))
    more, less = long.tokens("prompt_tokens"), brief.tokens("prompt_tokens")
    if more is None or less is None:
        return Check(name, "not applicable", "can't be told without usage", hard=hard)
    evidence = f"{field}: {less} prompt tokens with a short one, {more} with a long one"
    if more - less < _FEWEST:
        return Check(name, "failed", "it does not reach the prompt", evidence, hard=hard)
    return Check(name, "ok", f"{field} reaches the prompt", hard=hard)


def _history(field: str, reasoning: str) -> list[dict[str, Any]]:
    identity = f"functions.{LOOK_UP.name}:0"
    function = {"name": LOOK_UP.name, "arguments": '{"number": 3}'}
    return [
        {"role": "user", "content": STEPS},
        {
            "role": "assistant",
            field: reasoning,
            "tool_calls": [{"id": identity, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": identity, "content": STEP_RESULTS[0][1]},
    ]
