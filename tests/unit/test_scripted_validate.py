"""Which chat requests the scripted server refuses."""

from typing import Any

import pytest

from tests.support.validate import Rules, problems
from tests.unit.scripted_client import HI, KEY, chat, conversation


def tool(schema: Any, name: str = "t") -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": schema}}


def wrong_call(**changes: Any) -> list[dict[str, Any]]:
    messages = conversation([[("a", "x")]])
    messages[1]["tool_calls"][0]["function"] |= changes
    return messages


ONE = [[("shell", "functions.shell:0")]]
TWO_IDS = conversation([[("a", "x"), ("b", "y")]])
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
OBJECT = {"type": "object"}

GOOD: list[tuple[str, dict[str, Any]]] = [
    ("hosted", {}),
    ("hosted", {"messages": conversation(ONE), "temperature": 1, "top_p": 0.95}),
    ("hosted", {"messages": conversation(ONE, content=None)}),
    ("hosted", {"messages": [TWO_IDS[i] for i in (0, 1, 3, 2)]}),
    ("hosted", {"messages": [{"role": "user", "content": [IMAGE]}]}),
    ("hosted", {"messages": [*HI, {"role": "assistant", "content": "", "partial": True}]}),
    (
        "hosted",
        {
            "messages": conversation(ONE, reasoning_content=None),
            "thinking": {"type": "disabled"},
            "temperature": 0.6,
        },
    ),
    ("hosted", {"model": "kimi-k2-0905", "temperature": 0.3}),
    ("hosted", {"tools": [{"type": "builtin_function", "function": {"name": "$web_search"}}]}),
    ("hosted", {"tools": [tool({"type": "object", "properties": {"a": {"enum": [1]}}})]}),
    ("vllm", {"messages": conversation([*ONE, [("read", "functions.read:1")]])}),
    ("vllm", {"messages": conversation([[("shell", "functions.shell:40")]])}),
    ("vllm", {"messages": conversation([[("shell", "call_1")]]), "model": "tiny"}),
    ("vllm", {"temperature": 0.2, "max_tokens": 5, "stream_options": {"include_usage": True}}),
    ("openai", {"messages": [{"role": "developer", "content": "x"}, *HI]}),
]

BAD: list[tuple[str, dict[str, Any], str]] = [
    ("hosted", {"messages": []}, "must not be empty"),
    ("hosted", {"messages": [{"role": "robot", "content": "x"}]}, "unknown role"),
    ("vllm", {"messages": [{"role": "developer", "content": "x"}]}, "unknown role"),
    ("hosted", {"messages": [{"role": "user", "content": ""}]}, "position 0 with role 'user'"),
    ("hosted", {"messages": [{"role": "user"}]}, "must not be empty"),
    ("hosted", {"messages": [*HI, {"role": "assistant"}]}, "role 'assistant' must not be empty"),
    ("hosted", {"messages": [*HI, {"role": "assistant", "content": ""}]}, "must not be empty"),
    ("hosted", {"messages": conversation(ONE, content="")}, "empty beside tool_calls"),
    ("vllm", {"messages": conversation(ONE, content="")}, "empty beside tool_calls"),
    ("hosted", {"messages": conversation(ONE)[:2]}, "have none: functions.shell:0"),
    ("hosted", {"messages": [*TWO_IDS[:3], *HI]}, "have none: y"),
    ("hosted", {"messages": [*TWO_IDS[:3], HI[0], TWO_IDS[3]]}, "have none: y"),
    ("hosted", {"messages": [*conversation(ONE), conversation(ONE)[-1]]}, "is not found"),
    ("hosted", {"messages": [HI[0], conversation(ONE)[-1]]}, "is not found"),
    ("hosted", {"messages": conversation([[("a", "x"), ("b", "x")]])}, "x is duplicated"),
    ("hosted", {"messages": wrong_call(arguments={})}, "holds a JSON object"),
    ("hosted", {"messages": wrong_call(arguments="true")}, "holds a JSON object"),
    ("hosted", {"messages": wrong_call(arguments='{"a": ')}, "holds a JSON object"),
    ("hosted", {"messages": wrong_call(name="a b")}, "function name 'a b' is invalid"),
    (
        "hosted",
        {"messages": conversation(ONE, reasoning_content=None)},
        "reasoning_content is missing in assistant tool call message at index 1",
    ),
    ("hosted", {"temperature": 0.5}, "invalid temperature: only 1 is allowed for this model"),
    (
        "hosted",
        {"temperature": 1, "thinking": {"type": "disabled"}},
        "invalid temperature: only 0.6 is allowed for this model",
    ),
    ("hosted", {"top_p": 0.9}, "invalid top_p"),
    ("hosted", {"thinking": True}, "thinking.type"),
    ("hosted", {"tool_choice": "required", "tools": [tool(OBJECT)]}, "incompatible"),
    ("vllm", {"tool_choice": "auto"}, "`tools` must be set"),
    ("hosted", {"tools": [tool({"type": "object", "properties": {"a": {}}})]}, "properties.a"),
    (
        "hosted",
        {
            "tools": [
                tool(
                    {
                        "type": "object",
                        "properties": {"a": {"type": "array", "items": {"anyOf": [{}]}}},
                    }
                )
            ]
        },
        "properties.a.items.anyOf[0]",
    ),
    ("hosted", {"tools": [tool({"type": "object"}, "a b")]}, "'a b' is invalid"),
    ("hosted", {"tools": [tool({"type": "object"}, "a" * 65)]}, "is invalid"),
    ("hosted", {"tools": [tool(OBJECT), tool(OBJECT)]}, "t is duplicated"),
    ("hosted", {"tools": [{"name": "a"}]}, "tools[0] must be a function"),
    ("hosted", {"max_tokens": 0}, "max_tokens must be a positive"),
    ("hosted", {"max_completion_tokens": True}, "max_completion_tokens must be a positive"),
    ("vllm", {"stream": False, "stream_options": {}}, "`stream=True`"),
    (
        "hosted",
        {"model": "kimi-k2-thinking", "messages": [{"role": "user", "content": [IMAGE]}]},
        "does not support image_url",
    ),
    (
        "vllm",
        {"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {}}]}]},
        "video_url",
    ),
    ("vllm", {"messages": conversation([[("shell", "call_1")]])}, "running counter"),
    (
        "vllm",
        {"messages": conversation([*ONE, [("read", "functions.read:0")]])},
        "id functions.read:0 is not functions.read:IDX",
    ),
    ("vllm", {"messages": conversation([[("read", "functions.shell:0")]])}, "functions.read:IDX"),
]


@pytest.mark.parametrize(("flavour", "changes"), GOOD)
def test_good_requests_pass(flavour: Any, changes: dict[str, Any]) -> None:
    assert problems(chat(**changes), flavour) == []


@pytest.mark.parametrize(("flavour", "changes", "expected"), BAD)
def test_bad_requests_are_found(flavour: Any, changes: dict[str, Any], expected: str) -> None:
    found = problems(chat(**changes), flavour)
    assert found and expected in found[0]


def test_rules_of_the_server_are_checked() -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    small = Rules(models=("a",), context_limit=10, native_ids=True)
    assert problems(chat(), "hosted", headers) == []
    assert problems(chat(), "hosted", {}) == ["Invalid Authentication"]
    assert problems(chat(), "hosted", {}, Rules(api_key=None)) == []
    model, limit = problems(chat(), "hosted", headers, small)
    assert "Not found the model kimi-k2.5" in model
    assert limit == "Your request exceeded model token limit: 10"
    foreign = chat(messages=conversation([[("shell", "call_1")]]))
    assert "running counter" in problems(foreign, "hosted", None, Rules(native_ids=True))[0]
