"""How the scripted server misbehaves on request."""

import json
import socket
import threading
import time
from typing import Any

import openai
import pytest

from tests.support.recorded import Recorded
from tests.support.replies import Reply, http_error, raw, text
from tests.support.server import ScriptedServer
from tests.unit.scripted_client import (
    HI,
    ask,
    assembled,
    chat,
    exchange,
    http,
    serving,
)


def test_http_errors_and_retry_after() -> None:
    busy = http_error(429, "rate_limit_reached_error", "slow down", {"Retry-After": "7"})
    html = raw(502, "text/html", b"<html>Bad Gateway</html>")
    with serving([busy, html]) as (server, api):
        with pytest.raises(openai.RateLimitError) as limited:
            ask(api)
        assert limited.value.response.headers["retry-after"] == "7"
        assert limited.value.body == {"type": "rate_limit_reached_error", "message": "slow down"}
        with pytest.raises(openai.InternalServerError) as proxied:
            ask(api)
        assert proxied.value.response.text == "<html>Bad Gateway</html>"
        assert [one.status for one in server.requests] == [429, 502]


def test_an_exhausted_script_says_so() -> None:
    with serving([text("a")]) as (server, api):
        server.check()
        ask(api)
        with pytest.raises(openai.InternalServerError, match="script is exhausted"):
            ask(api)
        assert server.exhausted
        with pytest.raises(AssertionError, match="exhausted"):
            server.check()


def test_a_script_may_be_a_function_and_may_fail() -> None:
    def script(index: int, request: Recorded) -> Reply:
        return text(f"{index}:{request.messages[0]['content']}") if index < 2 else text(1 / 0)  # type: ignore[arg-type]

    with serving(script) as (server, api):
        assert [assembled(ask(api))["text"] for _ in range(2)] == ["0:hi", "1:hi"]
        with pytest.raises(openai.InternalServerError, match="ZeroDivisionError"):
            ask(api)
        with pytest.raises(AssertionError, match="ZeroDivisionError"):
            server.check()


def test_an_error_in_mid_stream_and_a_broken_line() -> None:
    error = {"type": "engine_overloaded_error", "message": "too hot"}
    with serving([text("abc", error_after=2, error=error)] * 2) as (_, api):
        with pytest.raises(openai.APIError, match="too hot"):
            ask(api)
        with pytest.raises(openai.InternalServerError, match="too hot"):
            ask(api, stream=False)
    with serving([text("abc", malformed_after=1)] * 2) as (server, api):
        with pytest.raises(json.JSONDecodeError):
            ask(api)
        assert b"[DONE]" in exchange(server, http(server, chat()))


@pytest.mark.parametrize("after", ["headers", 0, 3, 99])
@pytest.mark.parametrize("drop", ["rst", "fin"])
def test_a_dropped_connection(after: Any, drop: str) -> None:
    reply = text("abc", fragments=3, drop_after=after, drop=drop)
    with serving([reply]) as (server, _):
        with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
            connection.sendall(http(server, chat()))
            got, was_reset = b"", False
            try:
                while data := connection.recv(65536):
                    got += data
            except ConnectionResetError:
                was_reset = True
        assert was_reset == (drop == "rst")
        assert server.requests[0].outcome == "dropped"
        assert not got.endswith(b"\r\n0\r\n\r\n")
        if not was_reset:
            events = {"headers": 0, 0: 0, 3: 3, 99: 6}
            assert got.count(b"data:") == events[after]


def test_the_openai_client_reports_a_drop() -> None:
    with serving([text("abc", fragments=3, drop_after=2)] * 2) as (_, api):
        with pytest.raises(openai.APIConnectionError):
            ask(api)
        with pytest.raises(openai.APIConnectionError):
            ask(api, stream=False)


def test_a_clean_end_without_finish_or_done_keeps_the_connection() -> None:
    with serving([text("abc", fragments=3, drop_after=2, drop="end"), text("next")]) as (_, api):
        cut = assembled(ask(api))
        assert (cut["text"], cut["finish"]) == ("a", None)
        assert assembled(ask(api))["text"] == "next"


@pytest.mark.parametrize(("point", "events"), [("headers", None), (0, 0), (2, 2), (99, 6)])
def test_a_stall_sends_exactly_so_much_and_ends_when_the_client_leaves(
    point: Any, events: int | None
) -> None:
    with serving([text("abc", fragments=3, stall_after=point)]) as (server, _):
        with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
            connection.sendall(http(server, chat()))
            assert server.wait_until(lambda: len(server.requests) == 1)
            connection.settimeout(0.1)
            got = b""
            with pytest.raises(TimeoutError):
                while True:
                    got += connection.recv(65536)
            assert got.count(b"data:") == (events or 0)
            assert got.startswith(b"HTTP/1.1 200") == (events is not None)
            assert server.requests[0].outcome == "open"
        assert server.wait_until(lambda: server.requests[0].outcome == "client left")


def test_a_stall_with_pings_goes_on_pinging() -> None:
    with serving([text("a", stall_after=1, stall_pings=0.01)]) as (server, _):
        with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
            connection.sendall(http(server, chat()))
            got = b""
            while got.count(b": keep-alive") < 3:
                got += connection.recv(65536)
        assert server.wait_until(lambda: server.requests[0].outcome == "client left")


def test_a_pipelined_request_does_not_hide_that_the_client_left() -> None:
    with serving([text("a", stall_after=1), text("b")]) as (server, _):
        with socket.create_connection(("127.0.0.1", server.port), 5) as connection:
            connection.sendall(http(server, chat()) * 2)
            assert server.wait_until(lambda: len(server.requests) == 1)
        assert server.wait_until(lambda: server.requests[0].outcome == "client left")
        assert len(server.requests) == 1


def test_a_client_timeout_meets_a_stall_of_an_unstreamed_answer() -> None:
    with serving([text("abc", stall_after=1)]) as (server, api):
        with pytest.raises(openai.APITimeoutError):
            api.with_options(timeout=0.2).chat.completions.create(
                model="kimi-k2.5",
                messages=HI,  # type: ignore[arg-type]
            )
        assert server.wait_until(lambda: server.requests[0].outcome == "client left")


def test_close_is_quick_and_leaves_no_thread_whatever_stalls() -> None:
    before = set(threading.enumerate())
    stalls: list[Reply] = [
        text("a", stall_after="headers"),
        text("a", stall_after=0),
        text("a", stall_after=2, stall_pings=0.05),
        text("a", delay_headers=60),
        text("a", delay_between=60),
        text("x" * 20_000_000),
    ]
    server = ScriptedServer(stalls, strict=False).start()
    connections = [socket.create_connection(("127.0.0.1", server.port), 5) for _ in range(9)]
    for number, connection in enumerate(connections[:6], 1):
        connection.sendall(http(server, chat()))
        assert server.wait_until(lambda number=number: len(server.requests) == number)  # type: ignore[misc]
    started = time.monotonic()
    server.close()
    assert time.monotonic() - started < 1
    assert set(threading.enumerate()) <= before
    assert {one.outcome for one in server.requests} == {"server closed"}
    server.close()
    for connection in connections:
        connection.close()


def test_delays_are_kept() -> None:
    reply = text("abc", fragments=3, delay_headers=0.05, delay_first=0.05, delay_between=0.02)
    with serving([reply]) as (server, api):
        started = time.monotonic()
        ask(api)
        assert time.monotonic() - started >= 0.05 + 0.05 + 5 * 0.02
    assert server.requests[0].answered_ns - server.requests[0].received_ns >= 200_000_000
