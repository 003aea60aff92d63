"""The window of a model: settings, endpoint, catalogue, default, in this order."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from kimi_cli.agent.model_config import model_config
from kimi_cli.model.build import ModelClient, ModelConfig, build_provider
from kimi_cli.model.catalogue import Given, ModelInfo, lookup, merge_endpoint
from kimi_cli.model.endpoint import detect
from kimi_cli.protocol.messages import TextPart, UserTurn
from kimi_cli.protocol.provider import ModelRequest
from kimi_cli.settings import Settings
from tests.support.replies import http_error, json_answer, text
from tests.support.server import ScriptedServer

SERVED = {"id": "coder", "object": "model", "owned_by": "vllm", "max_model_len": 40_000}


def configured(base_url: str, model: str, **entry: Any) -> ModelConfig:
    """The configuration that these settings of the model give."""
    settings = Settings.model_validate(
        {
            "endpoint": {"base_url": base_url, "dialect": "auto"},
            "models": {model: entry} if entry else {},
        }
    )
    return replace(model_config(settings, model, "on", "s"), api_key="sk-test-key")


def opened(config: ModelConfig) -> ModelClient:
    found, _ = asyncio.run(detect(config))
    return build_provider(found)


def test_the_settings_win() -> None:
    with ScriptedServer([], flavour="vllm", models=[SERVED]) as server:
        assert opened(configured(server.base_url, "coder", context=9_000)).window == 9_000
    assert opened(configured("https://api.moonshot.ai/v1", "kimi-k3", context=64)).window == 64


def test_what_the_server_serves_is_next() -> None:
    models = [SERVED, {**SERVED, "id": "kimi-k2.5", "max_model_len": 32_768}]
    with ScriptedServer([], flavour="vllm", models=models) as server:
        assert opened(configured(server.base_url, "coder")).window == 40_000
        assert opened(configured(server.base_url, "kimi-k2.5")).window == 32_768


def test_a_setting_about_something_else_leaves_the_servers_window() -> None:
    with ScriptedServer([], flavour="vllm", models=[SERVED]) as server:
        client = opened(
            configured(server.base_url, "coder", thinking="none", media=["image"], efforts=[])
        )
    assert (client.window, client.info.thinking) == (40_000, "none")
    assert client.media == {"image"}


def test_a_setting_does_not_undo_what_the_server_says_of_its_root() -> None:
    entry = {**SERVED, "root": "moonshotai/Kimi-K2.5"}
    with ScriptedServer([], flavour="vllm", models=[entry]) as server:
        client = opened(configured(server.base_url, "coder", tokenizer="/nowhere"))
    assert (client.window, client.info.thinking) == (40_000, "switchable")
    assert client.info.repository == "moonshotai/Kimi-K2.5"


def test_the_catalogue_holds_where_the_server_says_nothing() -> None:
    with ScriptedServer([], flavour="openai") as server:
        assert opened(configured(server.base_url, "moonshotai/Kimi-K2.5")).window == 262_144
        server.overrides["GET /v1/models"] = http_error(500)
        assert opened(configured(server.base_url, "kimi-k3")).window == 1_048_576
        assert opened(configured(server.base_url, "kimi-k2")).window == 131_072


def test_an_unknown_model_of_a_silent_server_gets_a_cautious_window() -> None:
    with ScriptedServer([], flavour="openai", models=["mine"]) as server:
        assert opened(configured(server.base_url, "mine")).window == 131_072


def test_moonshots_hosts_are_asked_only_for_models_that_nobody_knows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A scripted server stands as the proxy before them, so that no request leaves."""
    with ScriptedServer([], strict=False) as proxy:
        for name in ("HTTP_PROXY", "http_proxy"):
            monkeypatch.setenv(name, proxy.root_url)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        host = "http://api.moonshot.ai/v1"
        known = configured(host, "kimi-k2.6")
        assert asyncio.run(detect(known)) == (known, None)
        told = configured(host, "kimi-k9", context=5_000)
        assert asyncio.run(detect(told)) == (told, None)
        assert proxy.other_requests == []

        unknown = configured(host, "kimi-k9")
        # The proxy has no such address: the default stays, and that is no doubt about the host.
        assert asyncio.run(detect(unknown)) == (unknown, None)
        assert [one.path for one in proxy.other_requests] == [f"{host}/models"]
        document = {"data": [{"id": "kimi-k9", "context_length": 524_288}]}
        proxy.overrides[f"GET {host}/models"] = json_answer(document)
        assert opened(unknown).window == 524_288


@pytest.mark.parametrize(
    ("entry", "window"),
    [
        ({"max_model_len": 8_192}, 8_192),
        ({"context_length": 8_192, "max_model_len": 4_096}, 4_096),
        ({"context_window": 8_192}, 8_192),
        ({"max_context_length": 131_072, "loaded_context_length": 4_096}, 4_096),
        ({"max_context_length": 131_072}, 131_072),
        ({"max_model_len": None, "context_length": 0}, 262_144),
        ({"max_model_len": "8192"}, 262_144),
    ],
)
def test_fields_that_name_a_window(entry: dict[str, Any], window: int) -> None:
    assert merge_endpoint(lookup("kimi-k2.5"), entry).context == window


def test_an_answer_never_takes_more_than_half_of_the_window_by_itself() -> None:
    def cap(info: ModelInfo, given: Given) -> int | None:
        return given.over(info).max_output

    k25 = lookup("kimi-k2.5")
    assert cap(k25, Given()) == 32_768
    assert cap(k25, Given(context=40_000)) == 20_000
    assert cap(replace(k25, context=1_000), Given()) == 500
    assert cap(k25, Given(max_output=200_000)) == 131_072
    assert cap(k25, Given(context=1)) == 1
    assert cap(replace(k25, max_output=None), Given(context=10)) is None
    with ScriptedServer([], models=["kimi-k2.5"]) as server:
        config = configured(server.base_url, "kimi-k2.5", context=30_000)
        assert build_provider(replace(config, dialect="moonshot")).output_cap == 15_000


@pytest.mark.parametrize(
    ("dialect", "own", "wanted", "sent"),
    [
        ("moonshot", None, None, 32_768),
        ("moonshot", None, 100, 100),
        ("moonshot", None, 50_000, 32_768),
        ("moonshot", 5_000, 50_000, 5_000),
        ("moonshot", 50_000, None, 50_000),
        ("vllm", None, None, None),
        ("vllm", None, 700, 700),
        ("vllm", 500, 700, 500),
    ],
)
def test_the_smaller_limit_of_an_answer_is_sent_at_the_end(
    dialect: str, own: int | None, wanted: int | None, sent: int | None
) -> None:
    flavour: Any = "vllm" if dialect == "vllm" else "hosted"
    with ScriptedServer([text("a"), text("b")], flavour=flavour) as server:
        config = ModelConfig(
            server.base_url, "kimi-k2.5", "sk-test-key", dialect, max_output_tokens=own
        )

        async def go() -> int | None:
            client = build_provider(config)
            message = client.encoder().encode(UserTurn((TextPart(text="hi"),))).data
            async for _ in client.stream(ModelRequest([message], max_output_tokens=wanted)):
                pass
            async for _ in client.stream(ModelRequest([message, message], max_output_tokens=7)):
                pass
            await client.close()
            return client.output_cap

        default = asyncio.run(asyncio.wait_for(go(), 30))
        server.check()
    first, second = server.requests
    field = "max_tokens" if dialect == "vllm" else "max_completion_tokens"
    assert first.body.get(field) == sent
    assert list(second.body)[-1] == field and second.body[field] == 7
    assert default == (own if own is not None else 32_768 if dialect == "moonshot" else None)
    # Whatever the limit, the next request begins like the one before.
    assert second.raw.startswith(first.conversation)
