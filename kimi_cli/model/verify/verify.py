"""All checks of one endpoint, in an order in which each makes sense."""

from __future__ import annotations

import time
from collections.abc import Callable

from kimi_cli.model.verify.basics import check_chat, check_endpoint
from kimi_cli.model.verify.bench import Bench
from kimi_cli.model.verify.calls import check_others, check_trials, try_cases
from kimi_cli.model.verify.limits import check_too_long
from kimi_cli.model.verify.load import check_concurrent
from kimi_cli.model.verify.overall import check_finish, check_form, check_ids, check_leaks
from kimi_cli.model.verify.report import Check, Scorecard, Trial
from kimi_cli.model.verify.steps import check_reasoning_returns, check_steps
from kimi_cli.model.verify.subject import Subject
from kimi_cli.model.verify.thinking import check_reasoning, check_switch
from kimi_cli.protocol.provider import ErrorClass

_HOPELESS = (ErrorClass.NETWORK, ErrorClass.STALL, ErrorClass.AUTH, ErrorClass.PERMISSION)
_REST = (
    *("usage", "output limit", "tool calls, streamed", "tool calls, plain", "values"),
    *("restraint", "parallel calls", "forced call", "several steps", "reasoning"),
    *("reasoning goes back", "thinking switch", "concurrent requests", "too long a prompt"),
    *("call ids", "finish reasons", "form", "leaked markers"),
)


async def verify(
    subject: Subject,
    *,
    rounds: int = 1,
    threshold: float = 0.9,
    concurrency: int = 8,
    timeout: float = 180.0,
    told: Callable[[Check], None] = lambda check: None,
    busy: Callable[[int], None] = lambda requests: None,
) -> Scorecard:
    """Check the subject; `told` hears of each check as it is done, `busy` of the requests sent so
    far. `rounds` is how often each case of a tool call is tried, `timeout` seconds bound each
    answer. Never raises for what the endpoint does, and ends: one that has stopped answering is
    not asked any more."""
    start = time.monotonic()
    bench = Bench(subject, timeout, busy=busy)
    checks: list[Check] = []
    trials: list[Trial] = []

    def tell(*found: Check) -> None:
        for check in found:
            checks.append(check)
            told(check)

    try:
        tell(check_endpoint(subject))
        if subject.error and (subject.error.kind in _HOPELESS or not subject.name):
            missing = ("chat, streamed", "chat, plain", *_REST)
            tell(*_not_applicable(missing, "nothing to ask"))
        else:
            tell(*await check_chat(bench))
            if len(checks) == 3:
                tell(*_not_applicable(_REST, "nothing is answered"))
            else:
                trials = await try_cases(bench, rounds)
                tell(*check_trials(trials, threshold))
                await _go_on(bench, any(one.valid for one in trials), concurrency, tell)
    finally:
        await bench.close()
    return Scorecard(
        subject.config.base_url,
        subject.name,
        subject.dialect.name,
        tuple(checks),
        tuple(trials),
        threshold,
        bench.requests,
        sum(one.tokens("prompt_tokens") or 0 for one in bench.answers),
        sum(one.tokens("completion_tokens") or 0 for one in bench.answers),
        time.monotonic() - start,
    )


async def _go_on(
    bench: Bench, callable_: bool, concurrency: int, tell: Callable[..., None]
) -> None:
    tell(*await check_others(bench, callable_))
    tell(await check_steps(bench, callable_))
    # What the answers to tool calls show of the reasoning counts too.
    tell(check_reasoning(bench, bench.answers))
    tell(await check_reasoning_returns(bench))
    tell(await check_switch(bench))
    tell(await check_concurrent(bench, concurrency, callable_))
    tell(await check_too_long(bench))
    answers = bench.answers
    tell(check_ids(answers, bench.subject.kimi_k2))
    tell(check_finish(answers), check_form(answers), check_leaks(answers))


def _not_applicable(names: tuple[str, ...], why: str) -> list[Check]:
    return [Check(name, "not applicable", why) for name in names]
