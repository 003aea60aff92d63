"""A hand-off note made without the model: what the record itself says was done."""

from __future__ import annotations

from collections.abc import Sequence

from kimi_cli.agent.clip import shorten
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import AssistantMessage, ToolResult
from kimi_cli.protocol.messages import TextPart

LINE = 160
WORDS = 1_500


def digest(events: Sequence[Event], former: str, limit: int) -> str:
    """The note for ``events``, at most about ``limit`` bytes: what the model last said, and a line
    for each call, the newest kept. ``former`` is the note of the compaction before."""
    said = [
        text
        for event in events
        if isinstance(event, AssistantMessage)
        and (text := "".join(p.text for p in event.parts if isinstance(p, TextPart)).strip())
    ]
    calls = [_line(event) for event in events if isinstance(event, ToolResult)]
    sections = []
    if former:
        sections.append(f"The note before this one:\n{shorten(former, limit // 3)}")
    if said:
        words = shorten("\n".join(said[-3:]), min(WORDS, limit // 3))
        sections.append(f"What I said last:\n{words}")
    if calls:
        room = limit // 3
        shown: list[str] = []
        for line in reversed(calls):
            room -= len(line.encode("utf-8", "replace")) + 1
            if room < 0:
                break
            shown.insert(0, line)
        left_out = len(calls) - len(shown)
        more = f" ({left_out} earlier ones are not listed)" if left_out else ""
        sections.append(f"My calls, oldest first{more}:\n" + "\n".join(shown))
    return "\n\n".join(sections)


def _line(event: ToolResult) -> str:
    outcome = event.display or event.status
    return f"- {event.name} {event.summary}: {outcome}".replace("\n", " ")[:LINE]
