"""The scorecard of an endpoint, for people and for programs."""

from __future__ import annotations

from typing import Any

from kimi_cli.frontends.plain import counted, money, rounded, seconds, share, short, tokens
from kimi_cli.frontends.serve.spans import Line, Span, Style, dotted, wrapped
from kimi_cli.model.verify.estimate import Estimate
from kimi_cli.model.verify.report import Check, Scorecard
from kimi_cli.model.verify.subject import Subject

NAME_COLUMNS = 22
NARROW = 56
"""Below so many columns what is said of a check stands under its name."""


def opening_lines(subject: Subject, cost: Estimate, width: int | None) -> list[Line]:
    """What is verified, and what that will take."""
    url = subject.config.base_url
    title = (
        Span(f"kimi serve verify {url}"),
        Span(subject.name or "no model"),
        Span(subject.dialect.name),
    )
    takes = (
        Span(f"about {counted(cost.requests, 'request')}"),
        Span(f"{tokens(cost.input_tokens)} of prompts, {short(cost.output_tokens)} of answers"),
        Span(f"and {short(cost.too_long)} that must be refused"),
    )
    lines = [*dotted(title, width, ""), *dotted(takes, width)]
    if cost.most is not None:
        most = money(cost.most, cost.currency)
        words = f"costs at most {most}, if every answer is as long as it may be; as a rule far less"
        lines += wrapped(words, width, "warn")
    return lines


def check_lines(check: Check, width: int | None) -> list[Line]:
    """One check: a mark, its name, what came of it, and below that the evidence."""
    sign, style = _mark(check)
    words = check.words or check.result
    if check.result == "not applicable":
        words = f"not applicable: {words}"
    evidence = check.evidence if check.result != "ok" else ""
    if width is not None and width < NARROW:
        head: list[Line] = [(Span("  "), Span(sign, style), Span(f" {check.name}"))]
        below = "    "
        lines = head + wrapped(words, width, _quiet(check), below, below)
        return lines + (wrapped(evidence, width, "dim", below, below) if evidence else [])
    below = " " * (NAME_COLUMNS + 4)
    first, *rest = wrapped(words, width, _quiet(check), below, below)
    text = first[0].text.strip()
    name = f" {check.name:{NAME_COLUMNS - 1}} "[: NAME_COLUMNS + 1]
    lines = [(Span("  "), Span(sign, style), Span(name), Span(text, first[0].style)), *rest]
    return lines + (wrapped(evidence, width, "dim", below, below) if evidence else [])


def busy_line(requests: int, expected: int) -> Line:
    """What stands below while it goes on."""
    return (Span(f"  request {requests} of about {expected}", "dim"),)


def closing_lines(card: Scorecard, width: int | None) -> list[Line]:
    """The rates and the verdict."""
    rates = card.rates
    lines: list[Line] = []
    if rates.asked:
        least = share(card.threshold, 1)
        figures = [
            _rate("called", rates.called, rates.asked, card.threshold),
            _rate("schema-valid", rates.valid, rates.calls, card.threshold),
            Span(f"{least} needed", "dim"),
        ]
        lines += dotted(figures, width)
    took = (
        counted(card.requests, "request"),
        tokens(card.input_tokens + card.output_tokens),
        seconds(card.seconds),
    )
    verdict = Span("passed", "good") if card.passed else Span(f"failed: {_why(card)}", "bad")
    return [*lines, *dotted([verdict, *(Span(text) for text in took if text)], width)]


def document(card: Scorecard, cost: Estimate, code: int) -> dict[str, Any]:
    """The scorecard for a program."""
    rates = card.rates
    return {
        "passed": card.passed,
        "exit_code": code,
        "endpoint": card.base_url,
        "model": card.model,
        "dialect": card.dialect,
        "threshold": card.threshold,
        "tool_calls": {
            "asked": rates.asked,
            "called": rates.called,
            "called_rate": round(rates.called_rate, 4),
            "calls": rates.calls,
            "valid": rates.valid,
            "valid_rate": round(rates.valid_rate, 4),
            "faithful": rates.faithful,
        },
        "checks": [
            {
                "name": one.name,
                "result": one.result,
                "hard": one.hard,
                "words": one.words,
                "evidence": one.evidence,
            }
            for one in card.checks
        ],
        "trials": [
            {
                "case": one.case,
                "streamed": one.streamed,
                "calls": one.calls,
                "valid": one.valid,
                "faithful": one.faithful,
                "problem": one.problem,
                "seconds": round(one.seconds, 3),
            }
            for one in card.trials
        ],
        "requests": card.requests,
        "input_tokens": card.input_tokens,
        "output_tokens": card.output_tokens,
        "seconds": round(card.seconds, 3),
        "estimate": {
            "requests": cost.requests,
            "input_tokens": cost.input_tokens,
            "output_tokens": cost.output_tokens,
            "refused_tokens": cost.too_long,
            "most_cost": rounded(cost.most),
            "currency": cost.currency or None,
        },
    }


def _mark(check: Check) -> tuple[str, Style]:
    if check.result == "ok":
        return "✓", "good"
    if check.result == "failed":
        return ("✗", "bad") if check.hard else ("!", "warn")
    return "–", "dim"


def _quiet(check: Check) -> Style:
    return "dim" if check.result == "not applicable" else ""


def _rate(name: str, part: int, whole: int, threshold: float) -> Span:
    if not whole:
        return Span(f"{name}: no calls", "bad")
    style: Style = "good" if part >= threshold * whole else "bad"
    return Span(f"{name} {share(part, whole)} ({part} of {whole})", style)


def _why(card: Scorecard) -> str:
    names = [one.name for one in card.failures]
    if card.below and not any(name.startswith("tool calls") for name in names):
        names.append("too few valid calls" if card.trials else "no tool call was tried")
    return ", ".join(names)
