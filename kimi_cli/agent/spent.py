"""What the requests of a session used."""

from __future__ import annotations

from collections.abc import Sequence

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Aside,
    AssistantMessage,
    Compaction,
    SessionResumed,
    TurnEnded,
    TurnStarted,
)
from kimi_cli.protocol.messages import Usage, added


def measured(event: Event) -> Usage | None:
    """The server's own count at an answer, None where it gave none: what an interrupted answer
    used is an estimate, and some servers count nothing."""
    if not isinstance(event, AssistantMessage) or event.partial or event.usage is None:
        return None
    return event.usage if event.usage.input_tokens else None


def spent(events: Sequence[Event]) -> tuple[Usage, float | None]:
    """What the requests of a stored history used and cost; None: no price was known. A turn's own
    end is believed: it knows of requests that left no answer."""
    usage, cost = Usage(), None
    before: tuple[Usage, float | None] | None = None
    for event in events:
        if isinstance(event, TurnStarted):
            before = usage, cost
        elif isinstance(event, SessionResumed):
            before = None
        elif isinstance(event, AssistantMessage | Compaction | Aside):
            used = event.usage or Usage()
            usage, cost = usage + used, added(cost, event.cost)
            if isinstance(event, Aside) and before is not None:
                # The end of the turn does not count it.
                before = before[0] + used, added(before[1], event.cost)
        elif isinstance(event, TurnEnded) and before is not None:
            usage, cost = before[0] + event.usage, added(before[1], event.cost)
            before = None
    return usage, cost
