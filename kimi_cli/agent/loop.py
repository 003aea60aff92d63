"""The loop: a turn is one user message until the model stops calling tools; a step is one request
plus its tool calls."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kimi_cli.agent.budget import STOP_OF_AXIS, Budget, cost_of
from kimi_cli.agent.repeats import REMINDERS, STOP_AT, RepeatGuard
from kimi_cli.agent.stop import StopTurn
from kimi_cli.agent.toolbox import Journal, Toolbox
from kimi_cli.model.catalogue import Price
from kimi_cli.protocol.events import (
    AssistantMessage,
    BudgetWarning,
    RetryScheduled,
    StepStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
    UserMessage,
)
from kimi_cli.protocol.messages import TextPart, ThinkingPart, ToolCallPart, Usage
from kimi_cli.protocol.provider import (
    Completed,
    Failed,
    ModelError,
    ModelRequest,
    Provider,
    RetryWait,
)
from kimi_cli.protocol.provider import TextDelta as ModelText
from kimi_cli.protocol.provider import ThinkingDelta as ModelThinking
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


class Host(Journal, Protocol):
    """What the loop needs of its session."""

    @property
    def provider(self) -> Provider: ...

    @property
    def toolbox(self) -> Toolbox: ...

    @property
    def budget(self) -> Budget: ...

    @property
    def price(self) -> Price | None: ...

    def request(self) -> ModelRequest:
        """The next request, made of everything recorded so far."""
        ...

    def usage_ahead(self) -> Usage:
        """What the input of the next request will use, as far as it is known."""
        ...

    def usage_of(self, reply: Completed) -> Usage:
        """What the answer used, as measured by the server, else as estimated."""
        ...

    def begin_step(self) -> None: ...

    def take_steering(self) -> list[str]:
        """The messages typed since the last call, for delivery now."""
        ...

    def take_news(self) -> list[str]:
        """What happened beside the turn that the model should hear of."""
        ...

    def stop_for(self, error: ModelError) -> StopTurn:
        """How a request that failed for good ends the turn."""
        ...


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
                if problem is None:
                    return
                empty, kept = 0, ""
                self._tell(problem)

    async def _step(self) -> Completed:
        host = self.host
        request = host.request()
        self._guard_budget()
        host.begin_step()
        self.steps += 1
        host.budget.start_step()
        host.show(StepStarted())
        listener = _Listener(host)
        try:
            reply = await listener.listen(request)
        except StoreError:
            # What can't be kept can still be shown.
            self.answer = listener.text or self.answer
            raise
        finally:
            self._spend(listener.usage)
        for warned in host.budget.warnings():
            host.record(BudgetWarning(axis=warned.axis, used=warned.used, limit=warned.limit))
        return reply

    def _spend(self, usage: Usage) -> None:
        host = self.host
        cost = cost_of(host.price, usage) if host.price else None
        self.usage = self.usage + usage
        if cost is not None:
            self.cost = (self.cost or 0.0) + cost
        host.budget.spend(usage, cost)

    def _guard_budget(self) -> None:
        budget, price = self.host.budget, self.host.price
        ahead = self.host.usage_ahead()
        axis = budget.exceeded(ahead.input_tokens, cost_of(price, ahead) if price else 0.0)
        if axis:
            raise StopTurn(STOP_OF_AXIS[axis], f"the limit of {axis} is reached")

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
        messages = self.host.take_steering()
        for text in messages:
            self.host.record(UserMessage(origin="steer", parts=[TextPart(text=text)]))
        return bool(messages)

    def _tell(self, text: str) -> None:
        self.host.record(UserMessage(origin="program", parts=[TextPart(text=text)]))


class _Listener:
    """Takes in one answer: shows the pieces, keeps them in case it is interrupted."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._begun = time.monotonic()
        self._thought_until: float | None = None
        self.usage = Usage()

    async def listen(self, request: ModelRequest) -> Completed:
        """Record and return the answer; ``usage`` is then what it used. Raises StopTurn when the
        request failed for good."""
        host = self._host
        try:
            async for event in host.provider.stream(request):
                match event:
                    case ModelText(text):
                        self._text.append(text)
                        host.show(TextDelta(text=text))
                    case ModelThinking(text):
                        self._thinking.append(text)
                        self._thought_until = time.monotonic()
                        host.show(ThinkingDelta(text=text))
                    case RetryWait():
                        self._forget()
                        host.show(_retry(event))
                    case Completed():
                        self.usage = host.usage_of(event)
                        self._record(event)
                        return event
                    case Failed(error, partial):
                        if partial:
                            # Cut off by the server, and paid for all the same.
                            self.usage = host.usage_of(partial)
                            self._keep_partial()
                        raise host.stop_for(error)
                    case _:
                        host.show(
                            ToolCallDelta(
                                index=event.index, name=event.name, arguments=event.arguments
                            )
                        )
        except asyncio.CancelledError:
            if said := self._partial():
                # No usage comes for an answer that was left, but it is billed.
                self.usage = host.usage_of(Completed(tuple(said), ""))
            self._keep_partial()
            raise
        raise StopTurn(StopReason.INTERNAL, "the model's stream ended without an end")

    @property
    def text(self) -> str:
        """What was said so far."""
        return "".join(self._text).strip()

    def _forget(self) -> None:
        self._text.clear()
        self._thinking.clear()
        self._begun = time.monotonic()
        self._thought_until = None

    def _record(self, reply: Completed) -> None:
        price = self._host.price
        self._host.record(
            AssistantMessage(
                parts=list(reply.parts),
                finish_reason=reply.finish_reason,
                usage=reply.usage,
                cost=cost_of(price, self.usage) if price else None,
                model=reply.model,
                response_id=reply.response_id,
                salvaged=reply.salvaged,
                **self._times(),
            )
        )

    def _partial(self) -> list[ThinkingPart | TextPart]:
        thinking, text = "".join(self._thinking), "".join(self._text)
        parts: list[ThinkingPart | TextPart] = []
        if thinking:
            parts.append(ThinkingPart(text=thinking))
        if text:
            parts.append(TextPart(text=text))
        return parts

    def _keep_partial(self) -> None:
        if parts := self._partial():
            self._host.record(
                AssistantMessage(
                    parts=list(parts),
                    usage=self.usage if self.usage.total_tokens else None,
                    partial=True,
                    **self._times(),
                )
            )

    def _times(self) -> dict[str, float]:
        thought = self._thought_until - self._begun if self._thought_until else 0.0
        return {
            "seconds": round(time.monotonic() - self._begun, 3),
            "thinking_seconds": round(thought, 3),
        }


def _retry(wait: RetryWait) -> RetryScheduled:
    return RetryScheduled(
        error=wait.error.kind.value,
        message=wait.error.message,
        delay=wait.delay,
        attempt=wait.attempt,
        attempts=wait.attempts,
    )
