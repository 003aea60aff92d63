"""Tool calls: do they come, do they fit their schemas, is the right number made?"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kimi_cli.model.verify.bench import Bench
from kimi_cli.model.verify.cases import (
    CASES,
    CITIES,
    LOOK_UP,
    PARALLEL,
    RESTRAINT,
    WEATHER,
    Case,
    Tool,
    numbered,
)
from kimi_cli.model.verify.judge import arguments_of, call_problem, leaked_call
from kimi_cli.model.verify.raw import Answer
from kimi_cli.model.verify.report import Check, Rates, Result, Trial, rates, short
from kimi_cli.protocol.provider import ErrorClass

OTHER_REQUESTS = 3
ENOUGH = 8
"""Trials after which a model that has not called once is not asked any more."""


async def try_cases(bench: Bench, rounds: int) -> list[Trial]:
    """Every case streamed and plain, so many times. When the endpoint refuses the very first for
    its tools, nothing else is asked, and little more where no call comes of the first few."""
    first = await _trial(bench, CASES[0], True)
    refused = bench.answers[-1].error if bench.answers else None
    if refused is not None and refused.kind is ErrorClass.REQUEST:
        return [first]
    pairs = [(case, streamed) for case in CASES for streamed in (True, False)] * rounds
    few = [first, *await asyncio.gather(*(_trial(bench, *pair) for pair in pairs[1:ENOUGH]))]
    if not any(trial.calls for trial in few):
        return few
    return [*few, *await asyncio.gather(*(_trial(bench, *pair) for pair in pairs[ENOUGH:]))]


def check_trials(trials: Sequence[Trial], threshold: float) -> list[Check]:
    """What the trials say, streamed and plain."""
    checks = [
        _rated(
            f"tool calls, {name}", [one for one in trials if one.streamed is streamed], threshold
        )
        for name, streamed in (("streamed", True), ("plain", False))
    ]
    found = rates(trials)
    if not found.valid:
        return [*checks, Check("values", "not applicable", "no valid call", hard=False)]
    result: Result = "ok" if found.faithful >= found.valid * threshold else "failed"
    wrong = next((one for one in trials if one.valid and one.faithful < one.valid), None)
    evidence = f"other values than asked for in: {wrong.case}" if wrong else ""
    words = f"{found.faithful} of {found.valid} valid calls have the values that were asked for"
    return [*checks, Check("values", result, words, evidence, hard=False)]


async def check_others(bench: Bench, callable_: bool) -> list[Check]:
    """Restraint, several calls at once, a call that is forced. `callable_`: some call has come."""
    rest, several, forced = await asyncio.gather(
        bench.ask(RESTRAINT, tools=(WEATHER, LOOK_UP)),
        bench.ask(PARALLEL, tools=(WEATHER,)),
        bench.ask(
            numbered(7),
            tools=(LOOK_UP,),
            thinking=bench.subject.quick(),
            forced=LOOK_UP.name,
        ),
    )
    return [_restraint(rest), _parallel(several, callable_), _forced(forced)]


async def _trial(bench: Bench, case: Case, streamed: bool) -> Trial:
    answer = await bench.ask(
        case.prompt, tools=case.tools, stream=streamed, cap=bench.cap(case.output)
    )
    problems = [call_problem(call, case.tools) for call in answer.calls]
    valid = [call for call, problem in zip(answer.calls, problems, strict=True) if not problem]
    problem = next(filter(None, problems), "")
    return Trial(
        case.name,
        streamed,
        calls=len(answer.calls),
        valid=len(valid),
        faithful=sum(_faithful(case, arguments_of(call), call.name) for call in valid),
        problem=problem if answer.calls else uncalled(answer),
        seconds=answer.seconds,
    )


def _faithful(case: Case, arguments: object, name: str) -> bool:
    return name == case.tools[0].name and arguments == case.want


def uncalled(answer: Answer) -> str:
    """Why an answer has no call."""
    if answer.error is not None:
        return short(answer.error.message)
    if leaked_call(answer):
        return short(f"the call came as text: {answer.text or answer.reasoning}")
    if answer.finish == "length":
        return "the answer was cut before a call came"
    return short(f"no call: {answer.text or answer.reasoning}" if answer.text else "no call")


def _rated(name: str, trials: Sequence[Trial], threshold: float) -> Check:
    found = rates(trials)
    if not found.asked:
        return Check(name, "not applicable", "not tried")
    bad = next((one for one in trials if one.valid < max(one.calls, 1)), None)
    evidence = f"{bad.case}: {bad.problem}" if bad else ""
    good = min(found.called_rate, found.valid_rate) >= threshold
    return Check(name, "ok" if good else "failed", rate_words(found), evidence)


def rate_words(found: Rates) -> str:
    """``24 of 24 asked for came, 23 of 24 valid``."""
    came = f"{found.called} of {found.asked} asked for came"
    return f"{came}, {found.valid} of {found.calls} valid" if found.calls else came


def _restraint(answer: Answer) -> Check:
    name = "restraint"
    if answer.error is not None:
        return _errored(name, answer)
    if answer.calls:
        called = short(answer.calls[0].name, 60)
        return Check(name, "failed", "it calls where it must not", called, hard=False)
    return Check(name, "ok", "no call where none is wanted", hard=False)


def _parallel(answer: Answer, callable_: bool) -> Check:
    name = "parallel calls"
    if answer.error is not None:
        return _errored(name, answer)
    if not answer.calls:
        if not callable_:
            return Check(name, "not applicable", "no call ever came", hard=False)
        return Check(name, "failed", "no call came", short(answer.text), hard=False)
    problem = _problem(answer, (WEATHER,))
    if problem:
        return Check(name, "failed", f"of {len(answer.calls)} calls not all are valid", problem)
    if len(answer.calls) < len(CITIES):
        words = f"{len(answer.calls)} of {len(CITIES)} calls in one answer"
        return Check(name, "failed", words, hard=False)
    return Check(name, "ok", f"{len(answer.calls)} calls in one answer", hard=False)


def _forced(answer: Answer) -> Check:
    name = "forced call"
    if answer.error is not None:
        if answer.error.kind is ErrorClass.REQUEST and answer.error.status == 400:
            # Kimi K3 takes no named tool, and K2.5 none while it thinks.
            words = "a call can't be forced here"
            return Check(name, "not applicable", words, short(answer.error.message), hard=False)
        return _errored(name, answer)
    if not answer.calls:
        return Check(name, "failed", "no call came", uncalled(answer), hard=False)
    if problem := _problem(answer, (LOOK_UP,)):
        return Check(name, "failed", "the call is not valid", problem, hard=False)
    return Check(name, "ok", "a tool that is forced by name is called", hard=False)


def _problem(answer: Answer, tools: Sequence[Tool]) -> str:
    return next(filter(None, (call_problem(call, tools) for call in answer.calls)), "")


def _errored(name: str, answer: Answer) -> Check:
    assert answer.error is not None
    if not answer.sent:
        return Check(name, "not applicable", "the endpoint had stopped answering", hard=False)
    return Check(name, "failed", "no answer", short(answer.error.message), hard=False)
