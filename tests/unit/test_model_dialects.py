"""What exactly is sent for each model, endpoint and thinking setting."""

import json
from dataclasses import replace
from typing import Any

import pytest

from kimi_cli.model.build import ModelConfig, build_provider
from kimi_cli.model.catalogue import lookup, merge_endpoint
from kimi_cli.model.catalogue_data import ROWS
from kimi_cli.model.dialects import DIALECTS, recognise
from kimi_cli.model.errors import ConfigError
from kimi_cli.protocol.messages import (
    AssistantTurn,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    UserTurn,
)
from kimi_cli.protocol.provider import ModelRequest

HOSTED = ("moonshot", "moonshot-subscription")
LOCAL = ("vllm", "sglang")
K25 = ("kimi-k2.5", "kimi-k2.6", "moonshotai/Kimi-K2.5", "Kimi-K2.6-NVFP4")
K27 = ("kimi-k2.7-code", "kimi-k2.7-code-highspeed", "moonshotai/Kimi-K2.7-Code")
K3 = ("kimi-k3", "k3", "k3-256k", "kimi-k3.1-pro", "kimi-k3.1-pro-highspeed", "moonshotai/Kimi-K3")
K2 = ("kimi-k2-0711-preview", "moonshotai/Kimi-K2-Instruct", "kimi-k2-turbo-preview", "kimi-k2")
K2_0905 = ("kimi-k2-0905-preview", "moonshotai/Kimi-K2-Instruct-0905")
K2_THINKING = ("kimi-k2-thinking", "kimi-k2-thinking-turbo", "moonshotai/Kimi-K2-Thinking")
OTHERS = ("kimi-k1.5-preview", "kimi-latest")
PLAN = ("kimi-for-coding", "kimi-for-coding-highspeed")

Sent = dict[str, Any]
NOTHING: Sent = {}
CAP: dict[str, Sent] = {
    "moonshot": {"max_completion_tokens": 32_768, "prompt_cache_key": "session-1"},
    "moonshot-subscription": {"max_completion_tokens": 32_768, "prompt_cache_key": "session-1"},
    "vllm": {},
    "sglang": {},
    "openai-compatible": {"max_tokens": 32_768},
}


def template(**arguments: Any) -> Sent:
    return {"chat_template_kwargs": arguments}


def switch(**fields: Any) -> Sent:
    return {"thinking": fields}


def sampled(temperature: float, top_p: float | None = None) -> Sent:
    return {"temperature": temperature} | ({} if top_p is None else {"top_p": top_p})


def rows() -> list[tuple[str, str, str, Sent]]:
    """Model, dialect, thinking, and what is sent because of them."""
    table: list[tuple[str, str, str, Sent]] = []
    for model in (*K25, *PLAN):
        card = {} if model in PLAN else {"on": sampled(1.0, 0.95), "off": sampled(0.6, 0.95)}
        for dialect in HOSTED:
            table += [
                (model, dialect, "on", switch(type="enabled")),
                (model, dialect, "off", switch(type="disabled")),
            ]
        for dialect in LOCAL:
            table += [
                (model, dialect, "on", template(thinking=True) | card.get("on", {})),
                (model, dialect, "off", template(thinking=False) | card.get("off", {})),
            ]
        table.append((model, "openai-compatible", "on", NOTHING))
    for model in K27:
        table += [
            (model, "moonshot", "on", NOTHING),
            (model, "moonshot-subscription", "on", switch(type="enabled", keep="all")),
            (model, "openai-compatible", "on", NOTHING),
        ]
        kept = template(thinking=True, preserve_thinking=True) | sampled(1.0, 0.95)
        table += [(model, dialect, "on", kept) for dialect in LOCAL]
    for model in K3:
        cap = {"max_completion_tokens": 65_536}
        table += [
            (model, "moonshot", "on", cap),
            (model, "moonshot-subscription", "on", cap | switch(type="enabled", keep="all")),
            (model, "openai-compatible", "on", {"max_tokens": 65_536}),
        ]
        kept = template(thinking=True, preserve_thinking=True)
        table += [(model, dialect, "on", kept) for dialect in LOCAL]
        for effort in ("low", "high", "max"):
            told = switch(type="enabled", keep="all", effort=effort)
            table += [
                (model, "moonshot", effort, cap | {"reasoning_effort": effort}),
                (model, "moonshot-subscription", effort, cap | told),
                (
                    model,
                    "openai-compatible",
                    effort,
                    {"max_tokens": 65_536, "reasoning_effort": effort},
                ),
            ]
            kept = template(thinking=True, preserve_thinking=True, thinking_effort=effort)
            table += [(model, dialect, effort, kept) for dialect in LOCAL]
    for model in (*K2, *K2_0905):
        for thinking in ("on", "off"):
            table += [(model, dialect, thinking, sampled(0.6)) for dialect in LOCAL]
            table += [(model, one, thinking, NOTHING) for one in (*HOSTED, "openai-compatible")]
    for model in K2_THINKING:
        table += [(model, dialect, "on", sampled(1.0)) for dialect in LOCAL]
        table += [(model, one, "on", NOTHING) for one in (*HOSTED, "openai-compatible")]
    for model in OTHERS:
        cap = {} if model == "kimi-latest" else {"max_completion_tokens": 16_384}
        table += [(model, "moonshot", thinking, cap) for thinking in ("on", "off")]
        table.append((model, "vllm", "on", NOTHING))
        table.append((model, "vllm", "off", template(thinking=False, enable_thinking=False)))
    return table


def config(model: str, dialect: str, thinking: str = "on", **more: Any) -> ModelConfig:
    return ModelConfig(
        "http://127.0.0.1:1/v1",
        model,
        dialect=dialect,
        thinking=thinking,
        session_id="session-1",
        **more,
    )


def sent(settings: ModelConfig, request: ModelRequest | None = None) -> Sent:
    body: Sent = json.loads(build_provider(settings)._chat.body(request or ModelRequest([])))
    return body


@pytest.mark.parametrize(("model", "dialect", "thinking", "expected"), rows())
def test_what_is_sent(model: str, dialect: str, thinking: str, expected: Sent) -> None:
    always = {
        "model": model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [],
    }
    assert sent(config(model, dialect, thinking)) == always | CAP[dialect] | expected


def test_every_row_of_the_catalogue_is_in_the_table() -> None:
    covered = {replace(lookup(model), id="") for model, *_ in rows()}
    assert {replace(row, id="") for row in ROWS.values()} <= covered


def test_the_default_of_thinking_is_on() -> None:
    assert sent(config("kimi-k2.5", "moonshot", "")) == sent(config("kimi-k2.5", "moonshot"))


def test_what_the_user_forces_is_sent_everywhere() -> None:
    for dialect in DIALECTS:
        forced = config("kimi-k2.5", dialect, temperature=0.0, top_p=0.5, max_output_tokens=20_000)
        body = sent(forced)
        assert (body["temperature"], body["top_p"]) == (0.0, 0.5)
        assert body[DIALECTS[dialect].cap_field] == 20_000
        request = ModelRequest([], max_output_tokens=5)
        assert sent(forced, request)[DIALECTS[dialect].cap_field] == 5


def test_an_unknown_model_gets_nothing_special() -> None:
    for dialect in ("openai-compatible", *LOCAL):
        body = sent(config("qwen3-coder", dialect))
        assert body.keys() == {"model", "stream", "stream_options", "messages"}
    assert sent(config("qwen3", "vllm", "low"))["reasoning_effort"] == "low"


@pytest.mark.parametrize(
    ("model", "dialect", "thinking", "words"),
    [
        ("kimi-k2-thinking", "moonshot", "off", "always thinks"),
        ("kimi-k2.7-code", "vllm", "off", "always thinks"),
        ("kimi-k3", "moonshot", "off", "low, high, max"),
        ("kimi-k3", "moonshot", "medium", "low, high, max"),
        ("kimi-k2.5", "moonshot", "high", "on, off"),
        ("kimi-k2-0905-preview", "vllm", "high", "no thinking efforts"),
        ("kimi-k2.5", "openai-compatible", "off", "dialect"),
        ("kimi-k2.5", "klingon", "on", "moonshot-subscription"),
    ],
)
def test_what_can_not_be_is_refused(model: str, dialect: str, thinking: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        build_provider(config(model, dialect, thinking))


CALL = ToolCallPart(id="functions.shell:0", name="shell", arguments="{}")
WITH_CALL = AssistantTurn((ThinkingPart(text="hm"), CALL))
BARE_CALL = AssistantTurn((CALL,))
ANSWER = AssistantTurn((ThinkingPart(text="hm"), TextPart(text="hi")))


@pytest.mark.parametrize(
    ("model", "dialect", "thinking", "field", "on_answers"),
    [
        ("kimi-k2.5", "moonshot", "on", "reasoning_content", False),
        ("kimi-k2.5", "moonshot", "off", None, False),
        ("kimi-k2.5", "moonshot-subscription", "on", "reasoning_content", False),
        ("kimi-k2.5", "vllm", "on", "reasoning", False),
        ("kimi-k2.5", "vllm", "off", None, False),
        ("kimi-k2.5", "sglang", "on", "reasoning_content", False),
        ("kimi-k2.5", "openai-compatible", "on", None, False),
        ("kimi-k2-thinking", "moonshot", "on", "reasoning_content", False),
        ("kimi-k2-thinking", "vllm", "on", "reasoning", False),
        ("kimi-k2.7-code", "moonshot", "on", "reasoning_content", True),
        ("kimi-k2.7-code", "vllm", "on", "reasoning", True),
        ("kimi-k3", "moonshot", "high", "reasoning_content", True),
        ("kimi-k3", "vllm", "on", "reasoning", True),
        ("kimi-k3", "openai-compatible", "on", None, False),
        ("kimi-k2-0905-preview", "moonshot", "on", None, False),
        ("kimi-for-coding", "moonshot-subscription", "on", "reasoning_content", False),
    ],
)
def test_which_reasoning_goes_back(
    model: str, dialect: str, thinking: str, field: str | None, on_answers: bool
) -> None:
    encoder = build_provider(config(model, dialect, thinking)).encoder()
    documents = [json.loads(encoder.encode(m).data) for m in (WITH_CALL, BARE_CALL, ANSWER)]
    fields = [{"reasoning", "reasoning_content"} & document.keys() for document in documents]
    wanted = {field} if field else set()
    assert fields == [wanted, wanted, wanted if on_answers else set()]
    if field:
        # Empty reasoning is still there: without the field the API answers 400.
        assert [document[field] for document in documents[:2]] == ["hm", ""]


@pytest.mark.parametrize(
    ("base_url", "probe", "dialect"),
    [
        ("https://api.moonshot.ai/v1", None, "moonshot"),
        ("https://api.moonshot.cn/v1/", None, "moonshot"),
        ("https://api.kimi.com/coding/v1", None, "moonshot-subscription"),
        ("http://127.0.0.1:8000/v1", None, "openai-compatible"),
        ("http://gpu:8000/v1", {"data": [{"id": "x", "owned_by": "vllm"}]}, "vllm"),
        ("http://gpu:8000/v1", {"data": [{"id": "x", "owned_by": "sglang"}]}, "sglang"),
        ("http://proxy/v1", {"data": [{"id": "x", "owned_by": "moonshot"}]}, "moonshot"),
        ("http://gpu:8000/v1", {"data": [{"id": "x", "owned_by": "me"}]}, "openai-compatible"),
        ("http://gpu:8000/v1", {"data": None}, "openai-compatible"),
        ("http://gpu:8000/v1", {"data": ["x", {}]}, "openai-compatible"),
        ("https://api.moonshot.ai.evil.test/v1", None, "openai-compatible"),
        ("https://api.moonshot.ai/v1", {"data": [{"owned_by": "vllm"}]}, "moonshot"),
    ],
)
def test_recognition(base_url: str, probe: Any, dialect: str) -> None:
    assert recognise(base_url, probe).name == dialect


@pytest.mark.parametrize(
    ("model", "row"),
    [
        ("moonshotai/Kimi-K2.5", "kimi-k2.5"),
        ("/models/Kimi-K2.5/", "kimi-k2.5"),
        ("nvidia/Kimi-K2.5-NVFP4", "kimi-k2.5"),
        ("kimi-k2-0905-preview", "kimi-k2-0905"),
        ("moonshotai/Kimi-K2-Instruct-0905", "kimi-k2-instruct-0905"),
        ("moonshotai/Kimi-K2-Instruct", "kimi-k2-instruct"),
        ("kimi-k2-thinking-turbo", "kimi-k2-thinking-turbo"),
        ("unsloth/Kimi-K2-Thinking-GGUF:Q4", "kimi-k2-thinking"),
        ("k3", "k3"),
    ],
)
def test_ids_find_their_rows(model: str, row: str) -> None:
    found, expected = lookup(model), ROWS[row]
    assert (found.id, found.context, found.thinking) == (model, expected.context, expected.thinking)
    assert found.listed


@pytest.mark.parametrize("model", ["kimi-k2.9", "kimi-k30", "k30", "gpt-x"])
def test_a_newer_model_is_not_taken_for_an_older_one(model: str) -> None:
    found = lookup(model)
    assert not found.listed
    assert found.thinking == "unknown"
    assert found.native_ids == ("k" in model)


def test_the_endpoint_corrects_the_catalogue() -> None:
    info = lookup("kimi-k2.5")
    assert merge_endpoint(info, {"context_length": 100_000}).context == 100_000
    assert merge_endpoint(info, {"supports_image_in": False}).inputs == {"image"}
    unknown = merge_endpoint(
        lookup("kimi-k9"), {"supports_video_in": True, "supports_reasoning": False}
    )
    assert unknown.inputs == {"video"}
    assert unknown.thinking == "none"


def test_prices_name_their_source() -> None:
    for row in ROWS.values():
        for price in row.prices:
            assert price.source and price.date
            assert 0 < price.cached_input < price.input < price.output
    k3 = lookup("kimi-k3").price("USD")
    assert k3 is not None
    assert (k3.input, k3.cached_input, k3.output) == (3.0, 0.3, 15.0)
    assert lookup("kimi-for-coding").price("USD") is None


def test_a_thinking_model_has_room_to_think() -> None:
    assert all((row.max_output or 0) >= 16_000 for row in ROWS.values())


def test_equal_histories_are_equal_bytes() -> None:
    one, other = (build_provider(config("kimi-k2.5", "vllm")).encoder() for _ in range(2))
    for message in (UserTurn((TextPart(text="x"),)), WITH_CALL, ANSWER):
        assert one.encode(message) == other.encode(message)
