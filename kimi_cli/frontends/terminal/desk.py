"""What is on the table between the user and the session: all that the live region shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kimi_cli.frontends.terminal.ink import Ink
from kimi_cli.frontends.terminal.live import Doing
from kimi_cli.frontends.terminal.menu import Menu, menu_lines
from kimi_cli.frontends.terminal.question_view import question_lines
from kimi_cli.frontends.terminal.region import doing_line, plan_lines, queue_lines, tool_lines
from kimi_cli.frontends.terminal.status_line import Status, status_line
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Aside,
    AssistantMessage,
    Compaction,
    ModeChanged,
    ModelChanged,
    QuestionAnswered,
    QuestionAsked,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import TextPart, Usage, added

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.scribe import Scribe

TAIL_LINES = 8
"""Most lines of what streams that are shown before they are finished."""


@dataclass(slots=True)
class Desk:
    """``queued`` are messages for the turns to come, ``kept`` those that wait for the user to send
    them after all, ``steering`` those for the running turn that it has not got yet. ``questions``
    wait for an answer, oldest first; ``saying_why`` is the one that is being refused in words,
    ``plan_ready`` says that a plan can be approved. ``note`` is for the moment, such as what a
    second Ctrl-C will do; ``offers`` are what the model gets to know with the next message."""

    ink: Ink
    scribe: Scribe
    doing: Doing = field(default_factory=Doing)
    status: Status = field(default_factory=Status)
    queued: list[str] = field(default_factory=list)
    steering: list[str] = field(default_factory=list)
    questions: list[QuestionAsked] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    saying_why: str = ""
    plan_ready: bool = False
    note: str = ""
    offers: list[str] = field(default_factory=list)
    menu: Menu | None = None

    def take(self, event: Event) -> list[str]:
        """Take in an event; returns the lines it leaves in the scrollback."""
        self.doing(event)
        match event:
            case TurnStarted():
                self.status.currency = event.currency
                self.plan_ready = False
            case AssistantMessage() | Compaction() | Aside():
                self._spend(event.usage, event.cost)
            case UserMessage(origin="steer"):
                self._delivered(event)
            case QuestionAsked():
                self.questions.append(event)
            case QuestionAnswered():
                self._answered(event.question_id)
            case ModeChanged():
                self.status.mode = event.mode
                self.plan_ready = False
            case ModelChanged():
                self.status.model, self.status.thinking = event.model, event.thinking
                self.status.window = event.window
            case TurnEnded():
                self.questions.clear()
                self.saying_why = ""
        return self.scribe.feed(event)

    @property
    def has_field(self) -> bool:
        """Whether what is typed goes into the field of a menu or a reason, not into the message."""
        return self.menu is not None or bool(self.saying_why)

    def above(self, width: int, rows: int, typed: str = "") -> list[str]:
        """The lines above the input, at most ``rows`` of them; ``typed`` is what is in it."""
        ink = self.ink
        if self.menu:
            behind = []
            if self.questions:
                words = f"{self.questions[0].tool} needs your answer · esc closes this menu"
                behind.append(ink.line([(f"{ink.look.needs} ", "warn"), (words, "warn")], width))
            return behind + menu_lines(self.menu, typed, ink, width, rows - len(behind))
        below = queue_lines(self.queued, self.kept, self.steering, ink, width)
        if self.offers:
            words = "the output goes with your next message · esc keeps it to yourself"
            below.append(ink.line([("  ", ""), (words, "dim")], width))
        if self.note:
            below.append(ink.line([("  ", ""), (self.note, "warn")], width))
        if self.questions:
            room = max(rows - len(below), 6)
            below = question_lines(self.questions[0], ink, width, room) + below
        elif self.plan_ready:
            below = plan_lines(ink, width) + below
        else:
            below = doing_line(self.doing, ink, width) + below
        running = [] if self.questions else tool_lines(self.doing, ink, width, rows - len(below))
        left = rows - len(below) - len(running)
        tail = self.scribe.tail(min(TAIL_LINES, left)) if left > 0 else []
        # A line of air where nothing goes on.
        return [*tail, *running, *below][-max(rows, 1) :] or [""]

    def below(self, width: int) -> str:
        """The status line."""
        return status_line(self.status, self.ink, width)

    def _spend(self, usage: Usage | None, cost: float | None) -> None:
        self.status.usage = self.status.usage + (usage or Usage())
        self.status.cost = added(self.status.cost, cost)

    def _delivered(self, event: UserMessage) -> None:
        text = "".join(part.text for part in event.parts if isinstance(part, TextPart))
        if text in self.steering:
            self.steering.remove(text)

    def _answered(self, question: str) -> None:
        if self.saying_why == question:
            self.saying_why = ""
        self.questions = [one for one in self.questions if one.question_id != question]
