"""``--input-format stream-json``: operations, one JSON object a line, over stdin."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator

from pydantic import ValidationError

from kimi_cli.agent import Session
from kimi_cli.frontends.headless.progress import say
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import TurnEnded, TurnStarted
from kimi_cli.protocol.operations import Compact, Interrupt, Say, Steer, operation_adapter


async def operations(session: Session) -> AsyncIterator[Say | Compact]:
    """Yield the user messages as they come, and what asks for a compaction while no turn runs;
    everything else goes straight to the session, also while a turn runs, and steering without a
    turn is a message. Ends with stdin. A line that is no operation is reported on stderr and left
    out."""
    adapter = operation_adapter()
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[Say | Compact | None] = asyncio.Queue()
    in_turn = False

    def watch(event: Event) -> None:
        nonlocal in_turn
        in_turn = isinstance(event, TurnStarted) or (in_turn and not isinstance(event, TurnEnded))

    session.subscribe(watch)

    def take(line: bytes | None) -> None:
        if line is None:
            inbox.put_nowait(None)
            return
        try:
            operation = adapter.validate_json(line)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            say(f"kimi: not an operation: {problem['msg']}: {line[:100]!r}")
            return
        if isinstance(operation, Say) and not (operation.text.strip() or operation.parts):
            say("kimi: not an operation: the message is empty")
        elif isinstance(operation, Say) or (isinstance(operation, Compact) and not in_turn):
            inbox.put_nowait(operation)
        elif isinstance(operation, Steer) and not session.busy:
            inbox.put_nowait(Say(text=operation.text))
        elif isinstance(operation, Interrupt) and not session.busy and not inbox.empty():
            session.interrupt_next(operation.reason)
        else:
            session.send(operation)

    def read() -> None:
        # A thread, because neither asyncio nor select can wait for a regular file.
        try:
            for line in sys.stdin.buffer:
                if line.strip():
                    loop.call_soon_threadsafe(take, line)
            loop.call_soon_threadsafe(take, None)
        except (OSError, ValueError, AttributeError, RuntimeError):
            if not loop.is_closed():
                loop.call_soon_threadsafe(take, None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (operation := await inbox.get()) is not None:
        yield operation
        # Steering that came too late for its turn is a message of its own.
        if late := session.take_steering():
            yield Say(text="\n".join(late))
