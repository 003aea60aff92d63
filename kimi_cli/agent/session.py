"""A session: operations in, one ordered stream of events out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Protocol, Self

from kimi_cli.agent.attended import Attended
from kimi_cli.agent.branch import branch, touches
from kimi_cli.agent.budget import Budget, cost_of
from kimi_cli.agent.checkpoints import Checkpoints
from kimi_cli.agent.compactor import Compactor, NoteRefused, Rules
from kimi_cli.agent.host import Leave, Wish
from kimi_cli.agent.loop import Check, Turn
from kimi_cli.agent.news import News
from kimi_cli.agent.opening import OpeningLog
from kimi_cli.agent.questions import OnAsk, Questions
from kimi_cli.agent.record import Record
from kimi_cli.agent.spent import spent
from kimi_cli.agent.stop import StopTurn
from kimi_cli.agent.toolbox import STOPPED_BY_SANDBOX, Toolbox
from kimi_cli.model.catalogue import Price
from kimi_cli.model.errors import REMEDIES
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Compaction,
    Notice,
    Rewind,
    ToolResult,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import ContentPart, TextPart, ToolCallPart, Usage
from kimi_cli.protocol.operations import Answer, Compact, Interrupt, Operation, Say, Steer
from kimi_cli.protocol.provider import Completed, ModelError, ModelRequest, Provider
from kimi_cli.protocol.stops import StopReason
from kimi_cli.protocol.tools import ToolSchema
from kimi_cli.protocol.workspace import FileTouch, Workspace
from kimi_cli.store.errors import StoreError
from kimi_cli.store.events_file import read_events
from kimi_cli.store.log import Log

if TYPE_CHECKING:
    from kimi_cli.agent.restoring import Snapshots
    from kimi_cli.agent.rewinding import Rewinder

log = logging.getLogger(__name__)


class ClosableWorkspace(Workspace, Protocol):
    async def close(self) -> list[str]:
        """End every command; returns a line for each background task that was still running."""
        ...


class Session:
    """One conversation over one workspace. It keeps no global state, so several may live in one
    process. Use :func:`kimi_cli.agent.open_session` to make one."""

    def __init__(
        self,
        *,
        log: Log,
        provider: Provider,
        toolbox: Toolbox,
        tools: Sequence[ToolSchema],
        workspace: ClosableWorkspace,
        budget: Budget,
        price: Price | None,
        on_ask: OnAsk,
        context: Rules,
        snapshots: Callable[[], Snapshots] | None = None,
        saw: Callable[[Iterable[FileTouch]], None] = lambda touches: None,
    ) -> None:
        """``snapshots`` gives those of the workspace, and may block; None: files can't be taken
        back. ``saw`` takes up what the model saw of the
        files, in place of what was known of it."""
        self.provider = provider
        self.toolbox = toolbox
        self.workspace = workspace
        self.budget = budget
        self.price = price
        self.past = Usage()
        self.past_cost: float | None = None
        """What the session used before this run."""
        self.denials: list[dict[str, str]] = []
        """What was refused in this run, for the result: tool, summary and reason."""
        self._log = OpeningLog(log)
        self._tools = tools
        self._record = Record(self._log, provider, tools)
        self._record.subscribe(self._note)
        self._news = News(workspace.processes)
        self._record.subscribe(self._news)
        self._compactor = Compactor(
            self._record, provider, workspace, budget, price, tools, context
        )
        self._snapshots = snapshots
        self._saw = saw
        self._checkpoints = Checkpoints(snapshots, self.record) if snapshots else None
        self._questions = Questions(self._record, on_ask)
        self._queue: asyncio.Queue[Say] = asyncio.Queue()
        self._steering: list[str] = []
        self._work = Attended()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    @property
    def busy(self) -> bool:
        """Whether a turn is running."""
        return self._work.busy

    @property
    def id(self) -> str:
        return self._log.id

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
        self.past, self.past_cost = spent(events)

    def send(self, operation: Operation) -> None:
        """Take an operation of a front end; returns at once."""
        match operation:
            case Interrupt():
                self.interrupt(operation.reason)
            case Steer():
                self._steering.append(operation.text)
            case Answer():
                self._questions.answer(operation)
            case Compact():
                self._compactor.ask(operation.focus)
            case Say():
                self._queue.put_nowait(operation)

    async def serve(self) -> None:
        """Run the queued user messages, one turn each, until cancelled."""
        while True:
            await self.run_turn(await self._queue.get())

    async def run_turn(self, message: Say | str, checks: Sequence[Check] = ()) -> TurnEnded:
        """Run one turn to its end, whatever that is; only cancellation raises.

        ``checks`` judge the final answer; what they say goes back to the model.
        """
        say = Say(text=message) if isinstance(message, str) else message
        return await self._work.run(self._turn(say, checks))

    async def compact(self, focus: str = "") -> Compaction | None:
        """Compact the context now, between turns; None when there is nothing to compact, or when
        it was interrupted. Raises StopTurn when the endpoint or the budget is in the way,
        StoreError."""
        return await self._work.run(self._compact(focus))

    def expire_snapshots(self, days: float) -> None:
        """Drop snapshots of more than ``days`` ago, if this session took any. Blocks; raises
        SnapshotError, OSError."""
        if self._snapshots and self._checkpoints and self._checkpoints.used:
            self._snapshots().expire(days)

    async def rewinder(self) -> Rewinder:
        """What takes turns back and brings them back, between turns. It reads the stored session
        anew, so use it for one rewind. Raises StoreError."""
        from kimi_cli.agent.rewinding import Rewinder

        events = await asyncio.to_thread(read_events, self._log.path)
        snapshots = await asyncio.to_thread(self._snapshots) if self._snapshots else None
        return Rewinder(events.events, snapshots, self._rewound, self._log.sync)

    def interrupt(self, reason: StopReason = StopReason.INTERRUPTED) -> None:
        """End the running turn or compaction now; nothing happens when none runs."""
        self._work.stop(reason)

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
        await self.provider.close()

    # What the loop and the toolbox ask of their session.

    def record(self, event: Event) -> None:
        self._record.add(event)

    def show(self, event: Event) -> None:
        self._record.show(event)

    async def settle(self) -> None:
        if self._checkpoints:
            await self._checkpoints.before_change()
        await self._log.sync()

    def request(self) -> ModelRequest:
        record = self._record
        return ModelRequest(
            record.messages, self._tools, self._compactor.cap(), new_tokens=record.meter.uncached
        )

    async def make_room(self, book: Callable[[Usage], None]) -> None:
        await self._compactor.make_room(book)

    async def after_refusal(self, error: ModelError, book: Callable[[Usage], None]) -> bool:
        return await self._compactor.after_refusal(error, book)

    def usage_ahead(self) -> Usage:
        return self._record.ahead()

    def usage_of(self, reply: Completed) -> Usage:
        self._compactor.accepted()
        used = self._record.used(reply)
        if used is reply.usage:
            self._record.meter.measure(used)
        return used

    def begin_step(self) -> None:
        self._record.at.step += 1

    def take_steering(self) -> list[str]:
        messages, self._steering = self._steering, []
        return messages

    def take_news(self) -> list[str]:
        return self._news.take()

    def stop_for(self, error: ModelError) -> StopTurn:
        remedy = REMEDIES[error.kind]
        return StopTurn(remedy.stop, f"{error.message.rstrip('.')}. {remedy.advice}", error)

    async def ask(self, call: ToolCallPart, wish: Wish) -> Leave:
        return await self._questions.ask(call, wish)

    async def _turn(self, say: Say, checks: Sequence[Check]) -> TurnEnded:
        begun = time.monotonic()
        self._record.at.turn += 1
        self._record.at.step = 0
        turn = Turn(self, checks)
        reason, detail = StopReason.DONE, ""
        try:
            self._work.begin()
            self.record(TurnStarted(currency=self._currency))
            self.record(UserMessage(parts=_parts(say)))
            self._work.check()
            if self._checkpoints:
                self._checkpoints.begin()
            async with asyncio.timeout(self.budget.seconds_left):
                await turn.run()
                await self._compactor.if_asked(turn.spend)
        except StopTurn as stop:
            reason, detail = stop.reason, stop.detail
        except NoteRefused as refused:
            ending = self.stop_for(refused.error)
            reason, detail = ending.reason, ending.detail
        except TimeoutError:
            reason, detail = StopReason.TIME_LIMIT, "the time limit is reached"
        except asyncio.CancelledError:
            reason = self._work.stopped or StopReason.INTERRUPTED
        except StoreError as error:
            reason, detail = StopReason.STORE_FAILED, str(error)
        except Exception as error:
            log.exception("the turn failed")
            reason, detail = StopReason.INTERNAL, f"{type(error).__name__}: {error}"
        if self._checkpoints:
            with contextlib.suppress(StoreError):
                await self._checkpoints.end(hurry=self._work.stopped is not None)
        self._work.end()
        ended = TurnEnded(
            reason=reason,
            detail=detail,
            answer=turn.answer,
            usage=turn.usage,
            cost=turn.cost,
            currency=self._currency,
            steps=turn.steps,
            seconds=round(time.monotonic() - begun, 3),
        )
        await self._end(ended)
        return ended

    async def _compact(self, focus: str) -> Compaction | None:
        self._work.begin()
        try:
            self._work.check()
            async with asyncio.timeout(self.budget.seconds_left):
                return await self._compactor.compact("manual", self._book, focus)
        except TimeoutError:
            raise StopTurn(StopReason.TIME_LIMIT, "the time limit is reached") from None
        except NoteRefused as refused:
            raise self.stop_for(refused.error) from None
        except asyncio.CancelledError:
            return None
        finally:
            self._work.end()

    async def _end(self, ended: TurnEnded) -> None:
        """Record the end; when even that can't be written, it is at least shown, and a turn that
        was done is not."""
        try:
            self.record(ended)
            await self._log.sync()
        except StoreError as error:
            if ended.reason is StopReason.DONE:
                ended.reason, ended.detail = StopReason.STORE_FAILED, str(error)
            self.show(ended)

    @property
    def _currency(self) -> str | None:
        return self.price.currency if self.price else None

    def _book(self, usage: Usage) -> None:
        self.budget.spend(usage, cost_of(self.price, usage) if self.price else None)

    def _rewound(self, event: Event) -> None:
        self.record(event)
        if isinstance(event, Rewind) and event.conversation:
            # What the model saw on another branch it does not know of here.
            self._saw(touches(branch(read_events(self._log.path).events)))

    def _note(self, event: Event) -> None:
        if not isinstance(event, ToolResult):
            return
        why = event.data.get(STOPPED_BY_SANDBOX)
        if event.status == "denied":
            why = "".join(p.text for p in event.parts if isinstance(p, TextPart))
        if why:
            self.denials.append({"tool": event.name, "summary": event.summary, "reason": why})


def _parts(say: Say) -> list[ContentPart]:
    text: list[ContentPart] = [TextPart(text=say.text)] if say.text else []
    return text + list(say.parts)
