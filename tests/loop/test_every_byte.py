"""A session's file cut at every byte: it opens, keeps all that was whole, and makes a valid request
that tells the model which calls may have run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.agent.conversation import NEVER_RAN, UNKNOWN_RESULT
from kimi_cli.agent.projection import Projection
from kimi_cli.model.catalogue import lookup
from kimi_cli.model.codec import ChatEncoder
from kimi_cli.model.dialects import dialect_named
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    Compaction,
    InstructionFile,
    Instructions,
    SessionStarted,
    Shrink,
    ToolResult,
    ToolStarted,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import TextPart, ThinkingPart, ToolCallPart
from kimi_cli.protocol.stops import StopReason
from kimi_cli.store.events_file import EVENTS, encode_event, read_events
from kimi_cli.store.log import SessionLog
from tests.support.validate import Rules, problems

pytestmark = pytest.mark.long

MODEL = "kimi-k2.5"


def history() -> list[Event]:
    """A step of two calls, a shrink, a compaction in the middle of it, and a step after it."""
    events: list[Event] = [
        SessionStarted(
            program="t", cwd="/w", model=MODEL, thinking="", system_prompt="Be good.", tools=[]
        ),
        Instructions(files=[InstructionFile(path="/w/AGENTS.md", digest="d")], text="Be terse."),
        TurnStarted(),
        UserMessage(parts=[TextPart(text="tu es, 日本")]),
    ]
    for number in (0, 2):
        ids = [f"functions.shell:{number + i}" for i in range(2)]
        parts: list[Any] = [ThinkingPart(text="hm"), TextPart(text="so")]
        parts += [ToolCallPart(id=i, name="shell", arguments='{"command": "é"}') for i in ids]
        events.append(AssistantMessage(parts=parts))
        for identity in ids:
            events.append(ToolStarted(call_id=identity, name="shell"))
            result = [TextPart(text="out " * 12)]
            events.append(ToolResult(call_id=identity, name="shell", status="ok", parts=[*result]))
        if number == 0:
            events.append(Shrink(upto=8, limit=20))
            events.append(Compaction(upto=8, note="n", pinned=[TextPart(text="kept 日本")]))
    events += [
        AssistantMessage(parts=[TextPart(text="done")]),
        TurnEnded(reason=StopReason.DONE, answer="done"),
    ]
    for number, event in enumerate(events, 1):
        event.seq = number
    return events


def project(events: list[Event]) -> Projection:
    projection = Projection(lambda: ChatEncoder(dialect_named("moonshot"), lookup(MODEL), ""))
    for event in events[projection.load(events) :]:
        projection.feed(event)
    return projection


def test_cut_at_every_byte(tmp_path: Path) -> None:
    log = SessionLog.create(tmp_path, tmp_path)
    for event in history():
        log.append(event)
    log.close()
    path = log.path / EVENTS
    whole = path.read_bytes()
    lines = [encode_event(event) for event in read_events(path).events]
    ends = [i + 1 for i, byte in enumerate(whole) if byte == 0x0A]
    judged: set[int] = set()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        reopened = SessionLog.open(tmp_path, log.id)
        try:
            complete = sum(end <= cut for end in ends)
            assert path.stat().st_size == cut
            if complete in judged or not complete:
                continue
            judged.add(complete)
            loaded = read_events(path)
            assert [encode_event(event) for event in loaded.events] == lines[:complete]
            reopened.append(UserMessage(parts=[TextPart(text="go on")], seq=complete + 1))
            judge(list(read_events(path).events))
        finally:
            reopened.close()
    assert judged == set(range(1, len(lines) + 1))


def judge(events: list[Event]) -> None:
    """The request of a cut history is valid and honest."""
    messages = json.loads(b"[" + b",".join(project(events).messages) + b"]")
    body = {"model": MODEL, "stream": True, "messages": messages}
    assert problems(body, "hosted", rules=Rules(models=None, api_key=None)) == []
    assert messages[-1]["content"] == "go on"
    said = {m["tool_call_id"]: m["content"] for m in messages if m["role"] == "tool"}
    done = {event.call_id for event in events if isinstance(event, ToolResult)}
    begun = {event.call_id for event in events if isinstance(event, ToolStarted)}
    for identity, text in said.items():
        assert (text == UNKNOWN_RESULT) == (identity in begun - done)
        assert (text == NEVER_RAN) == (identity not in begun | done)
