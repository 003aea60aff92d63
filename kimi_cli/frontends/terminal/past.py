"""The last part of a stored session, for the scrollback of the one that goes on with it."""

from __future__ import annotations

from collections.abc import Sequence

from kimi_cli.frontends.terminal.paint import one_line
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import ToolResult, ToolStarted, TurnEnded, TurnStarted

TURNS = 5


def last_turns(events: Sequence[Event], turns: int = TURNS) -> tuple[int, Sequence[Event]]:
    """How many turns come before the last ``turns``, and the events of these."""
    starts = [place for place, event in enumerate(events) if isinstance(event, TurnStarted)]
    if len(starts) <= turns:
        return 0, events[starts[0] :] if starts else ()
    return len(starts) - turns, events[starts[-turns] :]


def cut_short(events: Sequence[Event]) -> str:
    """What to say where the last turn of these has no end, as the program was killed in it: that,
    and which calls ran then. "" where it ended."""
    running: dict[str, ToolStarted] = {}
    open_turn = False
    for event in events:
        match event:
            case TurnStarted():
                open_turn = True
                running.clear()
            case ToolStarted():
                running[event.call_id] = event
            case ToolResult():
                running.pop(event.call_id, None)
            case TurnEnded():
                open_turn = False
    if not open_turn:
        return ""
    calls = ", ".join(one_line(f"{call.name} {call.summary}") for call in running.values())
    return "kimi ended in the middle of this turn" + f", while this ran: {calls}" * bool(calls)
