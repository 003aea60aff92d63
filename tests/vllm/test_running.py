"""One server in the background, and all that can be done with it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import pytest

from kimi_cli.frontends.serve.progress_view import STAGES
from kimi_cli.serve.running import LOADING
from tests.e2e.helpers import result_of
from tests.support.program import Run
from tests.support.real_vllm import END_SECONDS, START_SECONDS, Serving, free_port, get, stream
from tests.support.scripted_model import ANSWER, COMMAND, ENDLESS, SHELL_OUTPUT

pytestmark = [pytest.mark.long, pytest.mark.vllm]
NAME = "small"
CONTEXT = 32_768
READY = "✓ chat · ✓ tool call · ready on"
TOKENS = 300
"""Of an answer that a stop has to wait for: seconds, and less than any patience with it."""


class Up(NamedTuple):
    """A server that runs, and the run that started it. `seen_answering` is when vLLM's own page
    first said that all is well and `seen_ready` when the terminal did, as `time.time` tells it;
    `state` is what the keeper had written by then, and `answered` how many requests vLLM had
    answered."""

    kimi: Serving
    started: Run
    port: int
    seen_answering: float
    seen_ready: float
    state: dict[str, Any]
    answered: int


@pytest.fixture(scope="module")
def up(make: Callable[[], Serving], scripted: Path) -> Iterator[Up]:
    kimi, port = make(), free_port()
    asked = ["--detach", "--name", NAME, "--port", str(port), "--context", str(CONTEXT)]
    running = kimi.start("serve", scripted, *asked)
    running.until(lambda: get(port, "/health")[0] == 200, "health", START_SECONDS)
    seen_answering = time.time()
    running.until(lambda: "✓ chat" in running.out, "proof", START_SECONDS)
    seen_ready = time.time()
    state, answered = kimi.state(NAME), _answered(port)
    started = running.end(END_SECONDS)
    assert started.code == 0, started.err + started.out
    yield Up(kimi, started, port, seen_answering, seen_ready, state, answered)
    if kimi.processes():
        kimi("serve", "stop", NAME, "--now", deadline=END_SECONDS)
    assert not kimi.remains()


def test_the_start_is_told_stage_by_stage(up: Up) -> None:
    lines = up.started.out.splitlines()
    ready = next(number for number, line in enumerate(lines) if READY in line)
    assert f"http://127.0.0.1:{up.port}/v1" in lines[ready] and "kimi --local" in lines[ready]
    done = re.findall(r"✓ ([a-z A-Z]+) ·", "\n".join(lines[:ready]))
    # A stage that is over at once, as the load of so little is, may go unseen.
    assert done[0] == STAGES["starting"] and len(done) > 1
    assert done == [STAGES[stage] for stage in LOADING if STAGES[stage] in done]
    assert "background" in lines[-1] and f"kimi serve stop {NAME}" in lines[-1]
    assert "\x1b" not in up.started.out


def test_ready_is_told_as_soon_as_it_is_proved(up: Up) -> None:
    """Nothing but the two proofs is waited for, and nothing is told before them."""
    assert up.state["progress"]["stage"] == "ready"
    answered, ready = up.state["answered"], up.state["ready"]
    assert up.state["started"] < answered < ready <= up.seen_ready
    assert up.answered == len(up.state["checks"]) == 2
    waited = up.seen_ready - up.seen_answering
    proofs = sum(float(check["words"].removesuffix(" s")) for check in up.state["checks"])
    print(
        f"vLLM answers → known {answered - up.seen_answering:.2f} s → proved "
        f"{ready - answered:.2f} s (its requests {proofs:.1f} s) → told "
        f"{up.seen_ready - ready:.2f} s; {waited:.2f} s in all, of a start of "
        f"{up.seen_ready - up.state['started']:.1f} s"
    )
    assert waited < (up.seen_ready - up.state["started"]) / 4


def test_ps_and_its_json(up: Up, scripted: Path) -> None:
    listed = up.kimi("serve", "ps")
    assert listed.code == 0
    assert NAME in listed.out and str(up.port) in listed.out
    server = up.kimi.server(NAME)
    assert server["alive"] and server["state"] == "ready" and server["error"] is None
    assert server["url"] == f"http://127.0.0.1:{up.port}/v1"
    assert (server["repo"], server["context"]) == (str(scripted), CONTEXT)
    assert server["tokens"] >= CONTEXT
    checks = [(check["name"], check["ok"]) for check in server["checks"]]
    assert checks == [("chat", True), ("tool call", True)]


def test_status_asks_for_a_token(up: Up) -> None:
    run = up.kimi("serve", "status", NAME, "--json")
    assert run.code == 0, run.err
    status = run.json()
    assert status["answers"] and status["problem"] is None
    assert status["metrics"]["running"] == 0
    assert 0 <= status["metrics"]["kv_cache_share"] <= 1
    shown = up.kimi("serve", "status")
    assert shown.code == 0 and "one token" in shown.out


def test_logs(up: Up) -> None:
    run = up.kimi("serve", "logs", NAME, "-n", "100000")
    assert run.code == 0
    assert "Application startup complete." in run.out
    last = up.kimi("serve", "logs", NAME, "-n", "3")
    assert len(last.out.splitlines()) == 3


def test_the_key_is_asked_for_and_in_no_command_line(up: Up) -> None:
    folder = up.kimi.home / "servers" / NAME
    key = (folder / "key").read_text().strip()
    assert len(key) > 20 and (folder / "key").stat().st_mode & 0o77 == 0
    commands = [Path(f"/proc/{one.pid}/cmdline").read_bytes() for one in up.kimi.processes()]
    assert commands and not any(key.encode() in command for command in commands)
    with socket.create_connection(("127.0.0.1", up.port), 10) as client:
        client.sendall(b"GET /v1/models HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(100).split()[1] == b"401"


def test_an_agent_runs_what_the_model_calls(up: Up) -> None:
    """The whole way: the model's own tokens, vLLM's parser, the tool, and its result back."""
    run = up.kimi("--local", "-p", "run it", "--output-format", "json", deadline=START_SECONDS)
    result = result_of(run)
    assert run.code == 0, run.err
    assert (result["stop_reason"], result["answer"], result["steps"]) == ("done", ANSWER, 2)
    assert result["model"] == up.kimi.server(NAME)["model"]
    assert result["usage"]["output_tokens"] > 0
    events = up.kimi.stored()
    assert CONTEXT in {event.get("window") for event in events}
    (started,) = (event for event in events if event["type"] == "tool_started")
    (done,) = (event for event in events if event["type"] == "tool_result")
    assert (done["call_id"], done["name"]) == (started["call_id"], "shell")
    assert (done["status"], done["data"]["exit_code"]) == ("ok", 0)
    assert [part["text"] for part in done["parts"]] == [f"{SHELL_OUTPUT}\n"]
    calls, answer = (event["parts"] for event in events if event["type"] == "assistant_message")
    (call,) = calls
    assert (call["type"], call["id"]) == ("tool_call", done["call_id"])
    assert json.loads(call["arguments"]) == {"command": COMMAND}
    assert [part["text"] for part in answer] == [ANSWER]


def test_verify_passes_what_makes_every_call(up: Up) -> None:
    """With a real parser, streamed and plain: unicode, code, long text, nothing is changed."""
    run = up.kimi("serve", "verify", "--json", deadline=START_SECONDS)
    card = run.json()
    checks = {check["name"]: check["result"] for check in card["checks"]}
    assert "failed" not in checks.values(), [c for c in card["checks"] if c["result"] == "failed"]
    assert (run.code, card["passed"], run.err.count("Traceback")) == (0, True, 0)
    assert card["endpoint"] == f"http://127.0.0.1:{up.port}/v1"
    assert card["model"] == up.kimi.server(NAME)["model"]
    calls = ("tool calls, streamed", "tool calls, plain", "values", "parallel calls", "forced call")
    assert {checks[name] for name in (*calls, "several steps", "leaked markers")} == {"ok"}
    rates = card["tool_calls"]
    assert rates["asked"] == len(card["trials"]) > 0
    assert rates["called"] == rates["valid"] == rates["faithful"] == rates["asked"]
    assert card["output_tokens"] > 0


def test_its_port_is_taken(up: Up, scripted: Path) -> None:
    before = set(up.kimi.processes())
    run = up.kimi("serve", scripted, "--detach", "--port", str(up.port), deadline=START_SECONDS)
    assert run.code == 1
    assert str(up.port) in run.err and NAME in run.err
    assert set(up.kimi.processes()) == before


def test_a_port_that_somebody_else_has_is_named_or_passed_over(up: Up, scripted: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = up.kimi("serve", scripted, "--print", "--port", str(port), deadline=START_SECONDS)
        start = up.kimi("serve", scripted, "--detach", "--port", str(port), deadline=START_SECONDS)
    assert run.code == 0, run.err
    assert start.code == 1
    assert str(port) in start.err and "--port" in start.err


def test_the_name_is_taken(up: Up, scripted: Path) -> None:
    run = up.kimi("serve", scripted, "--detach", "--name", NAME, deadline=START_SECONDS)
    assert run.code in (1, 2)
    assert NAME in run.err


def test_restart_keeps_name_port_and_key(up: Up) -> None:
    before, key, engines = up.kimi.server(NAME), up.kimi.key(NAME), up.kimi.engine()
    run = up.kimi("serve", "restart", deadline=START_SECONDS)
    assert run.code == 0, run.out + run.err
    assert READY in run.out
    after = up.kimi.server(NAME)
    assert after["state"] == "ready" and after["started"] > before["started"]
    kept = ("name", "url", "repo", "model", "context")
    assert [after[field] for field in kept] == [before[field] for field in kept]
    assert up.kimi.key(NAME) == key
    assert up.kimi.engine() and not set(up.kimi.engine()) & set(engines)
    assert up.kimi("serve", "status", NAME).code == 0


def test_stop_waits_for_an_answer_and_leaves_nothing(up: Up) -> None:
    """The last one here: it ends what the others use."""
    body = {
        "model": up.kimi.server(NAME)["model"],
        "messages": [{"role": "user", "content": f"Go on {ENDLESS}."}],
    }
    key, begun = up.kimi.key(NAME), Event()

    def answer() -> list[dict[str, Any]]:
        chunks = []
        for chunk in stream(up.port, key, max_tokens=TOKENS, **body):
            chunks.append(chunk)
            if len(chunks) > 2:
                begun.set()
        return chunks

    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(answer)
        assert begun.wait(END_SECONDS)
        # It goes on no sooner than the stop has begun, however slow that is.
        engines = up.kimi.engine()
        for engine in engines:
            os.kill(engine.pid, signal.SIGSTOP)
        stop = up.kimi.start("serve", "stop", NAME)
        try:
            stop.until(lambda: up.kimi.stage(NAME) == "stopping", "stop", END_SECONDS)
            assert not asked.done(), "it was over before the stop"
        finally:
            for engine in engines:
                os.kill(engine.pid, signal.SIGCONT)
        chunks = asked.result(END_SECONDS)
    assert [c["choices"][0]["finish_reason"] for c in chunks if c["choices"]][-1] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == TOKENS
    run = stop.end(END_SECONDS)
    assert run.code == 0, run.err
    assert not up.kimi.remains()
    server = up.kimi.server(NAME)
    assert (server["alive"], server["state"], server["error"]) == (False, "stopped", None)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", up.port), 5)
    again = up.kimi("serve", "ps")
    assert (again.code, again.out) == (0, "")


def _answered(port: int) -> int:
    """How many requests vLLM has answered since it started."""
    status, text = get(port, "/metrics")
    assert status == 200
    found = re.findall(r"^vllm:request_success_total\{.*\} (\S+)$", text, re.MULTILINE)
    assert found, text
    return round(sum(map(float, found)))
