"""Which events of a session still count."""

from __future__ import annotations

from collections.abc import Sequence

from kimi_cli.protocol.events import DurableEvent, Rewind, SessionStarted


def taken_back(events: Sequence[DurableEvent]) -> frozenset[int]:
    """The indices of the events that a rewind took back."""
    line: list[int] = []
    gone: set[int] = set()
    for index, event in enumerate(events):
        if isinstance(event, Rewind):
            gone.update(i for i in line if events[i].seq > event.to)
            line = [i for i in line if i not in gone]
        # What the session began with is not a part of the conversation.
        if not isinstance(event, SessionStarted):
            line.append(index)
    return frozenset(gone)
