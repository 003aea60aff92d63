"""`kimi replay`: a session shown as it was, and the report of one that was run again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from kimi_cli.frontends.plain import clean, clean_block, counted, seconds
from kimi_cli.frontends.transcript import Transcript
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    DurableEvent,
    Notice,
    Rewind,
    SessionResumed,
    SessionStarted,
    TurnEnded,
    TurnStarted,
)
from kimi_cli.protocol.live import TextDelta, ThinkingDelta
from kimi_cli.protocol.messages import TextPart, ThinkingPart
from kimi_cli.store.replay import PIECE

if TYPE_CHECKING:
    from kimi_cli.agent.replay.check import Checked, Outcome
    from kimi_cli.agent.replay.recording import Recording

LONGEST_WAIT = 2.0
DIFF_LINES = 100
MARKS = {"same": ("ok", "green"), "different": ("DIFFERS", "bold red"), "not run": ("-", "yellow")}


class PipeConsole(Console):
    """A console whose reader may leave: that ends the program as SIGTERM would, not with 1, which
    says that something differs."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(143)


def show(recording: Recording, console: Console, speed: float) -> None:
    """Print a session as it was, ``speed`` times as fast; 0: at once. No wait is longer than
    ``LONGEST_WAIT`` seconds."""
    transcript = Transcript(console)
    for wait, event in timed(recording.events, speed):
        if wait > 0:
            time.sleep(wait)
        transcript(event)
    if recording.torn or _in_turn(recording.events):
        transcript(Notice(text="the recording ends here, within a turn"))


def timed(events: Sequence[DurableEvent], speed: float) -> Iterator[tuple[float, Event]]:
    """What to show, each with the seconds to wait before: an answer becomes the pieces in which
    it came, as far as these were recorded."""
    before = events[0].time if events else 0.0
    for event in events:
        gap = max(event.time - before, 0.0)
        before = event.time
        if isinstance(event, AssistantMessage):
            streamed = min(event.seconds or gap, gap)
            deltas = list(_deltas(event))
            yield from _paced(deltas, gap - streamed, streamed, speed)
            yield 0.0, event
            if event.partial:
                yield 0.0, Notice(text="interrupted here")
            continue
        yield _wait(gap, speed), event
        if said := _heading(event):
            yield 0.0, Notice(text=said)


def _paced(
    deltas: Sequence[Event], first: float, rest: float, speed: float
) -> Iterator[tuple[float, Event]]:
    each = rest / len(deltas) if deltas else 0.0
    for index, delta in enumerate(deltas):
        yield _wait(each + (first if index == 0 else 0.0), speed), delta


def _wait(gap: float, speed: float) -> float:
    return min(gap / speed, LONGEST_WAIT) if speed > 0 else 0.0


def _deltas(answer: AssistantMessage) -> Iterator[Event]:
    for part in answer.parts:
        kind: Callable[..., Event]
        if isinstance(part, ThinkingPart):
            kind = ThinkingDelta
        elif isinstance(part, TextPart):
            kind = TextDelta
        else:
            continue
        for start in range(0, len(part.text), PIECE):
            yield kind(text=part.text[start : start + PIECE])


def _heading(event: DurableEvent) -> str:
    """Where and with what a session began or went on."""
    if isinstance(event, SessionStarted):
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(event.time))
        return clean(f"session {event.session} · {event.model} · {event.cwd} · {day}")
    if isinstance(event, SessionResumed):
        return clean(f"resumed in {event.cwd}")
    if isinstance(event, Rewind) and event.target:
        what = {"undo": "undone: back", "redo": "redone: again"}.get(event.what, "back")
        which = "" if event.conversation else ", the files only"
        return f"{what} {'after' if event.what == 'redo' else 'before'} turn {event.target}{which}"
    return ""


def _in_turn(events: Sequence[DurableEvent]) -> bool:
    ends = [event for event in events if isinstance(event, TurnStarted | TurnEnded)]
    return bool(ends) and isinstance(ends[-1], TurnStarted)


def outcome_fields(outcome: Outcome) -> dict[str, Any]:
    """The outcome of a check as JSON, documented in docs/replay.md."""
    return {
        "as_recorded": outcome.as_recorded,
        "total": outcome.total,
        "same": outcome.count("same"),
        "different": outcome.count("different"),
        "not_run": outcome.count("not run"),
        "problems": outcome.problems,
        "calls": [
            {
                "turn": one.turn,
                "tool": one.call.name,
                "summary": _summary(one),
                "verdict": one.verdict.replace(" ", "_"),
                "why": one.why,
                "diff": list(one.diff),
            }
            for one in outcome.checked
        ],
    }


def _summary(checked: Checked) -> str:
    return (checked.call.result or checked.result).summary


class Report:
    """Prints what came of the calls that were run again, of those that differ or of ``every`` one,
    and in the end of all of them."""

    def __init__(self, console: Console, *, every: bool = False) -> None:
        self._console = console
        self._every = every
        self._begun = time.monotonic()

    def call(self, checked: Checked) -> None:
        """Print a line for a call, and the diff of one that gave something else."""
        if checked.verdict != "different" and not self._every:
            return
        word, style = MARKS[checked.verdict]
        name = f"{checked.call.name} {clean(_summary(checked))}".strip()
        why = f" · not run: {clean(checked.why)}" if checked.why else ""
        line = Text(f"{word:8}", style).append(f" turn {checked.turn} · {name}{why}", "default")
        self._line(line)
        self._diff(checked.diff)

    def end(self, outcome: Outcome) -> None:
        """Print where turns went another way, and the summary."""
        for problem in outcome.problems:
            self._line(Text(f"{'DIFFERS':8} {clean(problem)}", "bold red"))
        same, total = outcome.count("same"), outcome.total
        left_out = outcome.count("not run")
        pieces = [
            f"{same} of {counted(total, 'tool call')} gave the recorded result"
            if total
            else "no tool call to compare",
            f"{left_out} not run again" * bool(left_out),
            seconds(time.monotonic() - self._begun),
        ]
        style = "green" if outcome.as_recorded else "red"
        self._line(Text(" · ".join(piece for piece in pieces if piece), style))

    def _diff(self, diff: Sequence[str]) -> None:
        for line in diff[:DIFF_LINES]:
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            self._line(Text(f"    {clean_block(line)}".rstrip(), style))
        if len(diff) > DIFF_LINES:
            self._line(Text(f"    … {len(diff) - DIFF_LINES} more lines", "dim"))

    def _line(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)
