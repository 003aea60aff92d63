"""Budgets: each axis has its exit code, its warning at 80 %, and holds for the whole run."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.e2e.helpers import result_of, stream_of
from tests.support.program import Kimi
from tests.support.recorded import Recorded
from tests.support.replies import Reply, Usage, text, tool_calls
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
PRICE = {"prices": {"kimi-k2.5": {"input": 1.0, "cached_input": 0.1, "output": 10.0}}}


def endless(index: int, request: Recorded) -> Reply:
    """A model that reads on and on; each answer costs 100,000 tokens in and 10,000 out."""
    read = ("read", {"path": "calc.py", "offset": index + 1})
    return tool_calls([read], usage=Usage(prompt=100_000, completion=10_000, cached=50_000))


def test_step_limit(kimi: Kimi, serve: Serve) -> None:
    server = serve(endless)
    run = kimi("-p", "x", "--max-steps", "5", "--output-format", "stream-json", server=server)
    events, result = stream_of(run)
    assert (run.code, result["stop_reason"], result["steps"]) == (10, "step_limit", 5)
    assert len(server.requests) == 5
    (warning,) = [e for e in events if e["type"] == "budget_warning"]
    assert (warning["axis"], warning["used"], warning["limit"]) == ("steps", 4, 5)
    assert "80 % of the limit of steps" in run.err


def test_words_beside_calls_are_no_answer(kimi: Kimi, serve: Serve) -> None:
    """Where a limit ends the run; the events still have them."""
    read = tool_calls([("read", {"path": "calc.py"})], text="I look into it.")
    server = serve([read] * 2)
    run = kimi("-p", "x", "--max-steps", "1", server=server)
    assert (run.code, run.out) == (10, "")
    assert "step limit" in run.err
    run = kimi("-p", "x", "--max-steps", "1", "--output-format", "stream-json", server=server)
    events, result = stream_of(run)
    assert (run.code, result["answer"]) == (10, "")
    assert events[-1]["answer"] == "I look into it."


@pytest.mark.parametrize("limit", ["answer", "message"])
def test_what_a_turn_did_not_end_with_is_no_answer(limit: str, kimi: Kimi, serve: Serve) -> None:
    """An answer that was sent back, and one that was cut off and had to go on."""
    server = serve([text("half", finish_reason="length" if limit == "message" else "stop")])
    check = ["--verify", "false"] if limit == "answer" else []
    run = kimi("-p", "x", "--max-steps", "1", *check, server=server)
    assert (run.code, run.out) == (10, "")


def test_a_rejected_answer_is_still_the_answer(kimi: Kimi, serve: Serve) -> None:
    """The turn ended with it, though not as done."""
    server = serve([text(f"try {n}") for n in range(5)])
    run = kimi("-p", "x", "--verify", "false", server=server)
    assert (run.code, run.out) == (1, "try 4\n")


def test_each_turn_has_an_answer_of_its_own(kimi: Kimi, serve: Serve) -> None:
    read = tool_calls([("read", {"path": "calc.py"})], text="I look.")
    server = serve([text("one"), read])
    messages = [json.dumps({"type": "user_message", "text": t}) for t in "ab"]
    run = kimi(
        "--input-format", "stream-json", "--max-steps", "2",
        server=server, stdin="\n".join(messages),
    )  # fmt: skip
    assert (run.code, run.out) == (10, "")


def test_token_limit(kimi: Kimi, serve: Serve) -> None:
    server = serve(endless)
    run = kimi(
        "-p", "x", "--max-tokens", "250000", "--output-format", "stream-json", server=server
    )  # fmt: skip
    events, result = stream_of(run)
    assert (run.code, result["stop_reason"]) == (11, "token_limit")
    # After two answers 30,000 are left, and the third request alone would need 100,000.
    assert len(server.requests) == 2
    assert result["usage"]["total_tokens"] == 220_000
    assert [e["axis"] for e in events if e["type"] == "budget_warning"] == ["tokens"]


def test_cost_limit(kimi: Kimi, serve: Serve) -> None:
    kimi.configure(PRICE)
    server = serve(endless)
    run = kimi("-p", "x", "--max-cost", "0.5", "--output-format", "stream-json", server=server)
    events, result = stream_of(run)
    assert (run.code, result["stop_reason"]) == (12, "cost_limit")
    # An answer: 50,000 x 1.0 + 50,000 x 0.1 + 10,000 x 10.0, a millionth of that: 0.155.
    assert result["cost"] == pytest.approx(0.155 * len(server.requests))
    assert result["cost"] - 0.155 < 0.5 <= result["cost"]
    assert result["currency"] == "USD"
    assert [e["axis"] for e in events if e["type"] == "budget_warning"] == ["cost"]


def test_cost_limit_without_a_price(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok"), text("ok")], flavour="vllm")
    run = kimi("-p", "x", "--max-cost", "1", server=server)
    assert run.code == 2
    assert '[prices."kimi-k2.5"]' in run.err
    assert not server.requests and not list(kimi.home.glob("sessions/*/*"))
    kimi.configure(PRICE)
    assert kimi("-p", "x", "--max-cost", "1", server=server).code == 0


@pytest.mark.parametrize("busy_with", ["model", "stall", "command", "retry"])
def test_time_limit(busy_with: str, kimi: Kimi, serve: Serve) -> None:
    """The limit strikes whatever the run is doing, and leaves no process behind (the fixture)."""
    replies = {
        "model": text("late", delay_headers=60),
        "stall": text("begun and then nothing", stall_after=2),
        "command": tool_calls([("shell", {"command": "sleep 60 & setsid sleep 60; wait"})]),
        "retry": Reply(status=429, headers={"Retry-After": "60"}, body=b"{}"),
    }
    server = serve([replies[busy_with]])
    run = kimi(
        "-p", "x", "--yolo", "--timeout", "2.5", "--output-format", "stream-json",
        server=server, deadline=20,
    )  # fmt: skip
    events, result = stream_of(run)
    assert (run.code, result["stop_reason"]) == (13, "time_limit")
    assert len(server.requests) == 1
    results = [e["status"] for e in events if e["type"] == "tool_result"]
    assert results == (["interrupted"] if busy_with == "command" else [])


def test_limits_hold_for_the_whole_run(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("a"), text("b"), text("c")])
    messages = [json.dumps({"type": "user_message", "text": t}) for t in "abc"]
    run = kimi(
        "--input-format", "stream-json", "--output-format", "json", "--max-steps", "2",
        server=server, stdin="\n".join(messages),
    )  # fmt: skip
    assert run.code == 10
    assert len(server.requests) == 2
    assert result_of(run)["steps"] == 2


def test_limits_come_from_settings_and_flags_win(kimi: Kimi, serve: Serve) -> None:
    kimi.configure({"budget": {"max_steps": 2, "warn_at": 0.5}})
    server = serve(endless)
    assert kimi("-p", "x", server=server).code == 10
    assert len(server.requests) == 2
    run = kimi("-p", "x", "--max-steps", "4", server=server)
    assert len(server.requests) == 2 + 4
    assert "50 % of the limit of steps" in run.err
