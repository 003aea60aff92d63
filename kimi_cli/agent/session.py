"""A session: operations in, one ordered stream of events out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, Self

from kimi_cli.agent.budget import Budget
from kimi_cli.agent.loop import Check, Turn
from kimi_cli.agent.projection import Mended, Projection
from kimi_cli.agent.stop import StopTurn
from kimi_cli.agent.toolbox import Toolbox
from kimi_cli.model.catalogue import Price
from kimi_cli.model.errors import REMEDIES
from kimi_cli.model.tokens import TokenMeter, estimate
from kimi_cli.protocol.events import (
    AssistantMessage,
    Event,
    Notice,
    QuestionAnswered,
    QuestionAsked,
    Repair,
    ToolResult,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import ContentPart, TextPart, ToolCallPart, Usage
from kimi_cli.protocol.operations import Answer, Interrupt, Operation, Say, Steer
from kimi_cli.protocol.provider import Completed, ModelError, ModelRequest, Provider
from kimi_cli.protocol.stops import StopReason
from kimi_cli.protocol.tools import ToolSchema
from kimi_cli.protocol.workspace import Workspace
from kimi_cli.store.errors import StoreError
from kimi_cli.store.log import Log

log = logging.getLogger(__name__)

OnAsk = Literal["deny", "fail", "wait"]


class ClosableWorkspace(Workspace, Protocol):
    async def close(self) -> list[str]:
        """End every command; returns a line for each background task that was still running."""
        ...


@dataclass(slots=True)
class Position:
    """Where a session stands: the numbers the next event gets."""

    seq: int = 0
    turn: int = 0
    step: int = 0


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
    ) -> None:
        self.provider = provider
        self.toolbox = toolbox
        self.workspace = workspace
        self.budget = budget
        self.price = price
        self.denials: list[dict[str, str]] = []
        """What was refused in this run, for the result: tool, summary and reason."""
        self._log = log
        self._tools = tools
        self._on_ask = on_ask
        self._projection = Projection(provider.encoder())
        self._meter = TokenMeter()
        self._at = Position()
        self._listeners: list[Callable[[Event], None]] = []
        self._queue: asyncio.Queue[Say] = asyncio.Queue()
        self._steering: list[str] = []
        self._known_ends: set[str] = set()
        self._questions: dict[str, asyncio.Future[Answer]] = {}
        self._running: asyncio.Task[TurnEnded] | None = None
        self._interrupted: StopReason | None = None
        self._in_turn = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    @property
    def busy(self) -> bool:
        """Whether a turn is running."""
        return self._running is not None and not self._running.done()

    @property
    def id(self) -> str:
        return self._log.id

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        """Call ``listener`` with every event from now on, in order. It must not block."""
        self._listeners.append(listener)

    def restore(self, events: Sequence[Event]) -> None:
        """Go on after ``events``, the stored history of this session."""
        for event in events:
            self._project(event)
            if isinstance(event, AssistantMessage) and event.usage:
                self._meter.measure(event.usage)
            self._at.turn = max(self._at.turn, event.turn)
            self._at.seq = max(self._at.seq, event.seq)

    def send(self, operation: Operation) -> None:
        """Take an operation of a front end; returns at once."""
        match operation:
            case Interrupt():
                self.interrupt(operation.reason)
            case Steer():
                self._steering.append(operation.text)
            case Answer():
                waiting = self._questions.get(operation.question_id)
                if waiting and not waiting.done():
                    waiting.set_result(operation)
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
        self._interrupted = None
        self._running = asyncio.create_task(self._turn(say, checks))
        try:
            return await asyncio.shield(self._running)
        except asyncio.CancelledError:
            self._running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._running
            raise
        finally:
            self._running = None

    def interrupt(self, reason: StopReason = StopReason.INTERRUPTED) -> None:
        """End the running turn now; nothing happens when none runs."""
        if self._running and not self._running.done() and self._interrupted is None:
            self._interrupted = reason
            if self._in_turn:
                self._running.cancel()

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
        self._at.seq += 1
        event.parent = self._at.seq - 1
        self._stamp(event)
        try:
            self._log.append(event)
        except StoreError:
            self._at.seq -= 1
            raise
        if isinstance(event, ToolResult):
            self._note(event)
        mended = self._project(event)
        self._publish(event)
        for repair in mended:
            self.record(Repair(kind=repair.kind, call_id=repair.call_id, detail=repair.detail))

    def show(self, event: Event) -> None:
        self._stamp(event)
        self._publish(event)

    async def settle(self) -> None:
        await self._log.sync()

    def request(self) -> ModelRequest:
        return ModelRequest(
            tuple(self._projection.messages), self._tools, new_tokens=self._meter.new
        )

    def usage_ahead(self) -> Usage:
        whole = self._meter.total
        return Usage(input_tokens=whole, cached_tokens=whole - self._meter.new)

    def usage_of(self, reply: Completed) -> Usage:
        if reply.usage is None:
            said = sum(estimate(part.model_dump_json()) for part in reply.parts)
            return Usage(input_tokens=self._meter.total, output_tokens=said)
        self._meter.measure(reply.usage)
        return reply.usage

    def begin_step(self) -> None:
        self._at.step += 1

    def take_steering(self) -> list[str]:
        messages, self._steering = self._steering, []
        return messages

    def take_news(self) -> list[str]:
        """Background tasks that ended without the model having seen it."""
        news = []
        for task in self.workspace.processes.tasks():
            if task.result is not None and task.id not in self._known_ends:
                self._known_ends.add(task.id)
                code = task.result.code
                how = "was killed" if code is None else f"ended with exit status {code}"
                news.append(f"Background task {task.id} {how} after {task.seconds:.0f} s.")
        return news

    def stop_for(self, error: ModelError) -> StopTurn:
        remedy = REMEDIES[error.kind]
        return StopTurn(remedy.stop, f"{error.message.rstrip('.')}. {remedy.advice}")

    async def ask(self, call: ToolCallPart, text: str, reason: str) -> tuple[bool, str]:
        question = f"q{self._at.seq + 1}"
        self.record(
            QuestionAsked(
                question_id=question,
                call_id=call.id,
                tool=call.name,
                text=text,
                reason=reason,
                choices=["once", "no"],
            )
        )
        if self._on_ask == "fail":
            self.record(QuestionAnswered(question_id=question, answer="no", by="policy"))
            raise StopTurn(StopReason.QUESTION, f"{text}: {reason}")
        if self._on_ask == "deny":
            self.record(QuestionAnswered(question_id=question, answer="no", by="policy"))
            return False, (
                f"Denied: {reason}, and nobody is there to ask. Do not try the same by other "
                "means; do what can be done without it and say what could not."
            )
        try:
            answer = await self._wait_for_answer(question)
        except asyncio.CancelledError:
            self.record(QuestionAnswered(question_id=question, answer="no", by="policy"))
            raise
        self.record(
            QuestionAnswered(question_id=question, answer=answer.answer, comment=answer.comment)
        )
        words = f"The user said no. {answer.comment}".strip()
        return answer.answer == "once", words

    async def _wait_for_answer(self, question: str) -> Answer:
        waiting: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._questions[question] = waiting
        try:
            return await waiting
        finally:
            del self._questions[question]

    async def _turn(self, say: Say, checks: Sequence[Check]) -> TurnEnded:
        begun = time.monotonic()
        self._at.turn += 1
        self._at.step = 0
        turn = Turn(self, checks)
        reason, detail = StopReason.DONE, ""
        try:
            # A task cancelled before its first line never runs a handler: see interrupt().
            self._in_turn = True
            if self._interrupted:
                raise asyncio.CancelledError
            self.record(TurnStarted())
            self.record(UserMessage(parts=_parts(say)))
            async with asyncio.timeout(self.budget.seconds_left):
                await turn.run()
        except StopTurn as stop:
            reason, detail = stop.reason, stop.detail
        except TimeoutError:
            reason, detail = StopReason.TIME_LIMIT, "the time limit is reached"
        except asyncio.CancelledError:
            reason = self._interrupted or StopReason.INTERRUPTED
        except StoreError as error:
            reason, detail = StopReason.STORE_FAILED, str(error)
        except Exception as error:
            log.exception("the turn failed")
            reason, detail = StopReason.INTERNAL, f"{type(error).__name__}: {error}"
        self._in_turn = False
        ended = TurnEnded(
            reason=reason,
            detail=detail,
            answer=turn.answer,
            usage=turn.usage,
            cost=turn.cost,
            currency=self.price.currency if self.price else None,
            steps=turn.steps,
            seconds=round(time.monotonic() - begun, 3),
        )
        await self._end(ended)
        return ended

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

    def _project(self, event: Event) -> list[Mended]:
        before = len(self._projection.messages)
        mended = self._projection.feed(event)
        if not (isinstance(event, AssistantMessage) and event.usage):
            for message in self._projection.messages[before:]:
                self._meter.add(message)
        return mended

    def _stamp(self, event: Event) -> None:
        event.session = self._log.id
        event.turn = self._at.turn
        event.step = self._at.step
        event.seq = self._at.seq
        event.time = round(time.time(), 3)

    def _publish(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)

    def _note(self, event: ToolResult) -> None:
        if event.status == "denied":
            text = "".join(p.text for p in event.parts if isinstance(p, TextPart))
            self.denials.append({"tool": event.name, "summary": event.summary, "reason": text})
        if event.data.get("task") and event.data.get("exit_code") is not None:
            self._known_ends.add(str(event.data["task"]))


def _parts(say: Say) -> list[ContentPart]:
    text: list[ContentPart] = [TextPart(text=say.text)] if say.text else []
    return text + list(say.parts)
