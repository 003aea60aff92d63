"""One request beside the loop: its answer is used by us and is no part of the conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kimi_cli.agent.record import Record
from kimi_cli.protocol.messages import Usage
from kimi_cli.protocol.provider import (
    Completed,
    Failed,
    ModelRequest,
    Provider,
    RetryWait,
    TextDelta,
)


async def ask(
    record: Record,
    provider: Provider,
    request: ModelRequest,
    *,
    book: Callable[[Usage], None],
    hear: Callable[[str], None] = lambda text: None,
    wait: Callable[[RetryWait], None] = lambda wait: None,
) -> Completed | Failed:
    """Send a request and return its end. ``book`` gets what it used, also when it was cut off or
    cancelled in the middle of its answer; ``hear`` the answer's text so far, each time more of it
    came, and ``wait`` each wait before another attempt."""
    began, text = False, ""
    try:
        async for event in provider.stream(request):
            match event:
                case RetryWait():
                    text = ""
                    wait(event)
                case Completed():
                    book(record.used(event))
                    return event
                case Failed():
                    if event.partial:
                        book(record.used(event.partial))
                    return event
                case TextDelta():
                    began = True
                    text += event.text
                    hear(text)
                case _:
                    began = True
    except asyncio.CancelledError:
        if began:
            # No usage comes for an answer that was left, but it is billed.
            book(Usage(input_tokens=record.meter.total, output_tokens=record.size(text)))
        raise
    raise RuntimeError("the model's stream ended without an end")
