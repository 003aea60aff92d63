"""Signs of life on stderr while a headless run works."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable

from kimi_cli.frontends.plain import (
    clean,
    clean_block,
    compacted,
    compacting,
    confinement,
    counted,
    fit,
    money,
    seconds,
    share,
    shrunk,
    tokens,
)
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Aside,
    AssistantMessage,
    BudgetWarning,
    Compaction,
    Confined,
    Instructions,
    ModeChanged,
    ModelChanged,
    Notice,
    Shrink,
    ToolResult,
    ToolStarted,
    TurnStarted,
)
from kimi_cli.protocol.live import (
    CompactionStarted,
    RetryScheduled,
    StepStarted,
)
from kimi_cli.protocol.messages import Usage, added

SHORTEST = 12
"""Columns below which a piece of a line is not cut: the line wraps instead."""


class Progress:
    """One line for each finished tool call, wait and warning; a heartbeat in between."""

    def __init__(
        self, currency: str | None, fullness: Callable[[], float | None] = lambda: None
    ) -> None:
        """``fullness`` gives the share of the context window in use, None: not known."""
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._dim = self._terminal and "NO_COLOR" not in os.environ
        self._currency = currency
        self._fullness = fullness
        self._usage = Usage()
        self._cost: float | None = None
        self._doing = "starting"
        self._since = time.monotonic()
        self._last_line = time.monotonic()

    def __call__(self, event: Event) -> None:
        match event:
            case StepStarted():
                self.doing("waiting for the model")
            case ToolStarted():
                self.doing(f"{event.name} {event.summary}")
            case AssistantMessage():
                self._spend(event.usage, event.cost)
            case ToolResult():
                outcome = event.display or ("" if event.status == "ok" else event.status)
                self.line(
                    f"step {event.step}", f"{event.name} {event.summary}".strip(), outcome,
                    seconds(event.seconds), self._full(), *self._spent(),
                )  # fmt: skip
            case RetryScheduled():
                when = f"in {seconds(event.delay)}" if seconds(event.delay) else "at once"
                self.line(
                    event.message, f"next try {when} ({event.attempt} of {event.attempts} failed)"
                )
            case BudgetWarning():
                self.line(f"{share(event.used, event.limit)} of the limit of {event.axis} is used")
            case CompactionStarted():
                self.doing("compacting the context")
                self.line(compacting(event))
            case Compaction():
                self._spend(event.usage, event.cost)
                self.line(compacted(event, self._currency))
            case Shrink():
                self.line(shrunk(event))
            case Notice():
                self.line(event.text)
            case TurnStarted():
                self._currency = event.currency
            case ModelChanged():
                self.line(event.model, f"thinking {event.thinking}" if event.thinking else "")
            case ModeChanged():
                self.line(f"{event.mode} mode")
            case Aside():
                self._spend(event.usage, event.cost)
            case Confined():
                self.line(confinement(event))
            case Instructions():
                cut = sum(file.clipped for file in event.files)
                self.line(
                    f"AGENTS.md: {counted(len(event.files), 'file')}" + f", {cut} cut" * bool(cut)
                )

    async def beat(self, every: float) -> None:
        """Print a line whenever ``every`` seconds passed without one; runs until cancelled."""
        while True:
            quiet = time.monotonic() - self._last_line
            if quiet >= every:
                self.line(
                    "still working", self._doing, seconds(time.monotonic() - self._since),
                    *self._spent(),
                )  # fmt: skip
                quiet = 0.0
            await asyncio.sleep(max(every - quiet, 0.01))

    def line(self, *pieces: str) -> None:
        """Print ``pieces`` as one line; a stderr that is gone is no reason to fail."""
        self._last_line = time.monotonic()
        shown = [clean(piece) for piece in pieces if piece]
        if self._terminal and shown:
            shown = _fitted(shown, _columns() - 2)
        say("  " + " · ".join(shown), dim=self._dim)

    def doing(self, doing: str) -> None:
        """What the heartbeat says from now on."""
        self._doing = doing
        self._since = time.monotonic()

    def _spend(self, usage: Usage | None, cost: float | None) -> None:
        self._usage = self._usage + (usage or Usage())
        self._cost = added(self._cost, cost)

    def _full(self) -> str:
        full = self._fullness()
        return "" if full is None else f"ctx {share(full, 1)}"

    def _spent(self) -> list[str]:
        return [tokens(self._usage.total_tokens), money(self._cost, self._currency)]


def _fitted(pieces: list[str], width: int) -> list[str]:
    """The pieces with the longest cut so that a line of them fits: the figures stay."""
    over = len(" · ".join(pieces)) - width
    longest = max(pieces, key=len)
    if over <= 0 or len(longest) - over < SHORTEST:
        return pieces
    return [fit(piece, len(piece) - over) if piece is longest else piece for piece in pieces]


def _columns() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def say(text: str, dim: bool = False) -> None:
    """A line on stderr without anything a terminal would obey, lost when nobody reads it."""
    text = clean_block(text)
    if dim:
        text = f"\x1b[2m{text}\x1b[0m"
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        return
