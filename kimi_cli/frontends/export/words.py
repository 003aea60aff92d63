"""What the documents say of a session's events: plain text, already harmless."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from kimi_cli.agent.arguments import BadArguments, parse_arguments
from kimi_cli.frontends.export.outline import Call, Compacted, Ended, Outline, Question, Turn
from kimi_cli.frontends.export.text import count, harmless, one_line
from kimi_cli.frontends.plain import confinement, money, seconds, tokens
from kimi_cli.protocol.events import (
    Aside,
    BudgetWarning,
    Checkpoint,
    Confined,
    DurableEvent,
    Kept,
    ModeChanged,
    ModelChanged,
    Notice,
    Repair,
    Rewind,
    RewindStarted,
    SessionResumed,
    Shrink,
    TurnEnded,
)
from kimi_cli.protocol.messages import Usage
from kimi_cli.protocol.stops import StopReason

STOPS = {
    StopReason.VERIFY_FAILED: "the check failed",
    StopReason.SCHEMA_FAILED: "the answer does not match the schema",
    StopReason.EMPTY_ANSWER: "the model's answers were empty",
    StopReason.ENDLESS_ANSWER: "the model's answers had no end",
    StopReason.REPEATED_CALLS: "the model repeated the same call",
    StopReason.CONFIGURATION: "a setting is wrong",
    StopReason.MODEL_MISSING: "the model was not found",
    StopReason.STEP_LIMIT: "the step limit was reached",
    StopReason.TOKEN_LIMIT: "the token limit was reached",
    StopReason.COST_LIMIT: "the cost limit was reached",
    StopReason.TIME_LIMIT: "the time limit was reached",
    StopReason.CONTEXT_TOO_LONG: "the context was too long",
    StopReason.QUESTION: "a question could not be answered",
    StopReason.AUTHENTICATION: "the key was refused",
    StopReason.QUOTA: "the quota is used up",
    StopReason.CONTENT_FILTER: "the content filter stopped the answer",
    StopReason.INTERNAL: "internal error",
    StopReason.STORE_FAILED: "the session could not be written",
    StopReason.TEMPORARY: "the model's server failed",
    StopReason.INTERRUPTED: "stopped by the user",
    StopReason.TERMINATED: "stopped by a signal",
}
NO_END = "no end is recorded: the program was killed, or it still ran"
ENDLESS = "no end recorded"
INTERRUPTED = "the answer was interrupted here"
GONE = "taken back later"
DEPTH = 4


def joined(pieces: Iterable[str]) -> str:
    """The pieces that are there, with middle dots between them."""
    return " · ".join(piece for piece in pieces if piece)


def day_and_minute(time: float) -> str:
    """``2026-11-22 07:28 UTC``; empty for no time."""
    try:
        return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC") if time else ""
    except (ValueError, OverflowError, OSError):
        return ""


def span(first: float, last: float) -> str:
    """When a session began and ended."""
    begun, ended = day_and_minute(first), day_and_minute(last)
    if begun[:10] == ended[:10] and begun != ended:
        return f"{begun[:16]} – {ended[11:]}"
    return " – ".join(dict.fromkeys(filter(None, (begun, ended))))


def duration(value: float) -> str:
    return seconds(value) if math.isfinite(value) else ""


def used(usage: Usage) -> str:
    """``18.2k tokens, 91 % cached``."""
    total = tokens(usage.total_tokens)
    if not total or usage.input_tokens <= 0:
        return total
    return f"{total}, {100 * usage.cached_tokens / usage.input_tokens:.0f} % cached"


def meta(out: Outline) -> list[str]:
    """The facts of a session: model, time and place; then what it took."""
    start = out.start
    thinking = one_line(start.thinking, 20) if start else ""
    place = [
        ", ".join(one_line(model, 80) for model in out.models),
        f"thinking {thinking}" if thinking else "",
        span(out.first, out.last),
        one_line(start.cwd, 200) if start else "",
        one_line(start.program, 40) if start else "",
    ]
    took = [
        count(len(out.turns), "turn"),
        count(out.steps, "step"),
        used(out.usage),
        money(out.cost, one_line(out.currency or "")),
        f"session {one_line(out.session, 80)}",
        f"forked from {one_line(start.forked_from, 80)}" if start and start.forked_from else "",
    ]
    return [joined(place), joined(took)]


def changes(changed: dict[str, tuple[int, int]]) -> str:
    """``2 files +3 −1``."""
    if not changed:
        return ""
    added = sum(lines for lines, _ in changed.values())
    removed = sum(lines for _, lines in changed.values())
    return f"{count(len(changed), 'file')} +{added} −{removed}"


def outcome(turn: Turn) -> str:
    """How a turn ended, "" for one that is done."""
    if turn.gone:
        return GONE
    return stop(turn.end) if turn.end else ENDLESS


def stop(end: TurnEnded) -> str:
    return "" if end.reason is StopReason.DONE else STOPS.get(end.reason, end.reason.value)


def turn_end(block: Ended) -> str:
    """``1 file +1 −1 · 5 steps · 18.2k tokens, 91 % cached · $0.012 · 41 s``."""
    end = block.event
    return joined(
        [
            changes(block.changed),
            count(end.steps, "step"),
            used(end.usage),
            money(end.cost, one_line(end.currency or "")),
            duration(end.seconds),
        ]
    )


def call_name(call: Call) -> str:
    return one_line(call.name, 80) or "(no name)"


def call_about(call: Call) -> str:
    """What the call works on."""
    summary = call.result.summary if call.result else ""
    return one_line(summary or (call.started.summary if call.started else ""))


def call_outcome(call: Call) -> str:
    """``exit status 1, 0.1 s``, ``denied``, ``never run``."""
    result = call.result
    if result is None:
        if call.cut:
            return "not run: the answer was interrupted"
        return "no result: it is unknown whether it ran" if call.started else "never run"
    display = one_line(result.display, 200)
    # What a tool displays may hold its time already.
    time = "" if display.endswith(" s") else duration(result.seconds)
    told = result.status == "ok" or (result.status == "error" and display)
    return joined(["" if told else result.status, display, time])


def arguments(call: Call) -> list[tuple[str, str]]:
    """The arguments by name, without those that the call's line says already; malformed ones as
    they came, under no name. Strings are shown as they are, numbers and the like as JSON."""
    raw = call.arguments or ""
    try:
        pairs = [
            pair
            for name, value in parse_arguments(raw).items()
            for pair in _flat(name, value, DEPTH)
        ]
    except (BadArguments, RecursionError):
        return [("", harmless(raw))] if raw.strip() else []
    about = call_about(call)
    return [(one_line(name, 80), harmless(text)) for name, text in pairs if text != about]


def _flat(name: str, value: Any, depth: int) -> Iterator[tuple[str, str]]:
    """What an argument holds, by path: ``edits[0].old``."""
    inner: Iterable[tuple[str, Any]] = ()
    if isinstance(value, dict) and value and depth:
        inner = ((f"{name}.{key}", item) for key, item in value.items())
    elif isinstance(value, list) and depth and any(isinstance(i, dict | list) for i in value):
        inner = ((f"{name}[{index}]", item) for index, item in enumerate(value))
    elif isinstance(value, str):
        yield name, value
    else:
        yield name, json.dumps(value, ensure_ascii=False)
    for path, item in inner:
        yield from _flat(path, item, depth - 1)


def question(question: Question) -> str:
    asked, answered = question.asked, question.answered
    what = joined([one_line(asked.text), one_line(asked.reason)])
    if answered is None:
        return f"asked: {what} · never answered"
    by = " (by the policy, nobody was asked)" if answered.by == "policy" else ""
    comment = one_line(answered.comment)
    return joined([f"asked: {what}", f"answer: {one_line(answered.answer)}{by}", comment])


def compaction(block: Compacted) -> tuple[str, str]:
    """One line that says what happened, and one of what was kept and dropped."""
    event = block.event
    why = {
        "window": "the window was nearly full",
        "server": "the server refused the request as too long",
        "manual": "on request",
    }[event.reason]
    focus = f", focus: {one_line(event.focus)}" if event.focus else ""
    size = ""
    if event.tokens_before:
        size = f"{tokens(event.tokens_before).removesuffix(' tokens')} → "
        size += tokens(event.tokens_after) or "0 tokens"
    line = joined([f"context compacted: {why}{focus}", size, duration(event.seconds)])
    return line, _kept(event.kept)


def _kept(kept: Kept) -> str:
    numbers = (
        (kept.user_messages, "user message"),
        (kept.todos, "todo"),
        (kept.files_changed, "changed file"),
        (kept.files_read, "read file"),
        (kept.recent_steps, "newest step"),
    )
    words = ", ".join(count(number, noun) for number, noun in numbers if number)
    clipped = f"{count(kept.clipped_messages, 'message')} clipped" if kept.clipped_messages else ""
    dropped = f"dropped {count(kept.dropped_steps, 'step')}" if kept.dropped_steps else ""
    spilled = "spilled to " + ", ".join(map(one_line, kept.spilled)) if kept.spilled else ""
    return joined([f"kept {words}" if words else "", dropped, clipped, spilled])


def _rewound(event: Rewind) -> str:
    what = {"undo": "undone", "redo": "redone"}.get(event.what, "rewound")
    files = f"{count(event.restored, 'file')} restored" if event.files else ""
    if not event.conversation:
        return joined([f"{what}: the conversation stays as it is", files])
    if event.what == "redo":
        return joined([f"{what}: what had been taken back counts again", files])
    return joined([f"{what}: what was taken back before this line is marked", files])


def remark(event: DurableEvent) -> tuple[str, str]:
    """A level ("info", "warning" or "error") and a sentence for any other event; an empty one for
    what says nothing to people."""
    match event:
        case Notice():
            return event.level, harmless(event.text).strip()
        case SessionResumed():
            return "info", joined([f"resumed {day_and_minute(event.time)}", one_line(event.cwd)])
        case ModelChanged():
            thinking = f", thinking {one_line(event.thinking)}" if event.thinking else ""
            return "info", f"model changed to {one_line(event.model)}{thinking}"
        case Aside():
            return "info", joined(
                [
                    f"asked beside the work: {one_line(event.question)}",
                    one_line(event.answer),
                    "cut off" if event.partial else "",
                ]
            )
        case Confined():
            return "info", confinement(event)
        case ModeChanged():
            return "info", f"mode changed to {one_line(event.mode)}"
        case Checkpoint() | RewindStarted():
            return "info", ""
        case Shrink():
            return "info", (
                "long results of tools are sent cut from here: the server refused the request "
                f"as too long · {event.tokens_before:,} → {event.tokens_after:,} tokens"
            )
        case Repair():
            kind = one_line(event.kind).replace("_", " ")
            pieces = [f"mended for the model: {kind}", one_line(event.call_id or "")]
            return "info", joined([*pieces, one_line(event.detail)])
        case Rewind():
            return "warning", _rewound(event)
        case BudgetWarning():
            return "warning", f"{event.used:,.6g} of {event.limit:,.6g} {event.axis} are used"
        case _:
            return "info", event.type.replace("_", " ")
