"""What can be taken back in a session and what can be brought back: read off its events. Pure.

Two lines run through a session. That of the conversation is its branch. That of the files is made
of checkpoints: each follows the one before it, and one that was made after files were restored
follows the checkpoint they were restored to. What lies between two of them is the work of a turn
(from its first change to its end) or of others' hands.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from kimi_cli.agent.branch import branch
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Checkpoint,
    Notice,
    Rewind,
    RewindKind,
    RewindStarted,
    Title,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import MediaPart, TextPart


class CannotUndo(Exception):
    """Nothing can be taken or brought back as asked; the message says why."""


@dataclass(slots=True, eq=False)
class Mark:
    """A checkpoint on the line of the files: ``seq`` is the number of its event. ``by_turn``: what
    changed since ``parent`` is a turn's work. ``open``: the turn had begun to change files and its
    end is not known yet."""

    seq: int
    snapshot: str
    parent: Mark | None
    by_turn: bool = False
    open: bool = False

    def way(self) -> Iterator[Mark]:
        """This one and those it follows, the newest first."""
        mark: Mark | None = self
        while mark:
            yield mark
            mark = mark.parent


@dataclass(slots=True)
class TurnPoint:
    """A turn that counts. ``to`` is the number of the event that the conversation goes on from
    when it is taken back, ``text`` the user's message, ``events`` are the turn's own. ``start`` is
    the checkpoint before its first change; ``failure`` says why there is none though it made some.
    """

    number: int
    to: int
    time: float
    text: str = ""
    start: Mark | None = None
    end: Mark | None = None
    failure: str = ""
    ended: bool = False
    events: list[Event] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Undone:
    """A rewind that can be reversed: the states before and after it where it restored files."""

    rewind: Rewind
    before: Mark | None
    after: Mark | None
    turns: Sequence[TurnPoint]


@dataclass(frozen=True, slots=True)
class History:
    """``turns`` are those that count, oldest first; ``undone`` is what a redo reverses, the last
    one first to go; ``mark`` is the newest checkpoint on the line of the files. ``pending`` was
    begun and has no end. ``reverted`` are the numbers of the turns of whose work nothing is left
    in the files: it was taken back, or there was none and the turn does not count."""

    turns: Sequence[TurnPoint]
    undone: Sequence[Undone]
    mark: Mark | None
    pending: RewindStarted | None
    reverted: frozenset[int]


Pair = tuple[str, str | None]
"""Two snapshots; None: the files as they are now."""


@dataclass(frozen=True, slots=True)
class Goal:
    """What is to be done. ``turns`` go, or come back with a redo.

    ``mark`` is the checkpoint whose files are wanted, None: none are restored. Restored is only
    what changed between the two snapshots of each pair in ``own``; what changed in a pair of
    ``hands`` was changed by somebody else."""

    what: RewindKind
    target: int
    to: int
    conversation: bool
    turns: Sequence[TurnPoint]
    mark: Mark | None = None
    own: Sequence[Pair] = ()
    hands: Sequence[Pair] = ()
    undoes: int | None = None


def history(events: Sequence[Event]) -> History:
    """Read a session's events, all of them."""
    files = _Files()
    for event in events:
        files.read(event)
    turns = _turns(branch(events), files)
    worked = _worked(files.current)
    kept = {turn.number for turn in turns}
    reverted = frozenset(
        event.turn
        for event in events
        if isinstance(event, TurnStarted)
        and (
            files.starts[event.turn] not in worked
            if event.turn in files.starts
            else event.turn not in kept
        )
    )
    return History(turns, files.undone, files.current, files.pending, reverted)


def undo(known: History) -> Goal:
    """Take back the last turn. Raises CannotUndo."""
    if not known.turns:
        raise CannotUndo("there is no turn to undo")
    return rewind(known, known.turns[-1].number, what="undo")


def rewind(
    known: History,
    number: int,
    *,
    files: bool = True,
    conversation: bool = True,
    what: RewindKind = "rewind",
) -> Goal:
    """Go back to before the turn with this number. Raises CannotUndo."""
    numbers = [turn.number for turn in known.turns]
    if number not in numbers:
        there = f"; there are {_ranges(numbers)}" if numbers else ": there is none"
        raise CannotUndo(f"there is no turn {number} to go back to{there}")
    gone = known.turns[numbers.index(number) :]
    worked = _worked(known.mark) if files else []
    begun = [turn.start for turn in gone if turn.start in worked]
    own: list[Pair] = []
    hands: list[Pair] = []
    if begun:
        _split(known.mark, begun[0], own, hands)
    return Goal(
        what, number, gone[0].to, conversation, gone, begun[0] if begun else None, own, hands
    )


def redo(known: History) -> Goal:
    """Bring back what was taken back last. Raises CannotUndo."""
    if not known.undone:
        raise CannotUndo("there is nothing to redo: nothing was undone since the last message")
    last = known.undone[-1]
    own: list[Pair] = []
    hands: list[Pair] = []
    if last.before and last.after:
        own.append((last.after.snapshot, last.before.snapshot))
        ignored: list[Pair] = []
        _split(known.mark, last.after, ignored, hands)
    done = last.rewind
    return Goal(
        "redo",
        done.target,
        done.seq - 1,
        done.conversation,
        last.turns,
        last.before if own else None,
        own,
        hands,
        done.seq,
    )


def again(events: Sequence[Event], begun: RewindStarted) -> Goal:
    """The goal of a rewind that was begun. Raises CannotUndo when its beginning is not to be
    found."""
    known = history([event for event in events if event.seq < begun.seq])
    if begun.what == "redo":
        return redo(known)
    return rewind(known, begun.target, conversation=begun.conversation, what=begun.what)


class _Files:
    """Reads the line of the files, and what was taken back."""

    def __init__(self) -> None:
        self.current: Mark | None = None
        self.undone: list[Undone] = []
        self.pending: RewindStarted | None = None
        self.starts: dict[int, Mark] = {}
        self.ends: dict[int, Mark] = {}
        self.failures: dict[int, str] = {}
        self._marks: dict[int, Mark] = {}
        self._before: Mark | None = None
        self._after: Checkpoint | None = None
        self._seen: list[Event] = []

    def read(self, event: Event) -> None:
        match event:
            case Checkpoint():
                self._checkpoint(event)
            case RewindStarted():
                self.pending = event
            case Rewind():
                self._rewind(event)
            case TurnStarted():
                self.undone.clear()
                self.pending = None
            case Notice() | Title():
                pass
            case _:
                # Whatever goes on after it has given the rewind up.
                self.pending = None
        self._seen.append(event)

    def _checkpoint(self, event: Checkpoint) -> None:
        if not event.snapshot:
            if event.moment == "turn_start":
                self.failures[event.turn] = event.failure or "no snapshot was made"
            return
        if event.moment == "after_undo":
            self._after = event
            return
        former = self.current
        mark = Mark(event.seq, event.snapshot, former, former is not None and former.open)
        if event.moment == "turn_start":
            mark.open = True
            self.starts[event.turn] = mark
        elif event.moment == "turn_end":
            self.ends[event.turn] = mark
        else:
            self._before = mark
        self._marks[event.seq] = self.current = mark

    def _rewind(self, event: Rewind) -> None:
        after = None
        if event.files and self._after and (reached := self._marks.get(event.checkpoint)):
            after = Mark(self._after.seq, self._after.snapshot, reached)
            self._marks[after.seq] = self.current = after
        if event.what == "redo":
            self.undone = [one for one in self.undone if one.rewind.seq != event.undoes]
        elif event.conversation or event.files:
            turns = _turns(branch(self._seen), self)
            gone = [turn for turn in turns if turn.number >= event.target]
            self.undone.append(Undone(event, self._before if after else None, after, gone))
        self.pending = self._before = self._after = None


def _turns(events: Sequence[Event], files: _Files) -> list[TurnPoint]:
    turns: list[TurnPoint] = []
    before = 0
    for event in events:
        if isinstance(event, TurnStarted):
            turns.append(
                TurnPoint(
                    event.turn,
                    before,
                    event.time,
                    start=files.starts.get(event.turn),
                    end=files.ends.get(event.turn),
                    failure=files.failures.get(event.turn, ""),
                )
            )
        before = event.seq
        if turns and event.turn == turns[-1].number and not turns[-1].ended:
            turn = turns[-1]
            turn.events.append(event)
            if isinstance(event, UserMessage) and event.origin == "user" and not turn.text:
                turn.text = _text(event)
            turn.ended = isinstance(event, TurnEnded)
    return turns


def _worked(mark: Mark | None) -> list[Mark]:
    """The beginnings of the turns whose work is in the files."""
    if mark is None:
        return []
    ended = [one.parent for one in mark.way() if one.by_turn and one.parent]
    return [mark, *ended] if mark.open else ended


def _split(mark: Mark | None, upto: Mark, own: list[Pair], hands: list[Pair]) -> None:
    """Sort what lies between a checkpoint and now into the work of turns and that of hands."""
    later: str | None = None
    by_turn = mark is not None and mark.open
    for one in mark.way() if mark else ():
        (own if by_turn else hands).append((one.snapshot, later))
        if one is upto:
            return
        later, by_turn = one.snapshot, one.by_turn


def _text(event: UserMessage) -> str:
    return "".join(p.text if isinstance(p, TextPart) else _named(p) for p in event.parts)


def _named(part: MediaPart) -> str:
    return f"[{part.kind}]"


def _ranges(numbers: Sequence[int]) -> str:
    """``1, 3 to 5``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
