"""Which events of a session count: those on the branch that its rewinds lead to.

The log is only ever appended to. Each event follows the one before it in the file; a rewind of the
conversation follows the event it goes back to, so the events that count are those on the way from
the last one to the first. An event that was taken back counts again when a later rewind leads to
its branch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Rewind, SessionStarted, ToolResult
from kimi_cli.protocol.workspace import FileTouch

E = TypeVar("E", bound=Event)


def branch(events: Sequence[E]) -> list[E]:
    """The events that count, oldest first. What the session began with always does."""
    gone = taken_back(events)
    return [event for index, event in enumerate(events) if index not in gone] if gone else [*events]


def taken_back(events: Sequence[Event]) -> frozenset[int]:
    """The indices of the events that do not count."""
    if not any(isinstance(event, Rewind) and event.conversation for event in events):
        return frozenset()
    on_branch = set(_way(events))
    return frozenset(
        index
        for index, event in enumerate(events)
        if index not in on_branch and not isinstance(event, SessionStarted)
    )


def touches(events: Iterable[Event]) -> Iterator[FileTouch]:
    """The files that the model saw or changed in these events, in order."""
    for event in events:
        if isinstance(event, ToolResult):
            yield from event.files


def _way(events: Sequence[Event]) -> Iterator[int]:
    """The indices on the way from the last event to the first."""
    index = len(events) - 1
    while index >= 0:
        yield index
        event = events[index]
        index -= 1
        if isinstance(event, Rewind) and event.conversation:
            # A log that was cut or mended by hand may lack the event itself.
            while index >= 0 and events[index].seq > event.to:
                index -= 1
