"""What the scripted server answers, as the real openai client sees it."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import sse
from tests.support.replies import (
    Usage,
    empty_tool_calls,
    leaked,
    text,
    tool_calls,
)
from tests.unit.scripted_client import (
    ECHO,
    HI,
    KEY,
    ask,
    assembled,
    chat,
    conversation,
    exchange,
    http,
    serving,
)

TEXT = st.text('aé中🦊 "\\\n{}:,')


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("flavour", ["hosted", "vllm", "openai"])
def test_text_with_thinking_streamed_and_not(flavour: Any, stream: bool) -> None:
    with serving([text("héllo", thinking="hm…", fragments=3)], flavour=flavour) as (server, api):
        if stream:
            chunks = ask(api)
            said = assembled(chunks)
            assert (said["text"], said["thinking"], said["finish"]) == ("héllo", "hm…", "stop")
            deltas = [c.choices[0].delta.model_extra for c in chunks if c.choices]
            assert any(("reasoning" in (d or {})) == (flavour == "vllm") and d for d in deltas)
        else:
            answer = api.chat.completions.create(model="kimi-k2.5", messages=HI)  # type: ignore[arg-type]
            message = answer.choices[0].message
            field = "reasoning" if flavour == "vllm" else "reasoning_content"
            assert message.content == "héllo"
            assert (message.model_extra or {})[field] == "hm…"
            assert answer.usage is not None and answer.usage.prompt_tokens > 0
        server.check()
        assert server.requests[0].body["model"] == "kimi-k2.5"
        assert server.requests[0].headers["authorization"] == f"Bearer {KEY}"
        one = server.requests[0]
        assert one.arrived_ns <= one.received_ns <= one.answered_ns
        assert (one.outcome, one.status) == ("answered", 200)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"fragments": 7},
        {"fragments": 7, "split_seed": 1},
        {"argument_fragments": 0},
        {"name_fragments": 3, "repeat_ids": True},
        {"fragments": 5, "interleave": True},
        {"fragments": 5, "interleave": True, "grouped": True},
        {"fragments": 1000, "http_chunk": 1},
        {"http_chunk": 5, "crlf": True, "pings": True},
    ],
)
def test_calls_arrive_whole_however_they_are_cut(options: dict[str, Any]) -> None:
    reply = tool_calls([ECHO, ("read", '{"path": "/ü"}', "own-id")], text="so", **options)
    with serving([reply]) as (_, api):
        said = assembled(ask(api))
    assert said["calls"] == [
        ("functions.shell:0", "shell", '{"command": "echo 中文 🦊"}'),
        ("own-id", "read", '{"path": "/ü"}'),
    ]
    assert (said["text"], said["finish"]) == ("so", "tool_calls")


def test_deltas_interleave_by_index() -> None:
    reply = tool_calls([ECHO, ECHO], argument_fragments=3, interleave=True)
    with serving([reply]) as (_, api):
        chunks = ask(api)
    order = [
        delta.index
        for chunk in chunks
        for choice in chunk.choices
        for delta in choice.delta.tool_calls or []
    ]
    assert order == [0, 1] * 4


def test_http_chunks_cut_inside_a_character() -> None:
    with serving([text("中文", http_chunk=1)]) as (server, _):
        answer = exchange(server, http(server, chat()))
    assert b"1\r\n\xe4\r\n1\r\n\xb8\r\n1\r\n\xad\r\n" in answer


def test_a_hundred_calls_and_a_huge_argument() -> None:
    huge = {"command": "x" * 2_000_000}
    calls = [("shell", huge), *[("read", {"path": str(n)}) for n in range(99)]]
    with serving([tool_calls(calls, argument_fragments=20)]) as (_, api):
        said = assembled(ask(api))
    assert json.loads(said["calls"][0][2]) == huge
    assert [call[0] for call in said["calls"][1:]] == [f"functions.read:{n}" for n in range(1, 100)]


def test_ids_count_on_over_the_conversation_or_are_missing() -> None:
    history = conversation([[("shell", "functions.shell:7")], [("read", "functions.read:8")]])
    foreign = conversation([[("shell", "call_x"), ("read", "call_y")]])
    script = [tool_calls([ECHO]), tool_calls([ECHO]), tool_calls([("shell", {}, None)])]
    with serving(script) as (_, api):
        assert assembled(ask(api, messages=history))["calls"][0][0] == "functions.shell:9"
        assert assembled(ask(api, messages=foreign))["calls"][0][0] == "functions.shell:2"
        assert assembled(ask(api))["calls"] == [(None, "shell", "{}")]


def test_finish_reason_and_done_can_be_missing_or_odd() -> None:
    script = [
        text("a", finish_reason=None, usage_at="absent", done=False),
        text("a", finish_reason="length"),
        empty_tool_calls(),
    ]
    with serving(script) as (_, api):
        cut = ask(api)
        assert [c.choices[0].delta.content for c in cut] == ["", "a"]
        assert assembled(cut)["finish"] is None
        assert assembled(ask(api))["finish"] == "length"
        empty = assembled(ask(api))
        assert (empty["finish"], empty["calls"]) == ("tool_calls", [])


def test_usage_stands_where_the_flavour_or_the_script_puts_it() -> None:
    numbers = Usage(prompt=100, completion=20, cached=64)
    asked = {"stream_options": {"include_usage": True}}
    with serving([text("a", usage=numbers)] * 2) as (_, api):
        chunks = ask(api)
        usage = chunks[-1].choices[0].model_extra["usage"]
        assert (usage["total_tokens"], usage["cached_tokens"]) == (120, 64)
        assert all(chunk.usage is None for chunk in chunks)
    places = [text("a", usage_at=place) for place in ("auto", "auto", "final", "choice", "absent")]
    with serving(places, flavour="vllm") as (_, api):
        assert ask(api)[-1].choices
        assert ask(api, **asked)[-1].usage.prompt_tokens > 0
        last = ask(api)[-1]
        assert last.choices == [] and last.usage.total_tokens > 0
        assert "usage" in ask(api)[-1].choices[0].model_extra
        assert not ask(api)[-1].choices[0].model_extra


def test_cached_tokens_follow_the_shared_prefix() -> None:
    with serving([text("a")] * 2, flavour="openai") as (server, api):
        long = [{"role": "user", "content": "x" * 4000}]
        ask(api, messages=long)
        last = ask(api, messages=[*long, *HI], stream_options={"include_usage": True})[-1]
        assert last.usage.prompt_tokens_details.cached_tokens > 900
        assert [one.shared_prefix > 3600 for one in server.requests] == [False, True]


@settings(max_examples=50)
@given(TEXT, st.integers(1, 30), st.none() | st.integers())
def test_split_loses_nothing(whole: str, pieces: int, seed: int | None) -> None:
    parts = sse.split(whole, pieces, seed)
    assert "".join(parts) == whole
    assert len(parts) == max(1, min(pieces, len(whole)))
    assert all(parts) or not whole


def test_leaked_markers() -> None:
    call = ("read", {"path": "a", "lines": 3})
    k2 = '<|tool_call_begin|>functions.read:4<|tool_call_argument_begin|>{"path": "a", "lines": 3}'
    k2 += "<|tool_call_end|>"
    assert leaked([call], "bare", 4) == k2
    assert leaked([call], first=4) == (
        f"<|tool_calls_section_begin|>{k2}<|tool_calls_section_end|>"
    )
    assert leaked([call], "singular", 4) == (
        f"<|tool_call_section_begin|>{k2}<|tool_call_section_end|>"
    )
    assert leaked([call], "k3") == (
        '<|open|>tools<|sep|><|open|>call tool="read" index="1"<|sep|>'
        '<|open|>argument key="path" type="string"<|sep|>a<|close|>argument<|sep|>'
        '<|open|>argument key="lines" type="number"<|sep|>3<|close|>argument<|sep|>'
        "<|close|>call<|sep|><|close|>tools<|sep|>"
    )
    assert '<|open|>json type="object"<|sep|>{"path"' in leaked([call], "k3-json")
