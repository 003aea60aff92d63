"""Messages and tools as JSON."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.model.catalogue import lookup
from kimi_cli.model.codec import ChatEncoder, dumps, encode_tools
from kimi_cli.model.dialects import DIALECTS
from kimi_cli.protocol.messages import (
    AssistantTurn,
    MediaPart,
    Message,
    SystemMessage,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolTurn,
    UserTurn,
)
from kimi_cli.protocol.tools import ToolSchema
from tests.support.validate import Rules, problems

PNG = MediaPart(kind="image", url="data:image/png;base64,AAAA", name="a.png")
MP4 = MediaPart(kind="video", url="data:video/mp4;base64,AAAA")


def encode(
    *messages: Message, dialect: str = "moonshot", model: str = "kimi-k2.5", thinking: str = "on"
) -> tuple[list[dict[str, Any]], list[str]]:
    encoder = ChatEncoder(DIALECTS[dialect], lookup(model), thinking)
    encoded = [encoder.encode(message) for message in messages]
    documents = json.loads(b"[" + b",".join(one.data for one in encoded) + b"]")
    return documents, [repair for one in encoded for repair in one.repairs]


def text(words: str) -> TextPart:
    return TextPart(text=words)


def call(id: str, name: str = "shell", arguments: str = "{}") -> ToolCallPart:
    return ToolCallPart(id=id, name=name, arguments=arguments)


def result(id: str, *parts: TextPart | MediaPart) -> ToolTurn:
    return ToolTurn(id, "shell", parts)


def test_a_conversation() -> None:
    documents, repairs = encode(
        SystemMessage("Be kind."),
        UserTurn((text("a"), text("b"))),
        AssistantTurn((ThinkingPart(text="hm"), text("ok"), call("functions.shell:0"))),
        result("functions.shell:0", text("x"), text("y")),
        AssistantTurn((ThinkingPart(text="hm"), text("done"))),
    )
    function = {"name": "shell", "arguments": "{}"}
    assert documents == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "a\n\nb"},
        {
            "role": "assistant",
            "reasoning_content": "hm",
            "content": "ok",
            "tool_calls": [{"id": "functions.shell:0", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "functions.shell:0", "content": "x\ny"},
        {"role": "assistant", "content": "done"},
    ]
    assert repairs == []


def test_content_is_left_out_beside_calls_and_never_empty() -> None:
    documents, _ = encode(UserTurn(()), AssistantTurn((call("a"),)), result("a"), AssistantTurn(()))
    assert [document.get("content") for document in documents] == [
        "(empty)",
        None,
        "(empty)",
        "(empty)",
    ]
    assert "content" not in documents[1]


def test_ids_are_renumbered_for_a_self_hosted_kimi_only() -> None:
    history = (
        AssistantTurn((call("call_x"), call("toolu_y", "read"))),
        result("call_x", text("x")),
        result("toolu_y", text("y")),
        AssistantTurn((call("functions.shell:2"),)),
        result("functions.shell:2", text("z")),
        AssistantTurn((call("functions.shell:9"),)),
        result("functions.shell:9", text("z")),
    )
    documents, repairs = encode(*history, dialect="vllm")
    ids = [one["id"] for document in documents for one in document.get("tool_calls", ())]
    assert ids == [
        "functions.shell:0",
        "functions.read:1",
        "functions.shell:2",
        "functions.shell:3",
    ]
    answered = [one["tool_call_id"] for one in documents if one["role"] == "tool"]
    assert sorted(answered) == sorted(ids)
    assert repairs == ["tool_call_id_renamed", "tool_call_id_renamed"]
    for dialect, model in (("moonshot", "kimi-k2.5"), ("vllm", "qwen3")):
        documents, repairs = encode(*history, dialect=dialect, model=model)
        ids = [one["id"] for document in documents for one in document.get("tool_calls", ())]
        assert ids == ["call_x", "toolu_y", "functions.shell:2", "functions.shell:9"]
        assert repairs == []


def test_the_same_id_in_two_turns_goes_to_its_own_results() -> None:
    turn = (AssistantTurn((call("a"),)), result("a", text("x")))
    documents, _ = encode(*turn, *turn, dialect="vllm")
    assert [one["tool_call_id"] for one in documents[1::2]] == [
        "functions.shell:0",
        "functions.shell:1",
    ]


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("functions.shell:3", "shell"),
        ("mcp.server.tool", "mcp_server_tool"),
        ("shell<|x", "shell"),
        ("", "unknown"),
        ("n" * 80, "n" * 64),
    ],
)
def test_names_that_the_api_refuses_are_cleaned(written: str, sent: str) -> None:
    documents, repairs = encode(AssistantTurn((call("a", written),)))
    assert documents[0]["tool_calls"][0]["function"]["name"] == sent
    assert repairs == ["tool_name_cleaned"]


def test_media() -> None:
    turn = UserTurn((text("see"), PNG, MP4))
    documents, repairs = encode(turn)
    assert documents[0]["content"] == [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": PNG.url}},
        {"type": "video_url", "video_url": {"url": MP4.url}},
    ]
    assert repairs == []
    # Video is for the hosted API only, and a text model takes neither.
    documents, repairs = encode(turn, dialect="vllm")
    assert [part["type"] for part in documents[0]["content"]] == ["text", "image_url", "text"]
    assert repairs == ["video_left_out"]
    documents, repairs = encode(turn, model="kimi-k2-thinking")
    assert "[image a.png left out" in documents[0]["content"]
    assert repairs == ["image_left_out", "video_left_out"]


def test_media_of_results_stay_inside_or_follow_the_last_result() -> None:
    history = (
        AssistantTurn((call("functions.shell:0"), call("functions.shell:1"))),
        result("functions.shell:0", PNG),
        result("functions.shell:1", text("x")),
        UserTurn((text("and?"),)),
    )
    documents, _ = encode(*history)
    assert [one["role"] for one in documents] == ["assistant", "tool", "tool", "user"]
    assert documents[1]["content"] == [{"type": "image_url", "image_url": {"url": PNG.url}}]
    documents, _ = encode(*history, dialect="vllm")
    assert [one["role"] for one in documents] == ["assistant", "tool", "tool", "user", "user"]
    assert documents[1]["content"] == "(empty)"
    assert documents[3]["content"][1] == {"type": "image_url", "image_url": {"url": PNG.url}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("é漢🙂", '"é漢🙂"'),
        ("\ud83d\ude42", '"🙂"'),
        ("a\ud83d", '"a\ufffd"'),
        ("\ude42 é", '"\ufffd é"'),
        ({"a": [1, None]}, '{"a":[1,null]}'),
    ],
)
def test_json_is_compact_utf8(value: Any, expected: str) -> None:
    assert dumps(value).decode() == expected


@given(st.text(st.characters(), max_size=20))
def test_any_text_becomes_valid_utf8_json(words: str) -> None:
    decoded = json.loads(dumps(words).decode())
    assert decoded == words or any("\ud800" <= char <= "\udfff" for char in words)


def test_tools_get_their_types() -> None:
    schema = {
        "properties": {
            "any": {},
            "named": {"enum": ["a", "b"]},
            "number": {"const": 3},
            "maybe": {"anyOf": [{"type": "string"}, {"description": "x"}]},
            "list": {"items": {}},
            "map": {"additionalProperties": {"description": "x"}},
            "whole": {"type": "integer"},
        },
        "$defs": {"X": {"properties": {}}},
    }
    (tool,) = json.loads(encode_tools([ToolSchema("x", "Does x.", schema)]))
    assert tool["function"]["parameters"] == {
        "type": "object",
        "properties": {
            "any": {"type": "string"},
            "named": {"enum": ["a", "b"], "type": "string"},
            "number": {"const": 3, "type": "integer"},
            "maybe": {"anyOf": [{"type": "string"}, {"description": "x", "type": "string"}]},
            "list": {"items": {"type": "string"}, "type": "array"},
            "map": {
                "additionalProperties": {"description": "x", "type": "string"},
                "type": "object",
            },
            "whole": {"type": "integer"},
        },
        "$defs": {"X": {"properties": {}, "type": "object"}},
    }
    assert tool["type"] == "function"
    (tool,) = json.loads(encode_tools([ToolSchema("$web_search", "", {})]))
    assert tool == {"type": "builtin_function", "function": {"name": "$web_search"}}


_TEXTS = st.sampled_from(["", "x", "漢 \ud83d", '"\\'])
_PARTS = st.lists(st.one_of(_TEXTS.map(text), st.sampled_from([PNG, MP4])), max_size=3)
_NAMES = st.sampled_from(["shell", "functions.read:2", "", "a b"])


@st.composite
def _turns(draw: st.DrawFn) -> list[Message]:
    turns: list[Message] = [UserTurn(tuple(draw(_PARTS)))]
    for _ in range(draw(st.integers(0, 4))):
        ids = draw(st.lists(st.sampled_from(["a", "b", "functions.shell:1"]), unique=True))
        calls = [call(id, draw(_NAMES)) for id in ids]
        thought, said = ThinkingPart(text=draw(_TEXTS)), text(draw(_TEXTS))
        turns.append(AssistantTurn((thought, said, *calls)))
        turns += [ToolTurn(id, "shell", tuple(draw(_PARTS))) for id in draw(st.permutations(ids))]
    return turns


@given(
    _turns(),
    st.sampled_from(
        [
            ("moonshot", "hosted", "kimi-k2.5"),
            ("moonshot", "hosted", "kimi-k2-thinking"),
            ("moonshot-subscription", "hosted", "kimi-for-coding"),
            ("vllm", "vllm", "moonshotai/Kimi-K2.5"),
            ("openai-compatible", "openai", "kimi-k2.5"),
        ]
    ),
)
def test_any_history_is_a_valid_request(turns: list[Message], where: tuple[str, Any, str]) -> None:
    dialect, flavour, model = where
    messages, _ = encode(*turns, dialect=dialect, model=model)
    body = {"model": model, "messages": messages}
    assert problems(body, flavour, rules=Rules()) == []
