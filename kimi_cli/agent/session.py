"""A session: operations in, one ordered stream of events out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Self

from kimi_cli.agent.branch import branch, touches
from kimi_cli.agent.spent import spent
from kimi_cli.agent.turn_host import Parts
from kimi_cli.agent.turn_runner import TurnRunner
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Aside,
    ModeChanged,
    Notice,
    Rewind,
    Title,
)
from kimi_cli.protocol.live import ToolOutputDelta
from kimi_cli.protocol.messages import Usage
from kimi_cli.protocol.modes import Mode
from kimi_cli.protocol.operations import (
    Answer,
    Background,
    BetweenTurns,
    Compact,
    Interrupt,
    Operation,
    Redo,
    Rename,
    Say,
    SetMode,
    SetModel,
    Steer,
    Undo,
)
from kimi_cli.protocol.stops import StopReason
from kimi_cli.store.errors import StoreError
from kimi_cli.store.events_file import read_events

if TYPE_CHECKING:
    from kimi_cli.agent.rewinding import Done, Rewinder
    from kimi_cli.agent.undo import Goal, History
    from kimi_cli.agent.user_command import UserCommand, UserCommands
    from kimi_cli.safety.rules import RuleSet


class Session(TurnRunner):
    """One conversation over one workspace. It keeps no global state, so several may live in one
    process. Use :func:`kimi_cli.agent.open_session` to make one."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self.past = Usage()
        self.past_cost: float | None = None
        """What the session used before this run."""
        self._snapshots = parts.snapshots
        self._saw = parts.saw
        self._queue: asyncio.Queue[Say | BetweenTurns] = asyncio.Queue()
        self._user_commands: UserCommands | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    @property
    def id(self) -> str:
        return self._log.id

    @property
    def mode(self) -> Mode:
        return self._policy.mode

    def fullness(self) -> float | None:
        """The share of the context window that the next request would take; None: not known."""
        window = self._compactor.known_window
        return self._record.meter.total / window if window else None

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` with every event from now on, in order. It must not block."""
        self._record.subscribe(listener)

    def restore(self, events: Sequence[Event]) -> None:
        """Go on after ``events``, the stored history of this session."""
        self._record.restore(events)
        self._mode_news.restore(branch(events))
        self.past, self.past_cost = spent(events)

    def send(self, operation: Operation) -> None:
        """Take an operation of a front end; returns at once. Raises StoreError."""
        match operation:
            case Interrupt():
                self.interrupt(operation.reason)
            case Steer():
                self.steering.append(operation.text)
            case Answer():
                self._questions.answer(operation)
            case Compact():
                self._compactor.ask(operation.focus)
            case SetMode():
                self.set_mode(operation.mode)
            case Background():
                self.background()
            case Rename():
                self.rename(operation.text)
            case Say() | SetModel() | Undo() | Redo():
                self._queue.put_nowait(operation)

    async def serve(self) -> None:
        """Carry out what is queued until cancelled: a turn for each message, and in their order
        what waits for the end of a turn. What goes wrong with that is an error notice."""
        from kimi_cli.agent.between import carry_out

        while True:
            operation = await self._queue.get()
            if isinstance(operation, Say):
                await self.run_turn(operation)
            else:
                await carry_out(self, operation)

    def undelivered(self) -> list[str]:
        """The steering that did not reach the model, for whoever typed it; it is not delivered any
        more. To be asked for when a turn has ended."""
        waiting, self.steering = self.steering, []
        return waiting

    def use_rules(self, rules: RuleSet) -> None:
        """Go by these rules from the next call on; answers given in this session stay."""
        self._policy.use_rules(rules)

    def set_mode(self, mode: Mode) -> None:
        """Work in another mode from the next call on; the model hears of it before its next step.
        Raises StoreError, and then the mode is what it was."""
        former = self.mode
        if mode == former:
            return
        self._policy.mode = mode
        try:
            self.record(ModeChanged(mode=mode))
        except StoreError:
            self._policy.mode = former
            raise

    def background(self) -> list[str]:
        """Let the commands that are waited for run on in the background: their calls end now.
        Returns the ids of those that were moved."""
        return [task.id for task in self.workspace.processes.move_to_background()]

    async def run_user_command(self, command: str, *, call_id: str = "user") -> UserCommand:
        """Run a command for the user, in the workspace's folder and outside the sandbox, also while
        a turn runs. Its output is shown as that of the call ``call_id``. It ends early when it is
        interrupted (between turns), moved to the background or, with the command, cancelled.
        Raises OSError when it can't be started."""
        if self._user_commands is None:
            from kimi_cli.agent.user_command import UserCommands

            self._user_commands = UserCommands(self.workspace.processes, self.workspace.root)

        def show(text: str) -> None:
            self.show(ToolOutputDelta(call_id=call_id, text=text))

        return await self._user_commands.run(command, show)

    def offer(self, text: str) -> None:
        """Let the model know something, without a turn of its own: while a turn runs before its
        next step. Raises StoreError."""
        self._offers.append(self.toolbox.redacted(text))
        if not self.busy:
            self._record_offers()

    async def aside(self, question: str, show: Callable[[str], None] = lambda text: None) -> Aside:
        """Ask the model beside the work, also while a turn runs: neither the question nor the
        answer is part of the context. ``show`` gets the answer as far as it has come, each time
        more of it has. Raises StopTurn when the endpoint or the budget is in the way, StoreError;
        cancel it to stop it."""
        from kimi_cli.agent.aside import Asker, NoAnswer

        asker = Asker(
            self._record,
            self.provider,
            self._tools,
            self.budget,
            self.price,
            self._compactor.window,
        )
        try:
            return await asker.ask(question, show)
        except NoAnswer as failed:
            raise self.stop_for(failed.error) from None

    def rename(self, title: str) -> None:
        """Give the session a title. Raises StoreError."""
        self.record(Title(text=title))

    async def undo(self, *, force: bool = False) -> Done:
        """Take the last turn back, files and conversation. Raises CannotUndo, and its EditedSince
        where that would write over what somebody else has changed and ``force`` is not given;
        StoreError."""
        from kimi_cli.agent.undo import undo

        return await self._rewind(undo, force)

    async def redo(self, *, force: bool = False) -> Done:
        """Bring back what was taken back last. Raises as ``undo``."""
        from kimi_cli.agent.undo import redo

        return await self._rewind(redo, force)

    async def rewinder(self) -> Rewinder:
        """What takes turns back and brings them back, between turns. It reads the stored session
        anew, so use it for one rewind. Raises CannotUndo when the session is not stored,
        StoreError."""
        from kimi_cli.agent.rewinding import Rewinder
        from kimi_cli.agent.undo import CannotUndo

        try:
            events = await asyncio.to_thread(read_events, self._log.path)
        except StoreError as error:
            if error.errno == errno.ENOENT:
                raise CannotUndo("this session is not kept") from None
            raise
        snapshots = await asyncio.to_thread(self._snapshots) if self._snapshots else None
        return Rewinder(events.events, snapshots, self._rewound, self._log.sync)

    def expire_snapshots(self, days: float) -> None:
        """Drop snapshots of more than ``days`` ago, if this session took any. Blocks; raises
        SnapshotError, OSError."""
        if self._snapshots and self._checkpoints and self._checkpoints.used:
            self._snapshots().expire(days)

    def interrupt(self, reason: StopReason = StopReason.INTERRUPTED) -> None:
        """End the running turn or compaction now; where there is none, the user's own commands."""
        if self.busy:
            self._work.stop(reason)
        elif self._user_commands:
            self._user_commands.stop()

    def interrupt_next(self, reason: StopReason = StopReason.INTERRUPTED) -> None:
        """End the next turn as soon as it has begun: its message has come but waits yet."""
        self._work.stop_next(reason)

    async def close(self) -> None:
        """End commands, report the background tasks that were stopped, close everything."""
        for line in await self.workspace.close():
            with contextlib.suppress(StoreError):
                self.record(Notice(text=line))
        with contextlib.suppress(StoreError):
            await self._log.sync()
        self._log.close()
        for provider in (*self._former, self.provider):
            await provider.close()

    async def _rewind(self, choose: Callable[[History], Goal], force: bool) -> Done:
        from kimi_cli.agent.undo import CannotUndo

        if self.busy:
            raise CannotUndo("a turn is running")

        async def work() -> Done:
            rewinder = await self.rewinder()
            goal = choose(rewinder.history)
            preview = await rewinder.preview(goal)
            if preview.problem:
                raise CannotUndo(f"the files can't be restored: {preview.problem}")
            return await rewinder.carry_out(goal, force=force)

        return await self._attend(work())

    def _rewound(self, event: Event) -> None:
        self.record(event)
        if isinstance(event, Rewind) and event.conversation:
            # What the model saw on another branch it does not know of here.
            now = branch(read_events(self._log.path).events)
            self._saw(touches(now))
            self._mode_news.restore(now)
