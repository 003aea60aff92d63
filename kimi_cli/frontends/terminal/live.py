"""What goes on right now, for the lines above the input; nothing of it stays."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from kimi_cli.frontends.plain import clean, seconds, short
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    Compaction,
    ToolResult,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from kimi_cli.protocol.live import (
    CompactionStarted,
    RetryScheduled,
    StepStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    ToolOutputDelta,
)

STREAMING = "esc stops"
QUIET_SECONDS = 5.0
"""A stream that has said nothing for so long is worth a word."""
OPENING = "opening the session"
OUTPUT_KEPT = 4096
"""Characters of a running command's output that are kept for its last lines."""


@dataclass(slots=True)
class Running:
    """A tool call that runs: its line, when it began (monotonic seconds), the end of its output."""

    name: str
    summary: str
    since: float
    output: str = ""

    def add(self, text: str) -> None:
        self.output = (self.output + text)[-OUTPUT_KEPT:]

    def last_lines(self, count: int) -> list[str]:
        """The last ``count`` lines as a terminal would show them: the last state of a line that
        was overwritten."""
        lines = self.output.replace("\r\n", "\n").split("\n")
        ends = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
        shown = [clean(line.expandtabs(4)) for line in ends]
        return [line for line in shown if line.strip()][-count:]


@dataclass(slots=True)
class Waiting:
    """The next try after a request that failed."""

    message: str
    until: float
    attempt: int
    attempts: int


@dataclass(slots=True)
class Doing:
    """What the session does. ``now`` is a monotonic clock in seconds."""

    now: Callable[[], float] = time.monotonic
    busy: bool = False
    tools: dict[str, Running] = field(default_factory=dict)
    waiting: Waiting | None = None
    _what: str = ""
    _since: float = 0.0
    _writing: str = ""
    _came: float = 0.0

    def __call__(self, event: Event) -> None:
        """Take in an event of the session."""
        match event:
            case TurnStarted():
                self.busy = True
                self._begin("waiting for the model")
            case StepStarted():
                self.waiting = None
                self._begin("waiting for the model")
            case TextDelta() | ThinkingDelta():
                self.waiting = None
                self._begin(STREAMING)
                self._came = self.now()
            case ToolCallDelta():
                self.waiting = None
                if not self._writing:
                    self._since = self.now()
                    self._what = ""
                self._writing = event.name or self._writing or "a tool call"
            case AssistantMessage():
                self._begin("")
            case ToolStarted():
                self._begin("")
                self.tools[event.call_id] = Running(event.name, event.summary, self.now())
            case ToolOutputDelta():
                if event.call_id in self.tools:
                    self.tools[event.call_id].add(event.text)
            case ToolResult():
                self.tools.pop(event.call_id, None)
            case RetryScheduled():
                self._begin("")
                until = self.now() + event.delay
                self.waiting = Waiting(event.message, until, event.attempt, event.attempts)
            case CompactionStarted():
                of = f" of {short(event.window)}" if event.window else ""
                self._begin(f"compacting the context: {short(event.tokens)}{of} tokens")
            case Compaction():
                self._begin("")
            case TurnEnded():
                self.busy = False
                self.waiting = None
                self.tools.clear()
                self._begin("")

    def opening(self, over: bool = False) -> None:
        """A session is being opened, which an endpoint can hold up; or that is over."""
        self._begin("" if over else OPENING)

    def line(self) -> str:
        """What it waits for or does, in words, with the time; "" where the screen shows it
        anyway."""
        if self.waiting:
            left = max(0, round(self.waiting.until - self.now()))
            minutes, rest = divmod(left, 60)
            failed = f"{self.waiting.attempt} of {self.waiting.attempts} failed"
            why = clean(self.waiting.message)
            return f"{why} · next try in {minutes}:{rest:02d} ({failed})"
        what = f"writing {clean(self._writing)}" if self._writing else self._what
        if not what or self.tools:
            return ""
        taken = self.now() - self._since
        if what == STREAMING:
            quiet = self.now() - self._came
            if quiet >= QUIET_SECONDS:
                return f"nothing has come for {seconds(float(int(quiet)))} · esc stops"
            return f"{seconds(float(int(taken)))} · esc stops" if taken >= 1 else ""
        if what == OPENING and taken < 1:
            return ""
        return f"{what} · {seconds(taken)}" if taken >= 1 else what

    def _begin(self, what: str) -> None:
        self._writing = ""
        if what != self._what or not what:
            self._what, self._since = what, self.now()
