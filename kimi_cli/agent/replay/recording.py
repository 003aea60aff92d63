"""A recording: the events of a session, found by an id or a path, taken apart into turns."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kimi_cli.agent.undo import history
from kimi_cli.protocol.events import (
    AssistantMessage,
    DurableEvent,
    SessionResumed,
    SessionStarted,
    ToolResult,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import TextPart, ToolCallPart
from kimi_cli.store.errors import SessionError, SessionNotFound
from kimi_cli.store.events_file import EVENTS, read_session
from kimi_cli.store.index import find, project_key

Fate = Literal["run", "denied", "interrupted"]


@dataclass(frozen=True, slots=True)
class Recording:
    """A session as it was stored. ``skipped`` counts the lines that are no events, ``torn`` says
    that the last one was not finished."""

    path: Path
    events: Sequence[DurableEvent]
    skipped: int
    torn: bool

    @property
    def begun(self) -> SessionStarted | None:
        return next((e for e in self.events if isinstance(e, SessionStarted)), None)


def open_recording(home: Path, wanted: str, project: Path) -> Recording:
    """Read a session: ``wanted`` is the path of its folder, of its events or of a copy of them,
    or an id, or the start of one, as ``kimi -r`` takes it in ``project``. No lock is taken.

    Raises SessionError (SessionTooNew among others) and StoreError.
    """
    path = _located(home, wanted, project)
    log = read_session(path)
    if not log.events:
        raise SessionError(f"{path} holds no events of a session")
    return Recording(path, log.events, len(log.skipped), log.torn_bytes > 0)


def _located(home: Path, wanted: str, project: Path) -> Path:
    path = Path(os.path.expanduser(wanted))
    if path.is_file() or (path / EVENTS).is_file():
        return path
    if "/" in wanted or path.suffix:
        raise SessionNotFound(f"{path} is no session: neither its events nor its folder")
    return find(home, wanted, project)


def worked_in(recording: Recording, begun: SessionStarted) -> tuple[str, str]:
    """The top of the project that the session worked in, as it was called there, and its working
    folder relative to that ("." for the top itself).

    What the session itself does not say is taken from the name of the folder that it is stored
    under; where that does not tell either, the project is the working folder.
    """
    cwd = Path(begun.cwd)
    folder = recording.path if recording.path.is_dir() else recording.path.parent
    key = folder.parent.name
    stored = next((str(up) for up in (cwd, *cwd.parents) if project_key(up) == key), "")
    root = begun.root or stored
    if not root or not cwd.is_relative_to(root):
        return begun.cwd, "."
    return root, str(cwd.relative_to(root))


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A tool call and what came of it; None: the session ended before its result."""

    part: ToolCallPart
    result: ToolResult | None

    @property
    def name(self) -> str:
        """The tool's own name, where the call got that far."""
        return self.result.name if self.result else self.part.name

    @property
    def fate(self) -> Fate:
        """What became of the call: whether it ran to its end, successful or not."""
        if self.result is None or self.result.status == "interrupted":
            return "interrupted"
        return "denied" if self.result.status == "denied" else "run"


@dataclass(slots=True)
class RecordedAnswer:
    """A whole answer of the model. ``steering`` was typed while it and its calls were under way;
    ``told`` is what the program said to an answer without calls, "" when it had nothing to say."""

    message: AssistantMessage
    calls: list[RecordedCall]
    steering: list[str] = field(default_factory=list)
    told: str = ""


@dataclass(slots=True)
class RecordedTurn:
    """One turn. ``ended`` None: the session broke off in it. ``resumed``: another process went on
    with the session before it."""

    number: int
    said: UserMessage
    answers: list[RecordedAnswer] = field(default_factory=list)
    ended: TurnEnded | None = None
    resumed: bool = False


def turns_of(events: Sequence[DurableEvent]) -> list[RecordedTurn]:
    """The turns whose work is still in the files, in the order in which they ran, also where the
    conversation does not know of them any more. Answers that were interrupted are left out."""
    turns: list[RecordedTurn] = []
    open_turn: RecordedTurn | None = None
    resumed = False
    for index, event in enumerate(events):
        if isinstance(event, SessionResumed):
            resumed = True
        elif isinstance(event, TurnStarted):
            open_turn = None
        elif isinstance(event, UserMessage) and event.origin == "user":
            open_turn = RecordedTurn(len(turns) + 1, event, resumed=resumed)
            turns.append(open_turn)
            resumed = False
        elif open_turn:
            _take(open_turn, event, _results(events, index + 1))
    return _left(turns, history(events).reverted)


def _left(turns: Sequence[RecordedTurn], reverted: Collection[int]) -> list[RecordedTurn]:
    left: list[RecordedTurn] = []
    resumed = False
    for turn in turns:
        turn.resumed = resumed = turn.resumed or resumed
        if turn.said.turn not in reverted:
            left.append(turn)
            resumed = False
    return left


def _take(turn: RecordedTurn, event: DurableEvent, results: Iterator[ToolResult]) -> None:
    last = turn.answers[-1] if turn.answers else None
    if isinstance(event, AssistantMessage) and not event.partial:
        calls = [part for part in event.parts if isinstance(part, ToolCallPart)]
        turn.answers.append(RecordedAnswer(event, _paired(calls, list(results))))
    elif isinstance(event, UserMessage) and last:
        if event.origin == "steer":
            last.steering.append(text_of(event))
        elif not last.calls:
            last.told = last.told or text_of(event)
    elif isinstance(event, TurnEnded):
        turn.ended = event


def _results(events: Sequence[DurableEvent], start: int) -> Iterator[ToolResult]:
    """The results up to the next answer."""
    for index in range(start, len(events)):
        event = events[index]
        if isinstance(event, AssistantMessage | TurnStarted):
            return
        if isinstance(event, ToolResult):
            yield event


def _paired(calls: Sequence[ToolCallPart], results: list[ToolResult]) -> list[RecordedCall]:
    """Each call with its result: results stand in call order."""
    paired = []
    for call in calls:
        found = bool(results) and results[0].call_id == call.id
        paired.append(RecordedCall(call, results.pop(0) if found else None))
    return paired


def text_of(event: UserMessage | ToolResult) -> str:
    """The text of a message or a result."""
    return "".join(part.text for part in event.parts if isinstance(part, TextPart))
