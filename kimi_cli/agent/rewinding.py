"""Takes turns back and brings them back: files first, the conversation after them.

What is about to happen is on disk before the first file is touched, and that it has happened is
written when the last one is. Whatever ends the program in between, the next one to open the session
knows what was wanted, and completes it. Only files that turns changed are restored; one that
somebody else has changed since is not written over unless that is forced.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kimi_cli.agent import undo
from kimi_cli.agent.branch import touches
from kimi_cli.agent.checkpoints import checkpoint
from kimi_cli.agent.restoring import (
    FileChange,
    Snapshots,
    Way,
    changed,
    counted,
    put_back,
    rest_of,
    way_to,
)
from kimi_cli.agent.undo import CannotUndo, Goal, History, TurnPoint
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Notice, Rewind, RewindStarted, UserMessage
from kimi_cli.protocol.messages import TextPart
from kimi_cli.workspace.snapshots.model import HeadMoved, LeftOut, SnapshotError

BACK = (
    "[The user has put back the files that you changed since they wrote: {text}\n"
    "They are now as they were before that. Read a file again before you rely on it.]"
)
FORTH = "[The user has put the files back as you had left them. Read a file again before you edit.]"
WORDS = 200


class EditedSince(CannotUndo):
    """Files would be written over that somebody else changed since; ``paths`` are those."""

    def __init__(self, paths: Sequence[Path]) -> None:
        super().__init__("files were edited since")
        self.paths = paths


@dataclass(frozen=True, slots=True)
class Preview:
    """What a goal comes to. ``changes`` lead from the files as they are to those wanted;
    ``edited`` are those of them that somebody else has changed since. ``left`` stay as they are
    though a turn changed them, with the reason, ``heads`` are repositories that stand on another
    commit now. ``problem`` says why files that should be restored can't be."""

    goal: Goal
    changes: Sequence[FileChange] = ()
    edited: Sequence[Path] = ()
    left: Sequence[LeftOut] = ()
    heads: Sequence[HeadMoved] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """What was done. ``failed`` are files that could not be restored, and why; ``edited`` are those
    that were left because somebody else had changed them."""

    rewind: Rewind
    changes: Sequence[FileChange] = ()
    failed: Sequence[tuple[Path, str]] = ()
    edited: Sequence[Path] = ()


class Rewinder:
    """For one session, which must not change meanwhile.

    ``events`` are all of it. ``record`` stores an event, numbered; ``sync`` returns when what was
    recorded is on the disk. ``snapshots`` None: files can't be restored.
    """

    def __init__(
        self,
        events: Sequence[Event],
        snapshots: Snapshots | None,
        record: Callable[[Event], None],
        sync: Callable[[], Awaitable[None]],
    ) -> None:
        self._events = list(events)
        self._snapshots = snapshots
        self._record = record
        self._sync = sync

    @property
    def history(self) -> History:
        return undo.history(self._events)

    async def files_of(self, turn: TurnPoint) -> set[Path]:
        """The files that a turn changed: by what the snapshots say, where there are two of it, else
        by what its file tools said."""
        told = {Path(t.path) for t in touches(turn.events) if t.action != "read"}
        if self._snapshots is None or turn.start is None or turn.end is None:
            return told
        pair = (turn.start.snapshot, turn.end.snapshot)
        try:
            return await asyncio.to_thread(changed, self._snapshots, [pair], "")
        except (SnapshotError, OSError):
            return told

    async def preview(self, goal: Goal) -> Preview:
        """What would be done."""
        if goal.mark is None:
            return Preview(goal)
        if self._snapshots is None:
            return Preview(goal, problem="snapshots are switched off")
        try:
            return await asyncio.to_thread(_preview, self._snapshots, goal)
        except (SnapshotError, OSError) as error:
            return Preview(goal, problem=str(error))

    async def carry_out(self, goal: Goal, *, force: bool = False) -> Done:
        """Do it. Raises EditedSince unless ``force``, CannotUndo when there is nothing to do or the
        files can't be looked at, and then nothing was changed; StoreError, and then it is completed
        when the session is opened again."""
        if goal.mark is None or self._snapshots is None:
            return await self._unchanged(goal)
        try:
            way = await asyncio.to_thread(way_to, self._snapshots, goal)
            before = await asyncio.to_thread(self._snapshots.get, way.now)
        except (SnapshotError, OSError) as error:
            raise CannotUndo(f"the files can't be restored: {error}") from error
        if way.edited and not force:
            raise EditedSince(way.edited)
        if not way.changes:
            return await self._unchanged(goal)
        self._add(checkpoint(before, "before_undo"))
        self._add(
            RewindStarted(
                what=goal.what,
                target=goal.target,
                to=goal.to,
                conversation=goal.conversation,
                checkpoint=goal.mark.seq,
                undoes=goal.undoes,
                before=way.now,
                forced=force,
            )
        )
        await self._sync()
        try:
            return await self._restore(goal, way)
        except (SnapshotError, OSError) as error:
            # It stays begun: whoever opens the session next tries again.
            raise CannotUndo(f"the files could not be restored: {error}") from error

    async def finish(self) -> Done | None:
        """Complete what was begun and cut short, if anything was. A file that was changed since
        then stays as it is. Raises CannotUndo when that is impossible: it is given up then, and
        the files are as they are; StoreError."""
        begun = self.history.pending
        if begun is None:
            return None
        try:
            if self._snapshots is None:
                raise CannotUndo("snapshots are switched off")
            goal = undo.again(self._events, begun)
            way = await asyncio.to_thread(rest_of, self._snapshots, goal, begun.before)
            done = await self._restore(goal, way)
        except (SnapshotError, OSError, CannotUndo) as error:
            self._add(Rewind(to=begun.seq, what=begun.what, conversation=False))
            await self._sync()
            raise CannotUndo(f"it can't be completed: {error}") from error
        self._add(Notice(text=f"{begun.what} was cut short before, and is complete now"))
        await self._sync()
        return done

    async def _restore(self, goal: Goal, way: Way) -> Done:
        assert self._snapshots is not None and goal.mark is not None
        restored, changes, after = await asyncio.to_thread(
            put_back, self._snapshots, goal.mark.snapshot, way
        )
        self._add(checkpoint(after, "after_undo"))
        failed = [(one.path, one.reason) for one in restored.failed]
        edited = way.edited if way.late else ()
        return await self._end(goal, changes, failed, edited, files=True)

    async def _unchanged(self, goal: Goal) -> Done:
        """The end of what changes no file."""
        if not goal.conversation:
            raise CannotUndo("there is no file to restore")
        return await self._end(goal, ())

    async def _end(
        self,
        goal: Goal,
        changes: Sequence[FileChange],
        failed: Sequence[tuple[Path, str]] = (),
        edited: Sequence[Path] = (),
        *,
        files: bool = False,
    ) -> Done:
        rewind = Rewind(
            to=goal.to,
            what=goal.what,
            target=goal.target,
            conversation=goal.conversation,
            files=files,
            checkpoint=goal.mark.seq if goal.mark and files else 0,
            undoes=goal.undoes,
            restored=len(changes),
        )
        if not rewind.conversation:
            rewind.to = self._events[-1].seq
        self._add(rewind)
        if files and not goal.conversation:
            # The model would take its work for done.
            text = FORTH if goal.what == "redo" else BACK.format(text=_words(goal))
            self._add(UserMessage(origin="program", parts=[TextPart(text=text)]))
        await self._sync()
        return Done(rewind, changes, failed, edited)

    def _add(self, event: Event) -> None:
        self._record(event)
        self._events.append(event)


def _words(goal: Goal) -> str:
    text = " ".join(goal.turns[0].text.split()) if goal.turns else ""
    return f"{text[:WORDS]}…" if len(text) > WORDS else text


def _preview(snapshots: Snapshots, goal: Goal) -> Preview:
    way = way_to(snapshots, goal)
    changes = counted(snapshots, way.changes)
    return Preview(goal, changes, way.edited, way.left, way.heads)
