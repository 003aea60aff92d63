"""Several requests at once."""

from __future__ import annotations

import asyncio

from kimi_cli.model.verify.bench import Bench
from kimi_cli.model.verify.cases import LOOK_UP, numbered
from kimi_cli.model.verify.judge import arguments_of, call_problem
from kimi_cli.model.verify.raw import Answer
from kimi_cli.model.verify.report import Check, short
from kimi_cli.protocol.provider import ErrorClass

NAME = "concurrent requests"
_FIRST = 11


async def check_concurrent(bench: Bench, count: int, callable_: bool) -> Check:
    """So many at once, each about a number of its own: all are answered, and none with another's
    number. Without tool calls only that they are answered."""
    tools = (LOOK_UP,) if callable_ else ()
    numbers = range(_FIRST, _FIRST + count)
    with bench.room_for(count):
        answers = await asyncio.gather(
            *(
                bench.ask(
                    numbered(number),
                    tools=tools,
                    stream=bool(number % 4),
                    thinking=bench.subject.quick(),
                    patient=False,
                )
                for number in numbers
            )
        )
    if all(not answer.sent for answer in answers):
        return Check(NAME, "not applicable", "the endpoint had stopped answering")
    failed = [answer for answer in answers if answer.error is not None or not _whole(answer)]
    busy = [a for a in failed if a.error and a.error.kind in (ErrorClass.RATE, ErrorClass.OVERLOAD)]
    if failed:
        words = f"{len(failed)} of {count} at once are not answered"
        evidence = failed[0].error.message if failed[0].error else "no whole answer"
        # A limit of the account is no fault of the server.
        return Check(NAME, "failed", words, short(evidence), hard=len(busy) < len(failed))
    for number, answer in zip(numbers, answers, strict=True):
        if mixed := _others(answer, number, numbers):
            words = "answers get mixed up"
            return Check(NAME, "failed", words, f"asked for {number}, called with {mixed}")
    problem = next(
        (p for a in answers for call in a.calls if (p := call_problem(call, (LOOK_UP,)))), ""
    )
    if problem:
        return Check(NAME, "failed", "not all calls are valid", problem)
    missing = sum(not answer.calls for answer in answers)
    if callable_ and missing:
        return Check(NAME, "failed", f"{missing} of {count} bring no call", hard=False)
    return Check(NAME, "ok", f"{count} at once, all answered")


def _whole(answer: Answer) -> bool:
    return bool(answer.finish) and bool(answer.text or answer.reasoning or answer.calls)


def _others(answer: Answer, own: int, numbers: range) -> int | None:
    """The number of another request that this answer's calls have."""
    for call in answer.calls:
        arguments = arguments_of(call)
        number = arguments.get("number") if isinstance(arguments, dict) else None
        if isinstance(number, int) and number != own and number in numbers:
            return number
    return None
