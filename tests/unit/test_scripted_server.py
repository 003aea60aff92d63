"""The scripted server itself: connections, records, endpoints, refusals, its own process."""

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import openai
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import recorded, scripts
from tests.support.recorded import Recorded
from tests.support.replies import Reply, http_error, text
from tests.support.server import ScriptedServer
from tests.unit.scripted_client import (
    HI,
    KEY,
    ask,
    assembled,
    chat,
    client,
    exchange,
    get,
    http,
    serving,
)


def test_keep_alive_uses_one_connection() -> None:
    with ScriptedServer([text("a")] * 30) as server:
        connection = HTTPConnection("127.0.0.1", server.port)
        connection.connect()
        first = connection.sock
        for _ in range(30):
            connection.request(
                "POST",
                "/v1/chat/completions",
                json.dumps(chat()),
                {"Authorization": "Bearer sk-test-key"},
            )
            assert connection.getresponse().read().endswith(b"data: [DONE]\n\n")
            assert connection.sock is first
        connection.close()
        assert len(server.requests) == 30


def test_odd_requests_are_read_right() -> None:
    body = json.dumps(chat()).encode()
    head = (
        f"POST /v1/chat/completions?beta=1 HTTP/1.1\r\nAuthorization: Bearer {KEY}\r\n"
        "Transfer-Encoding: chunked\r\nConnection: close\r\nExpect: 100-continue\r\n\r\n"
    ).encode()
    chunked = b"%x\r\n%b\r\n%x\r\n%b\r\n0\r\n\r\n" % (9, body[:9], len(body) - 9, body[9:])
    with serving([text("a")]) as (server, _):
        answer = exchange(server, head + chunked)
        assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK")
        assert server.requests[0].body == chat()
        assert exchange(server, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")
        with socket.create_connection(("127.0.0.1", server.port), 5) as half:
            half.sendall(head + chunked[:20])


def test_many_clients_at_once_get_an_index_each() -> None:
    def script(index: int, request: Recorded) -> Reply:
        return text(request.messages[0]["content"])

    with serving(script) as (server, api), ThreadPoolExecutor(8) as pool:
        names = [str(n) for n in range(40)]

        def one(name: str) -> str:
            said = assembled(ask(api, messages=[{"role": "user", "content": name}]))
            return str(said["text"])

        assert list(pool.map(one, names)) == names
        assert [one.index for one in server.requests] == list(range(40))
        assert {one.outcome for one in server.requests} == {"answered"}


def test_endpoints_of_the_hosted_flavour() -> None:
    with ScriptedServer(models=["kimi-k3", {"id": "own"}]) as server:
        models = get(server, "/v1/models")[1]["data"]
        assert [model["id"] for model in models] == ["kimi-k3", "own"]
        assert models[0]["context_length"] == 1_048_576
        estimate = "/v1/tokenizers/estimate-token-count"
        counted = get(server, estimate, {"model": "kimi-k3", "messages": HI})[1]
        assert counted["data"]["total_tokens"] > 5
        assert get(server, "/v1/users/me/balance")[1]["data"]["available_balance"] == 49.5
        assert get(server, "/v1/nowhere")[0] == get(server, "/health")[0] == 404
        server.overrides["GET /v1/models"] = http_error(503)
        assert get(server, "/v1/models")[0] == 503
        assert server.other_requests[0].path == "/v1/models"
        assert server.requests == []
        with client(server, "wrong") as api, pytest.raises(openai.AuthenticationError):
            del server.overrides["GET /v1/models"]
            api.models.list()


def test_endpoints_of_the_vllm_flavour() -> None:
    with ScriptedServer(flavour="vllm") as server:
        with client(server) as api:
            first = api.models.list().data[0]
        assert (first.model_extra or {})["max_model_len"] == 262_144
        assert get(server, "/health") == (200, None)
        tokens = get(server, "/tokenize", {"model": "x", "prompt": "y" * 398})[1]
        assert tokens["count"] == len(tokens["tokens"]) == 100
        assert get(server, "/v1/users/me/balance")[0] == 404


def test_a_refused_request_takes_no_reply() -> None:
    refusals: list[tuple[Callable[[openai.OpenAI], Any], type[openai.APIStatusError]]] = [
        (lambda api: ask(api, messages=[]), openai.BadRequestError),
        (lambda api: ask(api, model="gpt-4"), openai.NotFoundError),
        (lambda api: ask(api.with_options(api_key="sk-no")), openai.AuthenticationError),
        (lambda api: ask(api, max_tokens=-1), openai.BadRequestError),
    ]
    with serving([text("a")], context_limit=1000) as (server, api):
        for request, error in refusals:
            with pytest.raises(error) as refused:
                request(api)
            assert isinstance(refused.value.body, dict) and refused.value.body["type"]
        with pytest.raises(openai.BadRequestError, match="exceeded model token limit: 1000"):
            ask(api, messages=[{"role": "user", "content": "x" * 5000}])
        assert exchange(server, http(server, b"{") + b"x\r\n\r\n").startswith(b"HTTP/1.1 400")
        assert assembled(ask(api))["text"] == "a"
        assert len(server.rejected) == 6
        assert [one.index for one in server.requests] == [0]
        with pytest.raises(AssertionError, match="token limit"):
            server.check()


def test_strict_can_be_switched_off() -> None:
    with serving([text("a")], strict=False) as (server, api):
        assert assembled(ask(api, messages=[], model="anything"))["text"] == "a"
        server.check()


def test_the_process_serves_conversations_and_writes_a_log(tmp_path: Any) -> None:
    log = tmp_path / "log.jsonl"
    command = [sys.executable, "-m", "tests.support", "--script", "shell-steps", "--steps", "3"]
    command += ["--fragments", "40", "--log", str(log), "--log-bodies"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        address = json.loads(process.stdout.readline())
        started = time.monotonic_ns()
        with openai.OpenAI(base_url=address["base_url"], api_key="any", max_retries=0) as api:
            for _ in range(2):
                assert run_agent(api) == ["echo step-0", "echo step-1", "echo step-2"]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
        process.stdout.close()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(8))
    assert started < lines[0]["arrived_ns"] < lines[0]["answered_ns"] < time.monotonic_ns()
    assert json.loads(lines[0]["body"])["messages"] == HI
    assert len({line["prefix_sha"] for line in lines}) == 4
    assert lines[3]["shared_prefix"] > lines[2]["body_bytes"] * 0.8


def run_agent(api: openai.OpenAI) -> list[str]:
    """A minimal agent: run the conversation to its end and return the commands."""
    messages: list[dict[str, Any]] = list(HI)
    commands = []
    while calls := (said := assembled(ask(api, messages=messages)))["calls"]:
        assert said["thinking"].count("considering") == 40
        ((identity, name, arguments),) = calls
        commands.append(json.loads(arguments)["command"])
        function = {"name": name, "arguments": arguments}
        call = {"id": identity, "type": "function", "function": function}
        messages.append({"role": "assistant", "reasoning_content": "", "tool_calls": [call]})
        messages.append({"role": "tool", "tool_call_id": identity, "content": "ok"})
    assert said["text"] == "Done after 3 steps."
    return commands


def test_the_process_ends_with_its_stdin() -> None:
    command = [sys.executable, "-m", "tests.support", "--watch-stdin"]
    done = subprocess.run(command, input="", capture_output=True, text=True, timeout=5, check=True)
    assert json.loads(done.stdout)["port"] > 0


def test_the_hi_script() -> None:
    with serving(scripts.hi(fragments=4)) as (_, api):
        said = assembled(ask(api))
        assert (said["text"], said["thinking"]) == ("Hi.", "considering " * 4)


TEXT = st.text('aé中🦊 "\\\n{}:,')


JSON = st.recursive(st.none() | st.booleans() | TEXT, st.lists, max_leaves=4)


@settings(max_examples=50)
@given(st.dictionaries(TEXT | st.just("stream "), JSON), st.booleans(), TEXT)
def test_cheap_looks_agree_with_parsing(body: dict[str, Any], stream: bool, model: str) -> None:
    body |= {"quoted": json.dumps({"stream": True, "model": "no"})}
    body |= {"stream": stream, "model": model}
    written = json.dumps(body).encode()
    assert recorded.has_flag(written, "stream") == stream
    assert recorded.string_value(written, "model") == model


@settings(max_examples=50)
@given(st.binary(max_size=50), st.binary(max_size=20), st.binary(max_size=20), st.booleans())
def test_shared_prefix(common: bytes, one: bytes, other: bytes, long: bool) -> None:
    common *= 3000 if long else 1
    a, b = common + one, common + other
    expected = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), None)
    assert recorded.shared_prefix(a, b) == (min(len(a), len(b)) if expected is None else expected)
