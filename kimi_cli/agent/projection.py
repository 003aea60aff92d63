"""Raw history in, a valid request out.

Between compactions the projection only appends. A compaction starts a new conversation: the system
prompt and the instructions as they were, what was pinned, and the newest steps. It is incremental:
each event is projected once, and a fresh :class:`Projection` fed the whole log gives the same
bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kimi_cli.agent.clip import shorten
from kimi_cli.agent.conversation import Conversation, Mended, Source
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    Compaction,
    Instructions,
    SessionStarted,
    Shrink,
    ToolResult,
    ToolStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import TextPart, UserTurn
from kimi_cli.protocol.provider import Encoder

SPOKEN = (UserMessage, AssistantMessage, ToolStarted, ToolResult)
CONVERSED = (SessionStarted, Instructions, Compaction, *SPOKEN)


class Projection:
    """An incremental projection of one session. ``encoders`` makes the encoder of a conversation.

    ``messages`` are those of the next request, ``sources`` says of each what it is.
    """

    def __init__(self, encoders: Callable[[], Encoder]) -> None:
        self._encoders = encoders
        self._begun: SessionStarted | None = None
        self._instructions: Instructions | None = None
        self._compaction: Compaction | None = None
        self._shrinks: list[Shrink] = []
        self._events: list[Event] = []
        self._fed: list[Event] = []
        self._now = Conversation(encoders(), self._clip)

    @property
    def messages(self) -> list[bytes]:
        return self._now.messages

    @property
    def settled(self) -> list[bytes]:
        """The messages without a step that still runs."""
        return self._now.settled

    @property
    def sources(self) -> list[Source]:
        return self._now.sources

    @property
    def compaction(self) -> Compaction | None:
        """The last one."""
        return self._compaction

    def spoken(self, upto: int) -> list[Event]:
        """The events up to a number that are still sent as they were."""
        return [event for event in self._events if event.seq <= upto]

    def feed(self, event: Event) -> list[Mended]:
        """Take the next durable event; returns the repairs it needed."""
        self._keep(event)
        if isinstance(event, Compaction | Shrink):
            # What has to be mended now was mended, and reported, before.
            self._rebuild()
            return []
        return self._put(event)

    def load(self, events: Sequence[Event]) -> int:
        """Take in a stored history up to where its last conversation begins, without projecting
        what is no longer sent; returns the number of events taken."""
        breaks = [i for i, e in enumerate(events) if isinstance(e, Compaction | Shrink)]
        if not breaks:
            return 0
        for event in events[: breaks[-1] + 1]:
            self._keep(event)
        self._rebuild()
        return breaks[-1] + 1

    def with_event(self, event: Compaction | Shrink) -> Projection:
        """What the projection would be after the event."""
        other = Projection(self._encoders)
        other._begun = self._begun
        other._instructions = self._instructions
        other._compaction = self._compaction
        other._shrinks = list(self._shrinks)
        other._events = list(self._events)
        other.feed(event)
        return other

    def encode_with(self, encoders: Callable[[], Encoder]) -> None:
        """Make the same conversation anew, for another model."""
        fed, self._fed = self._fed, []
        self._encoders = encoders
        self._now = Conversation(encoders(), self._clip)
        for event in fed:
            self._put(event)

    def close_calls(self) -> list[Mended]:
        """Give calls whose result can't come any more one that says so: a request goes out now."""
        return self._now.close_calls()

    def encode_user(self, text: str) -> bytes:
        """A user message for the end of one request, that is not a part of the conversation."""
        return self._now.encode(UserTurn((TextPart(text=text),)))

    def _keep(self, event: Event) -> None:
        """Keep what a new conversation would be made of."""
        if isinstance(event, SPOKEN):
            self._events.append(event)
        elif isinstance(event, SessionStarted):
            self._begun = event
        elif isinstance(event, Instructions):
            self._instructions = event
        elif isinstance(event, Shrink):
            self._shrinks.append(event)
        elif isinstance(event, Compaction):
            self._compaction = event
            self._events = [kept for kept in self._events if kept.seq > event.upto]
            self._shrinks = [shrink for shrink in self._shrinks if shrink.upto > event.upto]

    def _rebuild(self) -> None:
        self._fed = []
        self._now = Conversation(self._encoders(), self._clip)
        for event in (self._begun, self._instructions, self._compaction, *self._events):
            if event:
                self._put(event)
        self._now.close_calls()

    def _put(self, event: Event) -> list[Mended]:
        if isinstance(event, CONVERSED):
            self._fed.append(event)
        if isinstance(event, Compaction):
            parts = tuple(event.pinned) or (TextPart(text=event.note),)
            return self._now.put(UserTurn(parts), Source("pinned", event.seq))
        return self._now.feed(event)

    def _clip(self, seq: int, text: str) -> str:
        limits = [shrink.limit for shrink in self._shrinks if seq <= shrink.upto]
        return shorten(text, min(limits)) if limits else text
