"""The record of a session: each event numbered, stored, projected and published, in that order."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kimi_cli.agent.projection import Mended, Projection
from kimi_cli.model.tokens import TokenMeter
from kimi_cli.protocol.event import (
    Event,
)
from kimi_cli.protocol.events import (
    AssistantMessage,
    Repair,
)
from kimi_cli.protocol.provider import Encoder
from kimi_cli.store.errors import StoreError
from kimi_cli.store.log import Log

log = logging.getLogger(__name__)


@dataclass(slots=True)
class Position:
    """The numbers that the next event gets."""

    seq: int = 0
    turn: int = 0
    step: int = 0


class Record:
    """Keeps what happened in a log, and beside it the request that follows from it.

    ``messages`` are the encoded messages of that request, ``meter`` its size in tokens.
    """

    def __init__(self, store: Log, encoder: Encoder) -> None:
        self.at = Position()
        self.meter = TokenMeter()
        self._store = store
        self._projection = Projection(encoder)
        self._listeners: list[Callable[[Event], None]] = []

    @property
    def messages(self) -> tuple[bytes, ...]:
        return tuple(self._projection.messages)

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    def restore(self, events: Sequence[Event]) -> None:
        """Take in a stored history: nothing is stored again or published."""
        for event in events:
            self._project(event)
            if isinstance(event, AssistantMessage) and event.usage:
                self.meter.measure(event.usage)
            self.at.turn = max(self.at.turn, event.turn)
            self.at.seq = max(self.at.seq, event.seq)

    def add(self, event: Event) -> None:
        """A durable event. Raises StoreError, and then nothing of it happened."""
        self.at.seq += 1
        event.parent = self.at.seq - 1
        self._stamp(event)
        try:
            self._store.append(event)
        except StoreError:
            self.at.seq -= 1
            raise
        log.debug("%s turn %d step %d", type(event).__name__, event.turn, event.step)
        mended = self._project(event)
        self._publish(event)
        for repair in mended:
            self.add(Repair(kind=repair.kind, call_id=repair.call_id, detail=repair.detail))

    def show(self, event: Event) -> None:
        """A live event."""
        self._stamp(event)
        self._publish(event)

    def _project(self, event: Event) -> list[Mended]:
        before = len(self._projection.messages)
        mended = self._projection.feed(event)
        # A measured answer is in the meter already, by its usage.
        if not (isinstance(event, AssistantMessage) and event.usage):
            for message in self._projection.messages[before:]:
                self.meter.add(message)
        return mended

    def _stamp(self, event: Event) -> None:
        event.session = self._store.id
        event.turn = self.at.turn
        event.step = self.at.step
        event.seq = self.at.seq
        event.time = round(time.time(), 3)

    def _publish(self, event: Event) -> None:
        for listener in self._listeners:
            listener(event)
