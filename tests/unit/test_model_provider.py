"""Requests to a real HTTP server, and everything that can go wrong with them."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from kimi_cli.model.build import ModelClient, ModelConfig, build_provider
from kimi_cli.model.endpoint import detect, list_models
from kimi_cli.model.errors import ConfigError
from kimi_cli.model.retry import Policy
from kimi_cli.model.wire import Timeouts
from kimi_cli.protocol.messages import TextPart, ThinkingPart, ToolCallPart, UserTurn
from kimi_cli.protocol.provider import (
    Completed,
    ErrorClass,
    Failed,
    ModelEvent,
    ModelRequest,
    RetryWait,
    TextDelta,
    ThinkingDelta,
)
from kimi_cli.protocol.tools import ToolSchema
from kimi_cli.version import VERSION
from tests.support.replies import (
    Reply,
    http_error,
    json_answer,
    leaked,
    raw,
    text,
    tool_calls,
)
from tests.support.server import ScriptedServer

E = ErrorClass
KEY = "sk-test-key"
TOOLS = (ToolSchema("shell", "Runs.", {"properties": {"command": {"type": "string"}}}),)
HANG = 30.0


def settings(server: ScriptedServer | str, **more: Any) -> ModelConfig:
    base_url = server if isinstance(server, str) else server.base_url
    flavour = "hosted" if isinstance(server, str) else server.flavour
    dialects = {"hosted": "moonshot", "vllm": "vllm", "openai": "openai-compatible"}
    values: dict[str, Any] = {
        "model": "moonshotai/Kimi-K2.5" if flavour == "vllm" else "kimi-k2.5",
        "api_key": KEY,
        "dialect": dialects[flavour],
        "session_id": "s1",
        "retry": Policy(scale=0),
    }
    return ModelConfig(base_url, **values | more)


def ask(client: ModelClient, words: str = "hi", tools: Any = TOOLS) -> ModelRequest:
    return ModelRequest([client.encoder().encode(UserTurn((TextPart(text=words),))).data], tools)


def run(
    config: ModelConfig, act: Callable[[ModelClient], Any] | None = None, retries: bool = True
) -> list[ModelEvent]:
    """The events of one request, or of what ``act`` does."""

    async def go() -> list[ModelEvent]:
        client = build_provider(config)
        provider = client if retries else client._chat
        try:
            if act is not None:
                result: list[ModelEvent] = await act(client)
                return result
            return [event async for event in provider.stream(ask(client))]
        finally:
            await client.close()

    return asyncio.run(asyncio.wait_for(go(), HANG))


def first(config: ModelConfig) -> ModelEvent:
    """What a single attempt ends with."""
    return run(config, retries=False)[-1]


def failure(config: ModelConfig) -> Any:
    event = first(config)
    assert isinstance(event, Failed), event
    return event.error


def answered(server: ScriptedServer, **more: Any) -> Completed:
    event = first(settings(server, **more))
    assert isinstance(event, Completed), event
    server.check()
    return event


@pytest.mark.parametrize("flavour", ["hosted", "vllm", "openai"])
def test_an_answer(flavour: Any) -> None:
    reply = tool_calls(
        [("shell", {"command": "ls"}), ("shell", {"command": "é"})],
        thinking="hm",
        text="ok",
        fragments=3,
        http_chunk=1,
        pings=True,
        crlf=True,
        interleave=True,
    )
    with ScriptedServer([reply], flavour=flavour) as server:
        events = run(settings(server))
        server.check()
    answer = events[-1]
    assert isinstance(answer, Completed)
    thinking, words, one, other = answer.parts
    assert (thinking, words) == (ThinkingPart(text="hm"), TextPart(text="ok"))
    assert isinstance(one, ToolCallPart) and isinstance(other, ToolCallPart)
    assert json.loads(other.arguments) == {"command": "é"}
    assert one.id != other.id
    assert answer.finish_reason == "tool_calls"
    assert answer.usage is not None and answer.usage.input_tokens > 0
    assert "".join(e.text for e in events if isinstance(e, ThinkingDelta)) == "hm"
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "ok"


def test_each_request_begins_with_the_last_one() -> None:
    with ScriptedServer([text("a"), text("b")]) as server:

        async def act(client: ModelClient) -> list[ModelEvent]:
            encoder = client.encoder()
            messages = [encoder.encode(UserTurn((TextPart(text="one"),))).data]
            events = [e async for e in client.stream(ModelRequest(tuple(messages), TOOLS))]
            messages.append(encoder.encode(UserTurn((TextPart(text="two"),))).data)
            return events + [e async for e in client.stream(ModelRequest(messages, TOOLS))]

        run(settings(server), act)
        one, two = server.requests
        assert two.raw.startswith(one.conversation)
        assert one.raw == one.conversation + b'],"max_completion_tokens":32768}'
        body = one.body
        assert list(body)[-3:] == ["tools", "messages", "max_completion_tokens"]
        assert body["prompt_cache_key"] == "s1"
        assert two.index == 1
        server.check()


def test_headers_say_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-secret")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-Secret: secret")
    with ScriptedServer([text("a"), text("b")]) as server:
        first(settings(server, headers={"X-Mine": "1"}))
        headers = server.requests[0].headers
        assert headers["user-agent"] == f"kimi/{VERSION}"
        assert headers["x-mine"] == "1"
        assert headers["authorization"] == f"Bearer {KEY}"
        assert "secret" not in str(headers) and "another" not in str(headers)
    with ScriptedServer([text("a")], api_key=None) as server:
        first(settings(server, api_key=""))
        assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (http_error(400, "invalid_request_error", "tools[0] is bad"), E.REQUEST, "tools[0]"),
        (http_error(400, "content_filter", "high risk"), E.CONTENT_FILTER, "high risk"),
        (
            http_error(400, "invalid_request_error", "exceeded model token limit: 5"),
            E.CONTEXT_TOO_LONG,
            "token limit",
        ),
        (http_error(403, "access_terminated_error", "no such client"), E.PERMISSION, "client"),
        (http_error(413, "x", "too large"), E.CONTEXT_TOO_LONG, "too large"),
        (http_error(429, "exceeded_current_quota_error", "balance"), E.QUOTA, "balance"),
        (http_error(429, "engine_overloaded_error", "full"), E.OVERLOAD, "full"),
        (http_error(429, "rate_limit_reached_error", "RPM"), E.RATE, "RPM"),
        (http_error(500, "server_error", "boom"), E.SERVER, "HTTP 500 from 127.0.0.1"),
        (raw(502, "text/html", b"<html><title>Bad Gateway</title>"), E.SERVER, "Bad Gateway"),
        (
            raw(302, "text/plain", b"", headers={"Location": "http://x/v1"}),
            E.REQUEST,
            "http://x/v1",
        ),
        (raw(200, "text/html", b"<html><title>Log in</title></html>"), E.PROTOCOL, "Log in"),
        (raw(200, "application/json", b"{broken"), E.PROTOCOL, "{broken"),
        (raw(200, "application/json", b"[1]"), E.PROTOCOL, "[1]"),
        (raw(200, "text/event-stream", b""), E.NETWORK, "empty stream"),
        (raw(200, "text/event-stream", b"data: [1]\n\n"), E.PROTOCOL, "[1]"),
        (json_answer({"error": {"type": "server_error", "message": "x"}}), E.SERVER, "x"),
        (json_answer({"object": "error", "message": "dead", "code": 401}), E.AUTH, "dead"),
        (text("abc", fragments=3, error_after=2), E.SERVER, "the engine died"),
        (text("abc", fragments=3, malformed_after=2), E.PROTOCOL, "no chat completion"),
        (text("abc", fragments=3, drop_after=2), E.NETWORK, "cut"),
        (text("abc", fragments=3, drop_after=2, drop="fin"), E.NETWORK, "cut"),
        (text("abc", fragments=3, drop_after=2, drop="end"), E.NETWORK, "before the answer was"),
        (text("abc", drop_after="headers"), E.NETWORK, "cut"),
        (text("abc", finish_reason=None, done=False), E.NETWORK, "before the answer was complete"),
        (text("abc", finish_reason="content_filter"), E.CONTENT_FILTER, "content filter"),
    ],
)
def test_failures(reply: Reply, kind: ErrorClass, words: str) -> None:
    with ScriptedServer([reply]) as server:
        error = failure(settings(server))
    assert error.kind is kind
    assert words in error.message


@pytest.mark.parametrize(
    ("reply", "finish"),
    [
        (text("abc", finish_reason=None), ""),
        (text("abc", done=False), "stop"),
        (text("abc", drop="fin", drop_after=3), "stop"),
        (text("abc", stall_after=3), "stop"),
        (text("abc", finish_reason="length"), "length"),
        (text("abc", delay_between=0.01), "stop"),
    ],
)
def test_whole_answers_stay_whole(reply: Reply, finish: str) -> None:
    with ScriptedServer([reply]) as server:
        answer = answered(server, timeouts=Timeouts(after_finish=0.2))
    assert answer.parts == (TextPart(text="abc"),)
    assert answer.finish_reason == finish


def test_an_answer_that_is_not_streamed() -> None:
    document = {
        "id": "x",
        "choices": [{"message": {"content": "abc"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2},
    }
    body = json.dumps(document, indent=2).encode()
    with ScriptedServer([raw(200, "application/json", body, http_chunk=7)]) as server:
        answer = answered(server)
    assert answer.parts == (TextPart(text="abc"),)
    assert answer.usage is not None and answer.usage.input_tokens == 3


def test_events_without_empty_lines_between_them() -> None:
    chunk = b'data: {"choices":[{"delta":{"content":"ab"}}]}\n'
    end = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\ndata: [DONE]\n\n'
    with ScriptedServer([raw(200, "text/event-stream", chunk + end)]) as server:
        assert answered(server).parts == (TextPart(text="ab"),)


def test_the_filtered_answer_is_kept() -> None:
    with ScriptedServer([text("so far", finish_reason="content_filter")]) as server:
        event = first(settings(server))
    assert isinstance(event, Failed) and event.partial is not None
    assert event.partial.parts == (TextPart(text="so far"),)
    assert event.partial.usage is not None


def test_an_empty_answer_is_an_answer() -> None:
    with ScriptedServer(
        [text(None), Reply(empty_calls=True, finish_reason="tool_calls")]
    ) as server:
        assert answered(server).parts == ()
        assert answered(server).parts == ()


def test_leaked_calls_are_recovered() -> None:
    calls = [("shell", {"command": "ls"})]
    for form in ("section", "singular", "bare", "k3", "k3-json"):
        reply = text("Look. " + leaked(calls, form=form), text_fragments=40)
        with ScriptedServer([reply]) as server:
            answer = answered(server)
        assert answer.salvaged == 1, form
        assert answer.parts[0] == TextPart(text="Look. ")
        call = answer.parts[1]
        assert isinstance(call, ToolCallPart) and call.name == "shell"
        assert json.loads(call.arguments) == {"command": "ls"}


def test_a_wrong_key_is_never_shown() -> None:
    secret = "sk-very-secret-0123456789"
    said = f"Incorrect API key provided: {secret}"
    reply = http_error(401, "incorrect_api_key_error", said)
    with ScriptedServer([reply], api_key=None) as server:
        config = settings(server, api_key=secret)
        error = failure(config)
    assert error.kind is E.AUTH
    assert "[API key]" in error.message
    client = build_provider(config)
    shown = f"{error!r} {config!r} {client._chat.endpoint!r} {client!r}"
    assert secret not in shown
    with ScriptedServer([]) as server:
        assert failure(settings(server, api_key=secret)).kind is E.AUTH


@pytest.mark.parametrize("key", ["sk-secret\nvalue", "sk-sécret", "sk secret"])
def test_an_impossible_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_provider(ModelConfig("https://api.moonshot.ai/v1", "kimi-k2.5", key))
    assert "cret" not in str(caught.value)


@pytest.mark.parametrize("base_url", ["", "api.moonshot.ai/v1", "ftp://x/v1", "http://"])
def test_an_impossible_address_is_refused(base_url: str) -> None:
    with pytest.raises(ConfigError, match="base URL"):
        build_provider(ModelConfig(base_url, "kimi-k2.5"))


@pytest.mark.parametrize("ending", ["", "/", "/chat/completions"])
def test_the_address_may_end_in_several_ways(ending: str) -> None:
    with ScriptedServer([text("a")]) as server:
        config = replace(settings(server), base_url=server.base_url + ending)
        assert isinstance(first(config), Completed)


def test_a_missing_model_names_the_others() -> None:
    with ScriptedServer([], models=["kimi-k2.6", "kimi-k3"]) as server:
        error = failure(settings(server, model="kimi-k2.5"))
    assert error.kind is E.MODEL_MISSING
    assert error.message.endswith("(it has: kimi-k2.6, kimi-k3)")
    with ScriptedServer([], models=["kimi-k3"]) as server:
        server.overrides["GET /v1/models"] = http_error(503)
        assert failure(settings(server, model="kimi-k2.5")).kind is E.MODEL_MISSING


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_nobody_is_there() -> None:
    error = failure(settings(f"http://127.0.0.1:{closed_port()}/v1"))
    assert error.kind is E.NETWORK
    assert error.message.endswith("connection refused")


def test_the_name_does_not_exist() -> None:
    error = failure(settings("http://model.invalid/v1"))
    assert error.kind is E.NETWORK
    assert error.message == "cannot reach model.invalid: name not resolved"


def test_tls_where_there_is_none() -> None:
    with ScriptedServer([]) as server:
        timeouts = Timeouts(connect=0.3)
        address = server.base_url.replace("http:", "https:")
        assert failure(settings(address, timeouts=timeouts)).message.endswith(
            "no connection in time"
        )

    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        error = failure(settings(f"https://127.0.0.1:{listener.getsockname()[1]}/v1"))
        thread.join()
    assert error.kind is E.NETWORK
    assert "TLS failed" in error.message


QUICK = Timeouts(first_byte=0.8, between_chunks=HANG, kept_alive=0.8)
BEFORE = "before its answer began"
SLOW_START = Timeouts(first_byte=HANG, between_chunks=0.3, kept_alive=0.3)


@pytest.mark.parametrize(
    ("reply", "where"),
    [
        (text("abc", stall_after="headers"), BEFORE),
        (text("abc", stall_after=0), BEFORE),
        (text("abc", stall_after=1), BEFORE),
        (text("abc", fragments=3, stall_after=3), "in the middle of its answer"),
        (text("abc", fragments=3, stall_after=3, stall_pings=0.05), "in the middle of its answer"),
        (text("abc", stall_after=1, stall_pings=0.05), BEFORE),
    ],
)
def test_stalls(reply: Reply, where: str) -> None:
    with ScriptedServer([reply]) as server:
        timeouts = QUICK if where == BEFORE else SLOW_START
        error = failure(settings(server, timeouts=timeouts))
        assert server.wait_until(lambda: [r.outcome for r in server.requests] == ["client left"])
    assert error.kind is E.STALL
    assert where in error.message


def test_keep_alives_extend_the_wait() -> None:
    """The answer comes later than a silence may last, with a ping now and then."""
    timeouts = replace(QUICK, first_byte=1, kept_alive=HANG)

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
            began = time.monotonic()
            while time.monotonic() - began < 1.2:
                connection.sendall(b": ping\n\n")
                threading.Event().wait(0.1)
            connection.sendall(b'data: {"choices":[{"delta":{"content":"a"},')
            connection.sendall(b'"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        event = first(settings(f"http://127.0.0.1:{port}/v1", timeouts=timeouts))
        thread.join()
    assert isinstance(event, Completed)


def test_a_long_prompt_may_take_longer() -> None:
    timeouts = Timeouts(first_byte=10, first_byte_per_1k_tokens=2)
    assert timeouts.first(0) == 10
    assert timeouts.first(50_000) == 110


@pytest.mark.parametrize(
    "reply",
    [text("abc", stall_after="headers"), text("abc", fragments=3, stall_after=3)],
)
def test_cancelling_closes_the_connection_at_once(reply: Reply) -> None:
    with ScriptedServer([reply]) as server:

        async def act(client: ModelClient) -> list[ModelEvent]:
            async def consume() -> None:
                async for _ in client.stream(ask(client)):
                    pass

            task = asyncio.create_task(consume())
            arrived = asyncio.to_thread(server.wait_until, lambda: bool(server.requests), HANG)
            assert await arrived
            await asyncio.sleep(0.05)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            left = asyncio.to_thread(
                server.wait_until, lambda: server.requests[0].outcome == "client left", HANG
            )
            assert await left
            # A generous bound: what matters is that no timeout had to pass first.
            assert time.monotonic() - began < 5
            return []

        run(settings(server), act)


def test_leaving_the_stream_closes_the_connection() -> None:
    with ScriptedServer([text("abc", fragments=3, stall_after=3)]) as server:

        async def act(client: ModelClient) -> list[ModelEvent]:
            stream: Any = client.stream(ask(client))
            assert await anext(stream) == TextDelta("a")
            await stream.aclose()
            left = asyncio.to_thread(
                server.wait_until, lambda: server.requests[0].outcome == "client left", HANG
            )
            assert await left
            return []

        run(settings(server), act)


def test_two_servers_errors_and_then_an_answer() -> None:
    half = text("abc", fragments=3, drop_after=2)
    with ScriptedServer([http_error(500), half, text("done")]) as server:
        events = run(settings(server))
        server.check()
    waits = [event for event in events if isinstance(event, RetryWait)]
    assert [wait.error.kind for wait in waits] == [E.SERVER, E.NETWORK]
    last = events[-1]
    assert isinstance(last, Completed) and last.parts == (TextPart(text="done"),)


@pytest.mark.parametrize(
    ("headers", "asked"),
    [({}, None), ({"Retry-After": "7"}, 7.0), ({"retry-after-ms": "40"}, 0.04)],
)
def test_a_full_server_is_asked_again(headers: dict[str, str], asked: float | None) -> None:
    full = http_error(429, "engine_overloaded_error", "full", headers)
    with ScriptedServer([full, text("done")]) as server:
        events = run(settings(server))
        server.check()
    wait, *_, last = events
    assert isinstance(wait, RetryWait) and wait.error.retry_after == asked
    assert isinstance(last, Completed)


def test_what_can_not_help_is_asked_once() -> None:
    for reply in (
        http_error(429, "exceeded_current_quota_error", "balance"),
        http_error(401, "invalid_authentication_error", "no"),
        http_error(400, "invalid_request_error", "no"),
    ):
        with ScriptedServer([reply, text("never")]) as server:
            assert isinstance(run(settings(server))[-1], Failed)
            assert len(server.requests) == 1


def test_a_connection_is_used_again() -> None:
    seen: list[int] = []
    with ScriptedServer([text("a"), text("b"), text("c")]) as server:

        async def act(client: ModelClient) -> list[ModelEvent]:
            events: list[ModelEvent] = []
            for _ in range(3):
                events += [event async for event in client.stream(ask(client))]
                seen.append(len(server._served))
            return events

        run(settings(server), act)
    assert seen == [1, 1, 1]


def test_many_requests_at_once_share_a_cold_client() -> None:
    with ScriptedServer(lambda index, request: text("a")) as server:

        async def act(client: ModelClient) -> list[ModelEvent]:
            async def one() -> ModelEvent:
                return [event async for event in client.stream(ask(client))][-1]

            return list(await asyncio.gather(*(one() for _ in range(8))))

        events = run(settings(server), act)
    assert all(isinstance(event, Completed) for event in events)


def test_a_cancelled_first_request_leaves_the_client_usable() -> None:
    with ScriptedServer([text("a")]) as server:

        async def act(client: ModelClient) -> list[ModelEvent]:
            async def consume() -> list[ModelEvent]:
                return [event async for event in client.stream(ask(client))]

            task = asyncio.create_task(consume())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return await consume()

        assert isinstance(run(settings(server), act)[-1], Completed)


def test_proxies_are_used_and_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # A scripted server will do as a proxy: it is asked for the whole address.
    with ScriptedServer([], strict=False) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.root_url)
        monkeypatch.setenv("http_proxy", proxy.root_url)
        failure(settings("http://model.invalid/v1"))
        seen = [one.path for one in proxy.other_requests]
        assert seen == ["http://model.invalid/v1/chat/completions"]
        monkeypatch.setenv("NO_PROXY", "model.invalid")
        monkeypatch.setenv("no_proxy", "model.invalid")
        assert "name not resolved" in failure(settings("http://model.invalid/v1")).message


def test_the_models_of_an_endpoint() -> None:
    with ScriptedServer([]) as server:
        found = asyncio.run(list_models(settings(server)))
    models = {model.id: model for model in found.models}
    assert list(models) == sorted(models)
    assert models["kimi-k3"].info.context == 1_048_576
    assert models["kimi-k3"].media == {"image", "video"}
    price = models["kimi-k3"].price
    assert price is not None and price.currency == "USD"
    with ScriptedServer([], flavour="vllm") as server:
        found = asyncio.run(list_models(settings(server, dialect="auto")))
    assert found.dialect.name == "vllm"
    models = {model.id: model for model in found.models}
    assert models["moonshotai/Kimi-K2-Instruct"].info.context == 131_072
    assert models["moonshotai/Kimi-K2.5"].media == {"image"}
    assert models["moonshotai/Kimi-K2.5"].price is None


def test_models_of_an_endpoint_that_fails() -> None:
    found = asyncio.run(list_models(settings(f"http://127.0.0.1:{closed_port()}/v1")))
    assert found.models == () and found.error is not None
    assert found.error.kind is E.NETWORK
    for answer in (raw(200, "text/html", b"<html>"), json_answer([1]), json_answer({"data": None})):
        with ScriptedServer([]) as server:
            server.overrides["GET /v1/models"] = answer
            assert asyncio.run(list_models(settings(server))).models == ()


def test_an_unknown_endpoint_is_looked_at() -> None:
    entry = {"id": "coder", "root": "moonshotai/Kimi-K2.5", "owned_by": "vllm"}
    with ScriptedServer([], flavour="vllm", models=[entry | {"max_model_len": 32_000}]) as server:
        before = settings(server, dialect="auto", model="coder")
        config, error = asyncio.run(detect(before))
        again, _ = asyncio.run(detect(settings("https://api.moonshot.ai/v1", dialect="auto")))
    assert error is None
    assert config.dialect == "vllm"
    client = build_provider(config)
    assert (client.model, client.info.context) == ("coder", 32_000)
    assert client.info.thinking == "switchable"
    assert again.dialect == "auto"
    gone, error = asyncio.run(detect(before))
    assert gone is before
    assert error is not None and error.kind is E.NETWORK
