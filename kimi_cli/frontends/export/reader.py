"""Events in, an outline out."""

from __future__ import annotations

from collections.abc import Sequence

from kimi_cli.agent.branch import taken_back
from kimi_cli.frontends.export.outline import (
    Answer,
    Block,
    Call,
    Compacted,
    Cut,
    Ended,
    Outline,
    Question,
    Remark,
    Said,
    Thought,
    Told,
    Turn,
)
from kimi_cli.frontends.export.text import one_line
from kimi_cli.protocol.events import (
    Aside,
    AssistantMessage,
    Compaction,
    DurableEvent,
    Instructions,
    ModelChanged,
    QuestionAnswered,
    QuestionAsked,
    SessionStarted,
    Title,
    ToolResult,
    ToolStarted,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import TextPart, ThinkingPart, ToolCallPart, Usage

TITLE_LENGTH = 80


def outline(events: Sequence[DurableEvent], *, title: str, session: str) -> Outline:
    """Put the events of a session in order for reading; ``title`` "" is found in them."""
    reader = _Reader(Outline(session, title))
    gone = taken_back(events)
    for index, event in enumerate(events):
        reader.read(event, index in gone)
    return reader.finish()


class _Reader:
    def __init__(self, out: Outline) -> None:
        self._out = out
        self._named = ""
        self._calls: dict[str, list[Call]] = {}
        self._questions: dict[str, Question] = {}

    def read(self, event: DurableEvent, gone: bool) -> None:
        out = self._out
        out.first = out.first or event.time
        out.last = max(out.last, event.time)
        match event:
            case SessionStarted():
                out.start = out.start or event
                out.tools = event.tools
                self._model(event.model)
            case TurnStarted():
                self._begin(event)
                out.currency = event.currency or out.currency
            case UserMessage():
                turn = self._turn
                if event.origin == "user" and (turn is None or turn.end):
                    self._begin(event)
                self._put(Said(event.origin, event.parts, gone=gone))
            case Instructions():
                self._put(Told(event, gone=gone))
            case AssistantMessage():
                self._answer(event, gone)
            case ToolStarted():
                if call := self._waiting(event.call_id):
                    call.started = event
            case ToolResult():
                self._result(event, gone)
            case QuestionAsked():
                self._asked(event, gone)
            case QuestionAnswered():
                if question := self._questions.get(event.question_id):
                    question.answered = event
            case Compaction():
                self._spend(event.usage, event.cost)
                self._put(Compacted(event, gone=gone))
            case Aside():
                out.usage = out.usage + (event.usage or Usage())
                if event.cost is not None:
                    out.cost = (out.cost or 0.0) + event.cost
                self._put(Remark(event, gone=gone))
            case TurnEnded():
                self._ended(event, gone)
            case Title():
                self._named = event.text
            case _:
                if isinstance(event, ModelChanged):
                    self._model(event.model)
                self._put(Remark(event, gone=gone))

    def finish(self) -> Outline:
        out = self._out
        for turn in out.turns:
            out.steps += turn.steps
            out.usage = out.usage + turn.usage
            if turn.cost is not None:
                out.cost = (out.cost or 0.0) + turn.cost
        first = next((turn.request for turn in out.turns if turn.request), "")
        out.title = one_line(out.title or self._named or first or out.session, TITLE_LENGTH)
        return out

    @property
    def _turn(self) -> Turn | None:
        return self._out.turns[-1] if self._out.turns else None

    def _begin(self, event: DurableEvent) -> None:
        self._out.turns.append(Turn(len(self._out.turns) + 1, event.time))

    def _put(self, block: Block) -> None:
        turn = self._turn
        (turn.blocks if turn else self._out.before).append(block)

    def _model(self, name: str) -> None:
        if name and name not in self._out.models:
            self._out.models.append(name)

    def _spend(self, usage: Usage | None, cost: float | None) -> None:
        turn = self._turn or self._out
        turn.usage = turn.usage + (usage or Usage())
        if cost is not None:
            turn.cost = (turn.cost or 0.0) + cost

    def _answer(self, event: AssistantMessage, gone: bool) -> None:
        self._spend(event.usage, event.cost)
        if turn := self._turn:
            turn.steps += 1
        seconds = event.thinking_seconds
        for part in event.parts:
            match part:
                case ThinkingPart() if part.text.strip():
                    self._put(Thought(part.text, seconds, gone=gone))
                    seconds = 0.0
                case TextPart() if part.text.strip():
                    self._put(Answer(part.text, gone=gone))
                case ToolCallPart():
                    call = Call(part.id, part.name, part.arguments, event.partial, gone=gone)
                    self._calls.setdefault(call.id, []).append(call)
                    self._put(call)
        if event.partial:
            self._put(Cut(gone=gone))

    def _waiting(self, call_id: str) -> Call | None:
        """The newest call with this id that has no result."""
        waiting = self._calls.get(call_id)
        return waiting[-1] if waiting else None

    def _result(self, event: ToolResult, gone: bool) -> None:
        call = self._waiting(event.call_id)
        if call is None:
            call = Call(event.call_id, event.name, None, gone=gone)
            self._put(call)
        else:
            self._calls[call.id].pop()
        call.result = event
        changed = self._turn.changed if self._turn else {}
        for touch in event.files:
            if touch.action != "read":
                added, removed = changed.get(touch.path, (0, 0))
                changed[touch.path] = (added + touch.added, removed + touch.removed)

    def _asked(self, event: QuestionAsked, gone: bool) -> None:
        question = self._questions[event.question_id] = Question(event)
        call = self._waiting(event.call_id)
        if call is None:
            call = Call(event.call_id, event.tool, None, gone=gone)
            self._calls.setdefault(call.id, []).append(call)
            self._put(call)
        call.questions.append(question)

    def _ended(self, event: TurnEnded, gone: bool) -> None:
        if self._turn is None:
            self._begin(event)
        turn = self._out.turns[-1]
        turn.end, turn.usage, turn.steps = event, event.usage, event.steps
        turn.cost = event.cost if event.cost is not None else turn.cost
        self._out.currency = event.currency or self._out.currency
        self._put(Ended(event, turn.changed, gone=gone))
