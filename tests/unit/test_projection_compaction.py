"""Compaction and shrinking in the projection: always a valid request, however often."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    UserMessage,
)
from kimi_cli.protocol.messages import MediaPart, TextPart, ToolCallPart
from tests.support.sse import Flavour
from tests.support.validate import Rules, problems

CASES = [
    ("moonshot", "hosted", "kimi-k2.5"),
    ("vllm", "vllm", "moonshotai/Kimi-K2.5"),
    ("openai-compatible", "openai", "some-model"),
]


def start() -> SessionStarted:
    return SessionStarted(
        program="test", cwd="/w", model="m", thinking="", system_prompt="Be good.", tools=[]
    )


def user(text: str) -> UserMessage:
    return UserMessage(parts=[TextPart(text=text)])


def step(number: int, calls: int, text: str = "", results: int | None = None) -> list[Event]:
    ids = [f"functions.shell:{number + i}" for i in range(calls)]
    parts: list[Any] = [TextPart(text=text)] if text else []
    parts += [ToolCallPart(id=i, name="shell", arguments="{}") for i in ids]
    events: list[Event] = [AssistantMessage(parts=parts)]
    for index, identity in enumerate(ids[: calls if results is None else results]):
        events.append(ToolStarted(call_id=identity, name="shell"))
        events.append(
            ToolResult(
                call_id=identity,
                name="shell",
                status="ok",
                parts=[TextPart(text=f"{number}.{index} " + "x" * 300)],
            )
        )
    return events


def numbered(events: list[Event]) -> list[Event]:
    for number, event in enumerate(events, 1):
        event.seq = number
        if isinstance(event, Compaction | Shrink):
            # What a compaction names must have happened.
            event.upto = min(event.upto, number - 1)
    return events


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Whole steps, and between them compactions and shrinks of whatever came before."""
    events: list[Event] = [start()]
    calls = 0
    for _ in range(draw(st.integers(1, 12))):
        kind = draw(
            st.sampled_from(["user", "step", "step", "compact", "shrink", "rules", "crash"])
        )
        if kind == "user":
            events.append(user(draw(st.sampled_from(["do it", "日本", "also that"]))))
        elif kind in ("step", "crash"):
            count = draw(st.integers(1, 3))
            finished = draw(st.integers(0, count)) if kind == "crash" else count
            base = draw(st.sampled_from([calls, 0]))
            events += step(base, count, draw(st.sampled_from(["", "I look"])), finished)
            calls += count
        elif kind == "rules":
            files = [InstructionFile(path="/w/AGENTS.md", digest="d")]
            events.append(Instructions(files=files, text=draw(st.sampled_from(["be terse", "x"]))))
        elif kind == "compact":
            boundary = [
                i for i, e in enumerate(events) if isinstance(e, UserMessage | AssistantMessage)
            ]
            upto = draw(st.sampled_from([*boundary, len(events)]))
            pinned = draw(st.sampled_from([[], [TextPart(text="kept")]]))
            events.append(Compaction(upto=upto, note="a note", pinned=pinned))
        else:
            events.append(Shrink(upto=draw(st.integers(0, len(events))), limit=100))
    return numbered([*events, user("go on")])


def projected(events: list[Event], dialect: str, model: str) -> Projection:
    projection = Projection(lambda: ChatEncoder(dialect_named(dialect), lookup(model), ""))
    for event in events:
        projection.feed(event)
    return projection


@pytest.mark.parametrize(("dialect", "flavour", "model"), CASES)
@settings(max_examples=200, deadline=None)
@given(history=histories())
def test_every_compacted_history_makes_a_valid_request(
    dialect: str, flavour: str, model: str, history: list[Event]
) -> None:
    projection = projected(history, dialect, model)
    joined = b"[" + b",".join(projection.messages) + b"]"
    body = {"model": model, "stream": True, "messages": json.loads(joined)}
    rules = Rules(models=None, api_key=None, native_ids=flavour == "vllm")
    assert problems(body, cast(Flavour, flavour), rules=rules) == []
    assert len(projection.sources) == len(projection.messages)


@settings(max_examples=200, deadline=None)
@given(history=histories())
def test_loading_gives_what_feeding_gave(history: list[Event]) -> None:
    fed = projected(history, "moonshot", "kimi-k2.5")
    loaded = Projection(lambda: ChatEncoder(dialect_named("moonshot"), lookup("kimi-k2.5"), ""))
    for event in history[loaded.load(history) :]:
        loaded.feed(event)
    assert loaded.messages == fed.messages
    assert loaded.sources == fed.sources


@settings(max_examples=100, deadline=None)
@given(history=histories(), more=st.lists(st.sampled_from(["user", "step"]), max_size=6))
def test_between_compactions_it_only_appends(history: list[Event], more: list[str]) -> None:
    before = projected(history, "moonshot", "kimi-k2.5").messages
    tail: list[Event] = []
    for number, kind in enumerate(more):
        tail += [user("more")] if kind == "user" else step(100 + number * 3, 2)
    after = projected(numbered([*history, *tail]), "moonshot", "kimi-k2.5").messages
    assert after[: len(before)] == before


def test_a_look_ahead_changes_nothing() -> None:
    history = numbered([start(), user("do it"), *step(0, 2), *step(2, 1)])
    projection = projected(history, "moonshot", "kimi-k2.5")
    before = list(projection.messages)
    event = Compaction(upto=7, note="n", pinned=[TextPart(text="kept")])
    ahead = projection.with_event(event)
    assert projection.messages == before
    projection.feed(event)
    assert projection.messages == ahead.messages
    assert [source.kind for source in ahead.sources] == ["system", "pinned", "assistant", "tool"]


def test_the_newest_instructions_take_the_place_of_the_first() -> None:
    def rules(text: str) -> Instructions:
        return Instructions(files=[InstructionFile(path="/w/AGENTS.md", digest=text)], text=text)

    history = numbered([start(), rules("old"), user("a"), *step(0, 1), rules("new"), user("b")])
    projection = projected(history, "moonshot", "kimi-k2.5")
    kinds = [source.kind for source in projection.sources]
    assert kinds == ["system", "instructions", "user", "assistant", "tool", "instructions", "user"]
    event = Compaction(upto=2, note="n", seq=9)
    projection.feed(event)
    texts = [json.loads(message).get("content") for message in projection.messages]
    assert texts[1] == "new"
    assert "old" not in texts


def test_media_of_results_that_are_shrunk_are_named_instead() -> None:
    url = "data:image/png;base64," + "A" * 400
    history = numbered([start(), user("look"), *step(0, 1)])
    result = history[-1]
    assert isinstance(result, ToolResult)
    result.parts.append(MediaPart(kind="image", url=url, name="a.png"))
    for dialect, _, model in CASES[:2]:
        projection = projected(history, dialect, model)
        assert url in b"".join(projection.messages).decode()
        projection.feed(Shrink(upto=result.seq, limit=100, seq=result.seq + 1))
        joined = b"".join(projection.messages).decode()
        assert url not in joined
        assert "[image a.png: dropped to save context]" in joined


def test_results_are_shrunk_up_to_the_number_and_no_further() -> None:
    history = numbered([start(), user("do it"), *step(0, 1), *step(1, 1), Shrink(upto=5, limit=50)])
    projection = projected([*history, *numbered([*history, *step(2, 1)])[9:]], "moonshot", "k")
    results = [json.loads(m)["content"] for m in projection.messages if b'"role":"tool"' in m]
    assert "bytes dropped" in results[0]
    assert len(results[0]) < 200
    assert [len(text) > 300 for text in results] == [False, True, True]
