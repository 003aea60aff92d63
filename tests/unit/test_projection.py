"""Whatever the log holds, the projection makes a request that a strict endpoint takes."""

import json
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_cli.agent.conversation import NEVER_RAN, UNKNOWN_RESULT
from kimi_cli.agent.projection import Projection
from kimi_cli.model.catalogue import lookup
from kimi_cli.model.codec import ChatEncoder
from kimi_cli.model.dialects import dialect_named
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    Notice,
    SessionStarted,
    ToolResult,
    ToolStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import AssistantPart, TextPart, ThinkingPart, ToolCallPart
from tests.support.sse import Flavour
from tests.support.validate import Rules, problems

START = SessionStarted(
    program="test", cwd="/w", model="kimi-k2.5", thinking="", system_prompt="Be good.", tools=[]
)
CASES = [
    ("moonshot", "hosted", "kimi-k2.5"),
    ("moonshot", "hosted", "kimi-k2-thinking"),
    ("vllm", "vllm", "moonshotai/Kimi-K2.5"),
    ("openai-compatible", "openai", "some-model"),
]

ids = st.sampled_from(["functions.shell:0", "functions.shell:1", "call_x", "a b", ""])
texts = st.sampled_from(["", "hello", "  ", "日本", "\ud800"])
arguments = st.sampled_from(
    ["{}", '{"command": "ls"}', '{"command": "l', "[1]", "true", "", '{"a": "x\ny"}', '{"a": NaN}']
)
calls = st.builds(
    ToolCallPart,
    id=ids,
    name=st.sampled_from(["shell", "functions.shell:3", "no such/tool"]),
    arguments=arguments,
)
answers = st.builds(
    AssistantMessage,
    parts=st.lists(
        calls | st.builds(TextPart, text=texts) | st.builds(ThinkingPart, text=texts), max_size=4
    ),
    partial=st.booleans(),
)
results = st.builds(
    ToolResult,
    call_id=ids,
    name=st.just("shell"),
    status=st.just("ok"),
    parts=st.lists(st.builds(TextPart, text=texts), max_size=2),
)
histories = st.lists(
    answers
    | results
    | st.builds(UserMessage, parts=st.lists(st.builds(TextPart, text=texts), max_size=2))
    | st.builds(ToolStarted, call_id=ids, name=st.just("shell"))
    | st.builds(Notice, text=texts),
    max_size=12,
)


def project(events: list[Event], dialect: str = "moonshot", model: str = "kimi-k2.5") -> Projection:
    projection = Projection(lambda: ChatEncoder(dialect_named(dialect), lookup(model), ""))
    for event in events:
        projection.feed(event)
    return projection


def body(projection: Projection, model: str) -> dict[str, Any]:
    joined = b"[" + b",".join(projection.messages) + b"]"
    return {"model": model, "stream": True, "messages": json.loads(joined)}


@pytest.mark.parametrize(("dialect", "flavour", "model"), CASES)
@settings(max_examples=150, deadline=None)
@given(history=histories)
def test_every_history_makes_a_valid_request(
    dialect: str, flavour: str, model: str, history: list[Event]
) -> None:
    last = UserMessage(parts=[TextPart(text="go on")])
    projection = project([START, *history, last], dialect, model)
    rules = Rules(models=None, api_key=None, native_ids=flavour == "vllm")
    assert problems(body(projection, model), cast(Flavour, flavour), rules=rules) == []


@settings(max_examples=100, deadline=None)
@given(history=histories, more=histories)
def test_what_was_projected_never_changes(history: list[Event], more: list[Event]) -> None:
    before = project([START, *history]).messages
    after = project([START, *history, *more]).messages
    assert after[: len(before)] == before


def _call(number: int, arguments: str = "{}") -> ToolCallPart:
    return ToolCallPart(id=f"functions.shell:{number}", name="shell", arguments=arguments)


def _answer(*parts: AssistantPart, partial: bool = False) -> AssistantMessage:
    return AssistantMessage(parts=list(parts), partial=partial)


def test_a_crash_is_told_to_the_model() -> None:
    projection = project([START, UserMessage(parts=[TextPart(text="do it")])])
    projection.feed(_answer(_call(0), _call(1)))
    projection.feed(ToolStarted(call_id="functions.shell:0", name="shell"))
    mended = projection.feed(UserMessage(parts=[TextPart(text="and now?")]))
    assert [m.kind for m in mended] == ["unknown_result", "call_never_ran"]
    contents = [json.loads(m)["content"] for m in projection.messages[-3:]]
    assert contents == [UNKNOWN_RESULT, NEVER_RAN, "and now?"]


def test_results_are_sent_in_call_order() -> None:
    projection = project([START, _answer(_call(0), _call(1))])
    for number in (1, 0):
        projection.feed(
            ToolResult(
                call_id=f"functions.shell:{number}",
                name="shell",
                status="ok",
                parts=[TextPart(text=str(number))],
            )
        )
    assert [json.loads(m)["content"] for m in projection.messages[-2:]] == ["0", "1"]


def test_malformed_arguments_are_mended_and_reported() -> None:
    projection = project([START])
    mended = projection.feed(_answer(_call(0, '{"command": "l')))
    assert [(m.kind, m.call_id) for m in mended] == [("malformed_arguments", "functions.shell:0")]
    assert json.loads(projection.messages[-1])["tool_calls"][0]["function"]["arguments"] == "{}"


def test_an_interrupted_answer_keeps_its_text_and_drops_its_calls() -> None:
    projection = project([START, _answer(TextPart(text="I will"), _call(0), partial=True)])
    message = json.loads(projection.messages[-1])
    assert message["content"] == "I will[interrupted here]"
    assert "tool_calls" not in message
