"""The record of a session: each event numbered, stored, projected and published, in that order."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kimi_cli.agent.branch import branch
from kimi_cli.agent.conversation import Mended
from kimi_cli.agent.facts import Facts
from kimi_cli.agent.projection import Projection
from kimi_cli.agent.spent import measured
from kimi_cli.model.tokens import TokenMeter
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Compaction, Repair, Rewind, Shrink
from kimi_cli.protocol.messages import Usage
from kimi_cli.protocol.provider import Completed, Provider
from kimi_cli.protocol.tools import ToolSchema
from kimi_cli.store.errors import StoreError
from kimi_cli.store.events_file import read_events
from kimi_cli.store.log import Log

log = logging.getLogger(__name__)

WEIGHED = 50
"""Answers of a stored session that the estimate learns from."""


@dataclass(slots=True)
class Position:
    """The numbers that the next event gets."""

    seq: int = 0
    turn: int = 0
    step: int = 0


def parent_of(event: Event, seq: int) -> int:
    """The number of the event that this one, numbered ``seq``, follows."""
    return event.to if isinstance(event, Rewind) and event.conversation else seq - 1


class Record:
    """Keeps what happened in a log, and beside it the request that follows from it.

    ``messages`` are the encoded messages of that request, ``meter`` its size in tokens, ``facts``
    what must never be lost. ``tools`` go out with each request.
    """

    def __init__(self, store: Log, provider: Provider, tools: Sequence[ToolSchema]) -> None:
        self.at = Position()
        self.meter = TokenMeter(lambda: provider.counter)
        self.facts = Facts()
        self.projection = Projection(provider.encoder)
        self._encoder = provider.encoder
        self._store = store
        self._tools = [
            f"{tool.name} {tool.description} {json.dumps(tool.parameters, default=dict)}"
            for tool in tools
        ]
        self._listeners: list[Callable[[Event], None]] = []
        self._measure_again()

    @property
    def messages(self) -> tuple[bytes, ...]:
        return tuple(self.projection.messages)

    def size(self, text: str | bytes) -> int:
        """The tokens of a text or an encoded message."""
        return self.meter.size(text)

    def fixed(self) -> int:
        """The tokens that no compaction can save: tools, system prompt, instructions."""
        pairs = zip(self.projection.messages, self.projection.sources, strict=True)
        fixed = [m for m, source in pairs if source.kind in ("system", "instructions")]
        return self._tools_size() + sum(map(self.size, fixed))

    def total_of(self, projection: Projection) -> int:
        """The tokens of a request made of another projection."""
        return self._tools_size() + sum(map(self.size, projection.messages))

    def used(self, reply: Completed) -> Usage:
        """What an answer used: the server's count, else an estimate. Some servers count nothing."""
        if reply.usage and reply.usage.input_tokens:
            return reply.usage
        said = sum(self.size(part.model_dump_json()) for part in reply.parts)
        return Usage(input_tokens=self.meter.total, output_tokens=said)

    def ahead(self) -> Usage:
        """What the input of the next request will use, as far as it is known."""
        whole = self.meter.total
        return Usage(input_tokens=whole, cached_tokens=whole - self.meter.uncached)

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    def restore(self, events: Sequence[Event]) -> None:
        """Take in a stored history: nothing is stored again or published."""
        self._take_in(branch(events))
        self.meter.cool()
        self.at.turn = max((event.turn for event in events), default=0)
        self.at.seq = max((event.seq for event in events), default=0)

    def go_on_with(self, provider: Provider) -> None:
        """Make the requests for another model from here on."""
        self._encoder = provider.encoder
        self.meter = TokenMeter(lambda: provider.counter)
        self.projection.encode_with(provider.encoder)
        self._measure_again()
        self.meter.cool()

    def _take_in(self, events: Sequence[Event]) -> None:
        """Begin anew with the events of a branch."""
        self.facts = Facts()
        self.projection = Projection(self._encoder)
        for event in events:
            self.facts.note(event)
        rest = events[self.projection.load(events) :]
        answers = [index for index, event in enumerate(rest) if measured(event)]
        # What a measured answer covers need not be weighed. The newest part is nevertheless, for
        # how far off the estimate is.
        covered = answers[-WEIGHED] if len(answers) > WEIGHED else -1
        for event in rest[: covered + 1]:
            self.projection.feed(event)
        self._measure_again(measured(rest[covered]) if covered >= 0 else None)
        for event in rest[covered + 1 :]:
            self._project(event)
            if usage := measured(event):
                self.meter.measure(usage)

    def add(self, event: Event) -> None:
        """A durable event. Raises StoreError, and then nothing of it happened."""
        self.at.seq += 1
        event.parent = parent_of(event, self.at.seq)
        self._stamp(event)
        try:
            self._store.append(event)
        except StoreError:
            self.at.seq -= 1
            raise
        log.debug("%s turn %d step %d", type(event).__name__, event.turn, event.step)
        if isinstance(event, Rewind):
            mended = []
            if event.conversation:
                # What a compaction dropped may count again: only the log still has it.
                self._take_in(branch(read_events(self._store.path).events))
        else:
            self.facts.note(event)
            mended = self._project(event)
        self._publish(event)
        self._report(mended)

    def close_calls(self) -> None:
        """Settle the calls whose result a killed process left out, before a request goes out that
        no message of the user comes before. Raises StoreError."""
        before = len(self.projection.messages)
        mended = self.projection.close_calls()
        self._weigh(before)
        self._report(mended)

    def show(self, event: Event) -> None:
        """A live event."""
        self._stamp(event)
        self._publish(event)

    def _project(self, event: Event) -> list[Mended]:
        if isinstance(event, Compaction | Shrink):
            mended = self.projection.feed(event)
            self._measure_again()
            return mended
        before = len(self.projection.messages)
        mended = self.projection.feed(event)
        # A measured answer is in the meter already, by its usage.
        if not measured(event):
            self._weigh(before)
        return mended

    def _report(self, mended: Sequence[Mended]) -> None:
        for repair in mended:
            self.add(Repair(kind=repair.kind, call_id=repair.call_id, detail=repair.detail))

    def _measure_again(self, usage: Usage | None = None) -> None:
        """Another conversation: nothing of it was measured yet, but all of it as ``usage``."""
        self.meter.reset()
        if usage:
            self.meter.start_at(usage)
            return
        for tool in self._tools:
            self.meter.add(tool)
        self._weigh(0)

    def _weigh(self, start: int) -> None:
        for message in self.projection.messages[start:]:
            self.meter.add(message)

    def _tools_size(self) -> int:
        return sum(map(self.size, self._tools))

    def _stamp(self, event: Event) -> None:
        event.session = self._store.id
        event.turn = self.at.turn
        event.step = self.at.step
        event.seq = self.at.seq
        event.time = round(time.time(), 3)

    def _publish(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
