"""The loop: a turn is one user message until the model stops calling tools; a step is one request
plus its tool calls."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from kimi_cli.agent.budget import cost_of
from kimi_cli.agent.host import Host
from kimi_cli.agent.listener import Listener
from kimi_cli.agent.repeats import REMINDERS, STOP_AT, RepeatGuard
from kimi_cli.agent.stop import StopTurn
from kimi_cli.protocol.events import BudgetWarning, UserMessage
from kimi_cli.protocol.live import StepStarted
from kimi_cli.protocol.messages import ContentPart, TextPart, ToolCallPart, Usage, added
from kimi_cli.protocol.provider import Completed, ErrorClass, ModelRequest
from kimi_cli.protocol.stops import StopReason
from kimi_cli.store.errors import StoreError

MAX_EMPTY_ANSWERS = 3
MAX_CONTINUATIONS = 5
CONTINUE = "Your answer was cut off by the output limit. Continue exactly where it stopped."
ANSWER_PLEASE = (
    "Your last answer was empty. Go on with the task, or, if it is finished, say what you did."
)
GARBLED_CALL = "Your tool call did not arrive whole. Make it again."

Check = Callable[[str], Awaitable[str | None]]
"""Judges a final answer: None when it will do, else what to tell the model."""


@dataclass(slots=True)
class Turn:
    """One turn while it runs, and what remains of it afterwards."""

    host: Host
    checks: Sequence[Check] = ()
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    steps: int = 0
    answer: str = ""
    _guard: RepeatGuard = field(default_factory=RepeatGuard)

    async def run(self) -> None:
        """Work until the model is done and every check is content.

        Returns when it is; raises StopTurn for every other end, StoreError when the session can't
        be written, CancelledError when interrupted.
        """
        empty = continued = 0
        kept = ""
        while True:
            reply = await self._step()
            calls = [p for p in reply.parts if isinstance(p, ToolCallPart)]
            said = "".join(p.text for p in reply.parts if isinstance(p, TextPart))
            text = said.strip()
            if calls:
                empty = continued = 0
                kept = ""
                self.answer = text or self.answer
                await self._run_calls(calls, cut=reply.finish_reason == "length")
                for news in self.host.take_news():
                    self._tell(news)
                self._deliver_steering()
            elif reply.lost or not text:
                empty += 1
                if empty >= MAX_EMPTY_ANSWERS:
                    raise StopTurn(
                        StopReason.EMPTY_ANSWER,
                        f"the model gave {empty} empty or garbled answers in a row",
                    )
                self._tell(GARBLED_CALL if reply.lost else ANSWER_PLEASE)
            elif reply.finish_reason == "length":
                continued += 1
                kept += said
                self.answer = kept.strip()
                if continued > MAX_CONTINUATIONS:
                    raise StopTurn(
                        StopReason.ENDLESS_ANSWER,
                        f"the answer had no end after {continued} times the output limit",
                    )
                self._tell(CONTINUE)
            else:
                self.answer = (kept + said).strip()
                if self._deliver_steering():
                    empty, kept = 0, ""
                    continue
                problem = await self._check()
                if problem is not None:
                    self._tell(problem)
                elif not self._deliver_steering():
                    # A check may take its time, and the user not wait for it.
                    return
                empty, kept = 0, ""

    async def _step(self) -> Completed:
        host = self.host
        begun = False
        try:
            while True:
                # What is used up is not worth a compaction.
                host.budget.guard(Usage(), host.price)
                await host.make_room(self.spend)
                for message in host.take_notes():
                    host.record(message)
                request = host.request()
                host.budget.guard(host.usage_ahead(), host.price)
                if not begun:
                    begun = True
                    host.begin_step()
                    host.show(StepStarted())
                try:
                    reply = await self._ask(request)
                    break
                except StopTurn as stop:
                    error = stop.error
                    if error is None or error.kind is not ErrorClass.CONTEXT_TOO_LONG:
                        raise
                    if not await host.after_refusal(error, self.spend):
                        raise
        finally:
            if begun:
                # Once, however often it was refused as too long.
                self.steps += 1
                host.budget.start_step()
        for warned in host.budget.warnings():
            host.record(BudgetWarning(axis=warned.axis, used=warned.used, limit=warned.limit))
        return reply

    async def _ask(self, request: ModelRequest) -> Completed:
        listener = Listener(self.host)
        try:
            return await listener.listen(request)
        except StoreError:
            # What can't be kept can still be shown.
            self.answer = listener.text or self.answer
            raise
        finally:
            self.spend(listener.usage)

    def spend(self, usage: Usage) -> None:
        """Book what a request used."""
        host = self.host
        cost = cost_of(host.price, usage) if host.price else None
        self.usage = self.usage + usage
        self.cost = added(self.cost, cost)
        host.budget.spend(usage, cost)

    async def _run_calls(self, calls: list[ToolCallPart], *, cut: bool) -> None:
        results = await self.host.toolbox.run_all(calls, self.host, cut=cut)
        worst = 0
        for call, result in zip(calls, results, strict=True):
            text = "".join(p.text for p in result.parts if isinstance(p, TextPart))
            worst = max(worst, self._guard.seen(call.name, call.arguments, text))
        if worst >= STOP_AT:
            raise StopTurn(
                StopReason.REPEATED_CALLS,
                f"the model made the same call with the same result {worst} times",
            )
        if worst in REMINDERS:
            self._tell(REMINDERS[worst])

    async def _check(self) -> str | None:
        for check in self.checks:
            problem = await check(self.answer)
            if problem is not None:
                return problem
        return None

    def _deliver_steering(self) -> bool:
        waiting = self.host.steering
        delivered = bool(waiting)
        while waiting:
            parts: list[ContentPart] = [TextPart(text=waiting[0])]
            self.host.record(UserMessage(origin="steer", parts=parts))
            # Only what is on record is not lost any more.
            del waiting[0]
        return delivered

    def _tell(self, text: str) -> None:
        self.host.record(UserMessage(origin="program", parts=[TextPart(text=text)]))
