"""A question beside the work: answered with all that the model knows by now, and forgotten."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from kimi_cli.agent import beside
from kimi_cli.agent.budget import Budget, cost_of
from kimi_cli.agent.record import Record
from kimi_cli.agent.window import answer_room
from kimi_cli.model.catalogue import Price
from kimi_cli.prompts import load
from kimi_cli.protocol.events import Aside
from kimi_cli.protocol.messages import TextPart, Usage
from kimi_cli.protocol.provider import Completed, Failed, ModelError, ModelRequest, Provider
from kimi_cli.protocol.tools import ToolSchema

AGAIN = "\n\nYour last answer to this had no text in it: answer in plain text."


class NoAnswer(Exception):
    """The request failed for good; ``error`` says why."""

    def __init__(self, error: ModelError) -> None:
        super().__init__(error.message)
        self.error = error


class Asker:
    """Asks of one session as it stands. The request is the conversation and the question behind
    it, with the tools of all requests, so the server has all but the question in its cache."""

    def __init__(
        self,
        record: Record,
        provider: Provider,
        tools: Sequence[ToolSchema],
        budget: Budget,
        price: Price | None,
        window: int,
    ) -> None:
        self._record = record
        self._provider = provider
        self._tools = tools
        self._budget = budget
        self._price = price
        self._window = window

    async def ask(self, question: str, show: Callable[[str], None]) -> Aside:
        """Record and return the answer; ``show`` gets it as far as it has come. Calls of tools in
        it are ignored. Cancelled, it records what was said and paid for until then. Raises
        NoAnswer, StopTurn when the budget has no room, StoreError."""
        begun = time.monotonic()
        used, said = Usage(), ""

        def count(usage: Usage) -> None:
            nonlocal used
            used = used + usage
            self._budget.spend(usage, self._cost(usage))

        def hear(text: str) -> None:
            nonlocal said
            said = text
            show(text)

        def note(answer: str, *, partial: bool) -> Aside:
            aside = Aside(
                question=question,
                answer=answer,
                usage=used if used.total_tokens else None,
                cost=self._cost(used) if used.total_tokens else None,
                currency=self._price.currency if self._price else None,
                seconds=round(time.monotonic() - begun, 3),
                partial=partial,
            )
            self._record.add(aside)
            return aside

        # Taken now: whatever the running turn adds meanwhile has nothing to do with the question.
        known = tuple(self._record.projection.settled)
        asked = load("aside").format(question=question)
        try:
            for text in (asked, asked + AGAIN):
                end = await beside.ask(
                    self._record,
                    self._provider,
                    self._request(known, text),
                    book=count,
                    hear=hear,
                )
                answer = _text(end)
                if isinstance(end, Failed):
                    if used.total_tokens:
                        note(answer, partial=True)
                    raise NoAnswer(end.error)
                if answer:
                    break
        except asyncio.CancelledError:
            if used.total_tokens:
                note(said.strip(), partial=True)
            raise
        return note(answer, partial=False)

    def _request(self, known: tuple[bytes, ...], text: str) -> ModelRequest:
        record = self._record
        new = record.size(text)
        ahead = record.ahead()
        self._budget.guard(
            Usage(input_tokens=ahead.input_tokens + new, cached_tokens=ahead.cached_tokens),
            self._price,
        )
        cap = self._provider.output_cap
        room = answer_room(self._window, record.meter.total + new) if self._window else None
        return ModelRequest(
            (*known, record.projection.encode_user(text)),
            self._tools,
            max_output_tokens=min(cap, room) if cap and room else None,
            new_tokens=record.meter.uncached + new,
        )

    def _cost(self, usage: Usage) -> float | None:
        return cost_of(self._price, usage) if self._price else None


def _text(end: Completed | Failed) -> str:
    whole = end if isinstance(end, Completed) else end.partial
    parts = whole.parts if whole else ()
    return "".join(part.text for part in parts if isinstance(part, TextPart)).strip()
