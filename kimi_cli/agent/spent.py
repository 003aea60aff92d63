"""What the requests of a session used."""

from __future__ import annotations

from collections.abc import Sequence

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import AssistantMessage, Compaction
from kimi_cli.protocol.messages import Usage


def measured(event: Event) -> Usage | None:
    """The server's own count at an answer, None where it gave none: what an interrupted answer
    used is an estimate, and some servers count nothing."""
    if not isinstance(event, AssistantMessage) or event.partial or event.usage is None:
        return None
    return event.usage if event.usage.input_tokens else None


def spent(events: Sequence[Event]) -> tuple[Usage, float | None]:
    """What the requests of a stored history used and cost; None: no price was known."""
    asked = [e for e in events if isinstance(e, AssistantMessage | Compaction)]
    usage = sum((e.usage for e in asked if e.usage), Usage())
    costs = [e.cost for e in asked if e.cost is not None]
    return usage, sum(costs) if costs else None
