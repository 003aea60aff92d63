"""The last part of a stored session, for the scrollback of the one that goes on with it."""

from __future__ import annotations

from collections.abc import Sequence

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import TurnStarted

TURNS = 5


def last_turns(events: Sequence[Event], turns: int = TURNS) -> tuple[int, Sequence[Event]]:
    """How many turns come before the last ``turns``, and the events of these."""
    starts = [place for place, event in enumerate(events) if isinstance(event, TurnStarted)]
    if len(starts) <= turns:
        return 0, events[starts[0] :] if starts else ()
    return len(starts) - turns, events[starts[-turns] :]
