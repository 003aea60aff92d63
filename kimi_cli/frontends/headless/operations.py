"""``--input-format stream-json``: operations, one JSON object a line, over stdin."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

from pydantic import ValidationError

from kimi_cli.agent import Session
from kimi_cli.frontends.headless.progress import say
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Notice, TurnEnded, TurnStarted
from kimi_cli.protocol.operations import (
    Background,
    BetweenTurns,
    Compact,
    Interrupt,
    Redo,
    Say,
    SetModel,
    Steer,
    Undo,
    operation_adapter,
)
from kimi_cli.store.errors import StoreError

_WANTED = {"string_type": "a text", "list_type": "a list", "dict_type": "an object"}
SHOWN = 100
"""Bytes of a line that a complaint about it quotes."""


async def operations(
    session: Session, refused: Callable[[], None] = lambda: None
) -> AsyncIterator[Say | Compact | BetweenTurns]:
    """Yield the user messages as they come, and in order with them what is done between turns: a
    compaction that is asked for while no turn runs, too. Everything else goes straight to the
    session, also while a turn runs, and steering without a turn is a message. Ends with stdin. A
    line that is no operation is left out: an error notice in the record says why, at once, and
    ``refused`` is called."""
    adapter = operation_adapter()
    loop = asyncio.get_running_loop()
    inbox: asyncio.Queue[Say | Compact | BetweenTurns | None] = asyncio.Queue()
    in_turn = False
    number = 0

    def refuse(why: str, line: bytes) -> None:
        refused()
        shown = line[:SHOWN].decode("utf-8", "replace") + "…" * (len(line) > SHOWN)
        notice = Notice(
            level="error", text=f"stdin line {number} is not an operation: {why}: {shown}"
        )
        try:
            session.record(notice)
        except StoreError:
            say(f"kimi: {notice.text}")

    def watch(event: Event) -> None:
        nonlocal in_turn
        in_turn = isinstance(event, TurnStarted) or (in_turn and not isinstance(event, TurnEnded))

    session.subscribe(watch)

    def take(line: bytes | None) -> None:
        nonlocal number
        number += 1
        if line is None:
            inbox.put_nowait(None)
            return
        line = line.strip()
        if not line:
            return
        try:
            operation = adapter.validate_json(line)
        except ValidationError as error:
            refuse(_wrong(error.errors(include_url=False)[0]), line)
            return
        if isinstance(operation, Say) and not (operation.text.strip() or operation.parts):
            refuse("the message is empty", line)
        elif isinstance(operation, Say | SetModel | Undo | Redo) or (
            isinstance(operation, Compact) and not in_turn
        ):
            inbox.put_nowait(operation)
        elif isinstance(operation, Steer) and not session.busy:
            inbox.put_nowait(Say(text=operation.text))
        elif isinstance(operation, Interrupt) and not session.busy and not inbox.empty():
            session.interrupt_next(operation.reason)
        elif isinstance(operation, Background):
            if not session.background():
                say("kimi: there is no running command to move to the background")
        else:
            try:
                session.send(operation)
            except StoreError as error:
                say(f"kimi: {error}")

    def read() -> None:
        # A thread, because neither asyncio nor select can wait for a regular file.
        try:
            for line in sys.stdin.buffer:
                loop.call_soon_threadsafe(take, line)
            loop.call_soon_threadsafe(take, None)
        except (OSError, ValueError, AttributeError, RuntimeError):
            if not loop.is_closed():
                loop.call_soon_threadsafe(take, None)

    threading.Thread(target=read, name="stdin", daemon=True).start()
    while (operation := await inbox.get()) is not None:
        yield operation
        # Steering that came too late for its turn is a message of its own.
        if late := session.undelivered():
            yield Say(text="\n".join(late))


def _wrong(problem: Any) -> str:
    """What is wrong with a line, of pydantic's account of it."""
    # The first name of a place is the operation's own.
    kind, *inside = [str(part) for part in problem["loc"]] or [""]
    field = ".".join(inside)
    match problem["type"]:
        case "json_invalid":
            return "it is not JSON"
        case "model_attributes_type" | "dict_type" | "model_type" if not inside:
            return "it is not a JSON object"
        case "union_tag_not_found":
            return f"{field or 'it'} has no type"
        case "union_tag_invalid":
            known = problem["ctx"]["expected_tags"].replace("'", "")
            where = f"{field}: " if field else ""
            return f"{where}there is no type {problem['ctx']['tag']}, only {known}"
        case "missing":
            return f"{kind} needs {field}"
        case "extra_forbidden":
            return f"{kind} has no field {field}"
        case other:
            return f"{field} of {kind} is not {_WANTED.get(other, 'a value that it can have')}"
