"""A server's own count of a request."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from kimi_cli.model.build import ModelClient, ModelConfig, build_provider
from kimi_cli.model.counting import count_tokens
from kimi_cli.protocol.messages import Message, SystemMessage, TextPart, UserTurn
from kimi_cli.protocol.provider import ModelRequest
from kimi_cli.protocol.tools import ToolSchema
from tests.support.replies import Reply, http_error, json_answer, raw, text
from tests.support.server import ScriptedServer

HANG = 30.0
TOOLS = (ToolSchema("shell", "Runs.", {"properties": {"command": {"type": "string"}}}),)
HOSTED = "POST /v1/tokenizers/estimate-token-count"
VLLM = "POST /tokenize"
DIALECTS = {"hosted": "moonshot", "vllm": "vllm", "openai": "openai-compatible"}


def ask(client: ModelClient, words: str = "hi") -> ModelRequest:
    encoder = client.encoder()
    messages: list[Message] = [SystemMessage("You are."), UserTurn((TextPart(text=words),))]
    return ModelRequest([encoder.encode(message).data for message in messages], TOOLS)


def with_client(
    server: ScriptedServer,
    act: Callable[[ModelClient], Awaitable[Any]],
    **more: Any,
) -> Any:
    values: dict[str, Any] = {"dialect": DIALECTS[server.flavour], "model": "kimi-k2.5"}

    async def go() -> Any:
        client = build_provider(
            ModelConfig(server.base_url, api_key="sk-test-key", **values | more)
        )
        try:
            return await act(client)
        finally:
            await client.close()

    return asyncio.run(asyncio.wait_for(go(), HANG))


def counted(server: ScriptedServer, **more: Any) -> Any:
    return with_client(server, lambda client: client.count(ask(client, "word " * 1000)), **more)


def test_vllm_counts_with_its_template() -> None:
    with ScriptedServer([], flavour="vllm") as server:
        small = with_client(server, lambda client: client.count(ask(client)))
        large = counted(server, thinking="off")
    assert small and large > small + 1000
    asked = server.other_requests[-1]
    assert (asked.path, asked.body["model"]) == ("/tokenize", "kimi-k2.5")
    assert set(asked.body) == {"model", "chat_template_kwargs", "tools", "messages"}
    assert asked.body["chat_template_kwargs"] == {"thinking": False}
    assert [message["role"] for message in asked.messages] == ["system", "user"]
    assert asked.body["tools"][0]["function"]["name"] == "shell"


def test_moonshot_estimates() -> None:
    with ScriptedServer([]) as server:
        assert counted(server) > 1000
    [asked] = server.other_requests
    assert asked.path == "/v1/tokenizers/estimate-token-count"
    assert asked.headers["authorization"] == "Bearer sk-test-key"
    assert set(asked.body) == {"model", "tools", "messages"}


@pytest.mark.parametrize(
    ("flavour", "dialect"), [("openai", "openai-compatible"), ("vllm", "sglang")]
)
def test_servers_that_can_not_count_are_not_asked(flavour: Any, dialect: str) -> None:
    with ScriptedServer([], flavour=flavour) as server:
        assert counted(server, dialect=dialect) is None
    assert server.other_requests == []


@pytest.mark.parametrize(
    "reply",
    [
        http_error(404),
        http_error(500),
        http_error(401, "invalid_authentication_error"),
        raw(200, "text/html", b"<html>"),
        raw(200, "application/json", b""),
        json_answer([]),
        json_answer({"data": None}),
        json_answer({"data": {"total_tokens": "many"}, "count": -1}),
        json_answer({"count": 1.5}),
    ],
)
@pytest.mark.parametrize(("flavour", "route"), [("hosted", HOSTED), ("vllm", VLLM)])
def test_no_count_is_no_failure(flavour: Any, route: str, reply: Reply) -> None:
    with ScriptedServer([], flavour=flavour) as server:
        server.overrides[route] = reply
        assert counted(server) is None
        assert len(server.other_requests) == 1


def test_a_server_that_is_not_there_counts_nothing() -> None:
    with ScriptedServer([]) as server:
        base_url = server.base_url
    config = ModelConfig(base_url, "m", dialect="vllm")

    async def go() -> int | None:
        client = build_provider(config)
        try:
            return await client.count(ask(client))
        finally:
            await client.close()

    assert asyncio.run(asyncio.wait_for(go(), HANG)) is None


def test_a_server_that_does_not_answer_is_left() -> None:
    stalled = json_answer({"count": 5}, delay_headers=HANG)
    with ScriptedServer([], flavour="vllm") as server:
        server.overrides[VLLM] = stalled

        async def act(client: ModelClient) -> int | None:
            chat = client._chat
            endpoint = chat.endpoint
            return await count_tokens(
                endpoint.connection, endpoint.base_url, chat.dialect, {}, ask(client), 0.2
            )

        assert with_client(server, act) is None
        assert server.wait_until(lambda: server.other_requests[0].outcome == "client left")


def test_counting_and_asking_share_a_connection() -> None:
    seen = []
    with ScriptedServer([text("a")], flavour="vllm") as server:

        async def act(client: ModelClient) -> None:
            await client.count(ask(client))
            async for _ in client.stream(ask(client)):
                pass
            seen.append(len(server._served))

        with_client(server, act)
    assert seen == [1]


def test_a_cancelled_count_raises() -> None:
    with ScriptedServer([], flavour="vllm") as server:
        server.overrides[VLLM] = json_answer({"count": 5}, delay_headers=HANG)

        async def act(client: ModelClient) -> str:
            task = asyncio.create_task(client.count(ask(client)))
            assert await asyncio.to_thread(
                server.wait_until, lambda: bool(server.other_requests), HANG
            )
            task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                return "cancelled"
            return "done"

        assert with_client(server, act) == "cancelled"


def test_what_is_counted_is_what_is_sent() -> None:
    with ScriptedServer([text("a")], flavour="vllm") as server:

        async def act(client: ModelClient) -> None:
            request = ask(client, 'é\u2028"')
            await client.count(request)
            async for _ in client.stream(request):
                pass

        with_client(server, act)
    sent, asked = server.requests[0].body, server.other_requests[0].body
    for field in ("model", "messages", "tools", "chat_template_kwargs"):
        assert json.dumps(sent[field]) == json.dumps(asked[field])
