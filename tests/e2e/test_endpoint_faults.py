"""What the network and the endpoint do wrong, seen by whoever runs `kimi -p`."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.program import Kimi, Run
from tests.support.replies import Reply, http_error, raw, text, tool_calls
from tests.support.server import ScriptedServer

pytestmark = pytest.mark.long

Serve = Callable[..., ScriptedServer]

OVERLOADED = http_error(429, "engine_overloaded_error", "The engine is currently overloaded")
LIMITED = http_error(429, "rate_limit_reached_error", "max RPM: 3")


def retries(run: Run) -> int:
    return run.err.count("next try ")


def bodies(server: ScriptedServer) -> set[bytes]:
    return {request.raw for request in server.requests}


@contextlib.contextmanager
def unused_port() -> Iterator[int]:
    """A loopback port that refuses connections: bound, but nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


# Who may ask what.


def test_without_a_key_moonshots_hosts_are_not_even_asked(kimi: Kimi) -> None:
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        run = kimi("-p", "hi", env={"KIMI_API_KEY": None, "HTTPS_PROXY": address})
        with pytest.raises(BlockingIOError):
            proxy.accept()
    assert run.code == 30
    assert "KIMI_API_KEY" in run.err
    assert "api.moonshot.ai" in run.err
    assert run.out == ""
    assert kimi.sessions() == []


def test_without_a_key_models_are_not_asked_for_either(kimi: Kimi) -> None:
    run = kimi("models", env={"KIMI_API_KEY": None, "HTTPS_PROXY": "http://127.0.0.1:9"})
    assert run.code == 30
    assert "KIMI_API_KEY" in run.err


def test_an_own_server_needs_no_key(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("Hello.")], api_key=None)
    run = kimi("-p", "hi", server=server, env={"KIMI_API_KEY": None})
    assert (run.code, run.out) == (0, "Hello.\n")
    assert "authorization" not in server.requests[0].headers


def test_a_wrong_key(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("never")])
    run = kimi("-p", "hi", server=server, env={"KIMI_API_KEY": "sk-wrong-key-0123456789"})
    assert run.code == 30
    assert "key" in run.err
    assert "sk-wrong" not in run.err
    assert (len(server.rejected), len(server.requests)) == (1, 0)


def test_an_own_server_that_wants_a_key(kimi: Kimi, serve: Serve) -> None:
    run = kimi("-p", "hi", server=serve([text("never")]), env={"KIMI_API_KEY": None})
    assert run.code == 30


@pytest.mark.parametrize("flavour", ["hosted", "vllm"])
def test_an_unknown_model_is_answered_with_those_there_are(
    kimi: Kimi, serve: Serve, flavour: str
) -> None:
    server = serve([], flavour=flavour, models=["kimi-k2.5", "other-model"])
    run = kimi("-p", "hi", "-m", "kimi-k9", server=server)
    assert run.code == 2
    assert "kimi-k9" in run.err
    assert "kimi-k2.5" in run.err
    assert "other-model" in run.err
    assert len(server.rejected) == 1


def test_quota_is_not_tried_again(kimi: Kimi, serve: Serve) -> None:
    words = "Your account's current quota is used up, please check your account balance"
    server = serve([http_error(429, "exceeded_current_quota_error", words)])
    run = kimi("-p", "hi", server=server)
    assert run.code == 31
    assert words in run.err
    assert len(server.requests) == 1


def test_filtered_content(kimi: Kimi, serve: Serve) -> None:
    words = "The request was rejected because it was considered high risk"
    run = kimi("-p", "hi", server=serve([http_error(400, "content_filter", words)]))
    assert run.code == 32
    assert words in run.err


# Who can't be reached.


def test_a_closed_port(kimi: Kimi) -> None:
    with unused_port() as port:
        run = kimi("-p", "hi", "--base-url", f"http://127.0.0.1:{port}/v1")
    assert run.code == 75
    assert f"cannot reach 127.0.0.1:{port}: connection refused" in run.err
    assert retries(run) == 5
    assert run.out == ""


def test_a_host_that_swallows_connections(kimi: Kimi) -> None:
    kimi.configure({"timeouts": {"connect": 0.3}, "retry": {"attempts": 2}})
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        run = kimi("-p", "hi", "--base-url", f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
    assert run.code == 75
    assert "no connection in time" in run.err
    assert retries(run) == 1


def test_a_name_that_does_not_resolve(kimi: Kimi) -> None:
    kimi.configure({"retry": {"attempts": 2}})
    run = kimi("-p", "hi", "--base-url", "https://nowhere.invalid/v1")
    assert run.code == 75
    assert "nowhere.invalid" in run.err
    assert "name not resolved" in run.err


# Who asks for patience.


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "1"}], ids=["bare", "retry-after"])
def test_a_rate_limit_is_waited_for(kimi: Kimi, serve: Serve, headers: dict[str, str]) -> None:
    server = serve([LIMITED.but(headers=headers), text("There.")])
    run = kimi("-p", "hi", server=server)
    assert (run.code, run.out) == (0, "There.\n")
    assert retries(run) == 1
    assert "max RPM: 3" in run.err
    assert len(bodies(server)) == 1
    waited = server.requests[1].arrived_ns - server.requests[0].answered_ns
    assert waited >= 1e9 or not headers


def test_a_wait_that_is_too_long_is_refused(kimi: Kimi, serve: Serve) -> None:
    server = serve([LIMITED.but(headers={"Retry-After": "86400"})])
    run = kimi("-p", "hi", server=server)
    assert run.code == 75
    assert len(server.requests) == 1


def test_two_failures_of_the_server_are_survived(kimi: Kimi, serve: Serve) -> None:
    server = serve([http_error(500), http_error(502), text("Third time.")])
    run = kimi("-p", "hi", server=server)
    assert (run.code, run.out) == (0, "Third time.\n")
    assert (len(server.requests), len(bodies(server))) == (3, 1)


def test_a_server_that_always_fails(kimi: Kimi, serve: Serve) -> None:
    server = serve(lambda index, request: http_error(500, message="CUDA out of memory"))
    run = kimi("-p", "hi", "--output-format", "json", server=server)
    assert run.code == 75
    assert len(server.requests) == 6
    result = run.json()
    assert result["stop_reason"] == "temporary"
    assert "CUDA out of memory" in result["detail"]
    assert "(after 6 attempts)" in result["detail"]
    assert result["answer"] == ""


def test_an_overload_is_sat_out_longer_than_a_failure(kimi: Kimi, serve: Serve) -> None:
    server = serve([OVERLOADED] * 8 + [text("Finally.")])
    run = kimi("-p", "hi", server=server)
    assert (run.code, run.out) == (0, "Finally.\n")
    assert retries(run) == 8


def test_an_overload_without_end(kimi: Kimi, serve: Serve) -> None:
    server = serve(lambda index, request: OVERLOADED)
    run = kimi("-p", "hi", server=server)
    assert run.code == 75
    assert len(server.requests) == 11


# Who breaks off.

SENTENCE = "The quick brown fox jumps over the lazy dog."


@pytest.mark.parametrize("drop", ["rst", "fin", "end"])
def test_a_dropped_answer_is_asked_for_again(kimi: Kimi, serve: Serve, drop: str) -> None:
    whole = text(SENTENCE, thinking="Hm, a fox.", fragments=6)
    server = serve([whole.but(drop_after=10, drop=drop), whole])
    run = kimi("-p", "hi", server=server)
    assert (run.code, run.out) == (0, SENTENCE + "\n")
    assert retries(run) == 1
    assert len(bodies(server)) == 1
    answers = [event for event in kimi.stored() if event["type"] == "assistant_message"]
    assert [part["text"] for part in answers[0]["parts"]] == ["Hm, a fox.", SENTENCE]
    assert len(answers) == 1
    assert not answers[0]["partial"]


@pytest.mark.parametrize("drop", ["rst", "fin", "end"])
def test_a_dropped_tool_call_is_not_run(kimi: Kimi, serve: Serve, project: Path, drop: str) -> None:
    call = tool_calls(
        [("write", {"path": "new.txt", "content": "1234567890" * 20})], argument_fragments=10
    )
    server = serve([call.but(drop_after=6, drop=drop), call, text("Written.")])
    run = kimi("-p", "hi", server=server)
    assert (run.code, run.out) == (0, "Written.\n")
    server.check()
    assert (project / "new.txt").read_text() == "1234567890" * 20
    kinds = [event["type"] for event in kimi.stored()]
    assert kinds.count("tool_started") == kinds.count("tool_result") == 1
    assert server.requests[0].raw == server.requests[1].raw


def test_the_reader_of_events_is_told_to_forget_the_half(kimi: Kimi, serve: Serve) -> None:
    whole = text(SENTENCE, fragments=6)
    run = kimi(
        "-p", "hi", "--output-format", "stream-json",
        server=serve([whole.but(drop_after=4), whole]),
    )  # fmt: skip
    shown = ""
    for event in run.events():
        if event["type"] == "text_delta":
            shown += event["text"]
        elif event["type"] == "retry_scheduled":
            assert shown
            shown = ""
    assert shown == SENTENCE == run.events()[-1]["answer"]


def test_an_answer_that_never_gets_through(kimi: Kimi, serve: Serve) -> None:
    server = serve(lambda index, request: text(SENTENCE, fragments=6, drop_after=4))
    run = kimi("-p", "hi", server=server)
    assert (run.code, run.out) == (75, "")
    assert len(server.requests) == 6
    assert "assistant_message" not in [event["type"] for event in kimi.stored()]


def test_an_error_in_the_middle_of_an_answer(kimi: Kimi, serve: Serve) -> None:
    whole = text(SENTENCE, fragments=6)
    run = kimi("-p", "hi", server=serve([whole.but(error_after=4), whole]))
    assert (run.code, run.out) == (0, SENTENCE + "\n")
    assert "the engine died" in run.err


def test_nonsense_in_the_middle_of_an_answer(kimi: Kimi, serve: Serve) -> None:
    whole = text(SENTENCE, fragments=6)
    run = kimi("-p", "hi", server=serve([whole.but(malformed_after=4), whole]))
    assert (run.code, run.out) == (0, SENTENCE + "\n")


def test_something_that_is_no_model(kimi: Kimi, serve: Serve) -> None:
    page = raw(200, "text/html", b"<html><title>Welcome to nginx!</title></html>")
    run = kimi("-p", "hi", server=serve(lambda index, request: page))
    assert run.code == 75
    assert "Welcome to nginx!" in run.err


# Who goes silent.


STALLS = [
    pytest.param({"stall_after": "headers"}, id="before the headers"),
    pytest.param({"stall_after": 0}, id="before the first event"),
    pytest.param({"stall_after": 4}, id="in the middle"),
]


@pytest.mark.parametrize("stall", STALLS)
def test_a_stalled_answer_is_asked_for_again(
    kimi: Kimi, serve: Serve, stall: dict[str, object]
) -> None:
    kimi.configure({"timeouts": {"first_byte": 2, "between_chunks": 0.5}})
    whole = text(SENTENCE, fragments=6)
    server = serve([whole.but(**stall), whole])
    run = kimi("-p", "hi", server=server)
    assert (run.code, run.out) == (0, SENTENCE + "\n")
    assert retries(run) == 1
    assert server.wait_until(lambda: server.requests[0].outcome == "client left")


@pytest.mark.parametrize("stall", STALLS)
def test_an_endpoint_that_always_stalls(kimi: Kimi, serve: Serve, stall: dict[str, object]) -> None:
    kimi.configure({"timeouts": {"first_byte": 1, "between_chunks": 0.3}, "retry": {"attempts": 2}})
    whole: Reply = text(SENTENCE, fragments=6)
    server = serve(lambda index, request: whole.but(**stall))
    run = kimi("-p", "hi", server=server)
    assert (run.code, run.out) == (75, "")
    assert retries(run) == 1
    assert "sent nothing for" in run.err


def test_sse_comments_do_not_keep_a_stalled_answer_alive_for_ever(kimi: Kimi, serve: Serve) -> None:
    """Comments are signs of life, so the run's own limit has to end this."""
    server = serve([text(SENTENCE, fragments=6, stall_after=4, stall_pings=0.05)])
    run = kimi("-p", "hi", "--timeout", "3", server=server)
    assert run.code == 13
    assert "The quick" not in run.out
