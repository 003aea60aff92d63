"""What a stored history has used."""

from __future__ import annotations

from collections.abc import Sequence

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import AssistantMessage, Compaction
from kimi_cli.protocol.messages import Usage


def spent(events: Sequence[Event]) -> tuple[Usage, float | None]:
    """What the requests of a stored history used and cost; None: no price was known."""
    asked = [e for e in events if isinstance(e, AssistantMessage | Compaction)]
    usage = sum((e.usage for e in asked if e.usage), Usage())
    costs = [e.cost for e in asked if e.cost is not None]
    return usage, sum(costs) if costs else None
