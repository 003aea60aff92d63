"""One server in the background, and all that can be done with it."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from kimi_cli.frontends.serve.progress_view import STAGES
from kimi_cli.serve.running import LOADING
from tests.e2e.helpers import result_of
from tests.support.program import Run
from tests.support.real_vllm import END_SECONDS, START_SECONDS, UP, Serving, free_port

pytestmark = [pytest.mark.long, pytest.mark.vllm]
NAME = "small"
CONTEXT = 32_768


class Up(NamedTuple):
    """A server that runs, and the run that started it."""

    kimi: Serving
    started: Run
    port: int


@pytest.fixture(scope="module")
def up(make: Callable[[], Serving], model: Path) -> Iterator[Up]:
    kimi, port = make(), free_port()
    asked = ["--detach", "--name", NAME, "--port", str(port), "--context", str(CONTEXT)]
    started = kimi("serve", model, *asked, deadline=START_SECONDS)
    assert started.code == 0, started.err + started.out
    yield Up(kimi, started, port)
    if kimi.processes():
        kimi("serve", "stop", NAME, "--now", deadline=END_SECONDS)
    assert not kimi.remains()


def test_the_start_is_told_stage_by_stage(up: Up) -> None:
    lines = up.started.out.splitlines()
    ready = next(number for number, line in enumerate(lines) if "✓ chat" in line)
    assert f"http://127.0.0.1:{up.port}/v1" in lines[ready] and "kimi --local" in lines[ready]
    done = re.findall(r"✓ ([a-z A-Z]+) ·", "\n".join(lines[:ready]))
    # A stage that is over at once, as the load of so little is, may go unseen.
    assert done[0] == STAGES["starting"] and len(done) > 1
    assert done == [STAGES[stage] for stage in LOADING if STAGES[stage] in done]
    assert "background" in lines[-1] and f"kimi serve stop {NAME}" in lines[-1]
    assert "\x1b" not in up.started.out


def test_ps_and_its_json(up: Up, model: Path) -> None:
    listed = up.kimi("serve", "ps")
    assert listed.code == 0
    assert NAME in listed.out and str(up.port) in listed.out
    server = up.kimi.server(NAME)
    assert server["alive"] and server["state"] in UP and server["error"] is None
    assert server["url"] == f"http://127.0.0.1:{up.port}/v1"
    assert (server["repo"], server["context"]) == (str(model), CONTEXT)
    assert server["tokens"] >= CONTEXT
    assert (server["checks"][0]["name"], server["checks"][0]["ok"]) == ("chat", True)


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


def test_an_agent_uses_it(up: Up) -> None:
    run = up.kimi("--local", "-p", "hi", "--output-format", "json", deadline=START_SECONDS)
    result = result_of(run)
    assert run.code == 0, run.err
    assert result["model"] == up.kimi.server(NAME)["model"]
    assert result["usage"]["output_tokens"] > 0
    assert CONTEXT in {event.get("window") for event in up.kimi.stored()}


def test_verify_gives_a_scorecard(up: Up) -> None:
    """Of a model that knows nothing: all is asked and counted, and it does not pass."""
    run = up.kimi("serve", "verify", "--json", deadline=START_SECONDS)
    assert run.code == 1, run.err
    card = run.json()
    assert (card["model"], card["passed"]) == (up.kimi.server(NAME)["model"], False)
    assert card["endpoint"] == f"http://127.0.0.1:{up.port}/v1"
    assert {check["result"] for check in card["checks"]} <= {"ok", "failed", "not applicable"}
    assert any(check["result"] == "ok" for check in card["checks"])
    rates = card["tool_calls"]
    assert rates["asked"] == len(card["trials"]) > 0
    assert rates["called"] == sum(trial["calls"] > 0 for trial in card["trials"])
    assert rates["valid"] == sum(trial["valid"] for trial in card["trials"])
    assert card["output_tokens"] > 0


def test_its_port_is_taken(up: Up, model: Path) -> None:
    before = set(up.kimi.processes())
    run = up.kimi("serve", model, "--detach", "--port", str(up.port), deadline=START_SECONDS)
    assert run.code == 1
    assert str(up.port) in run.err and NAME in run.err
    assert set(up.kimi.processes()) == before


def test_a_port_that_somebody_else_has_is_named_or_passed_over(up: Up, model: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run = up.kimi("serve", model, "--print", "--port", str(port), deadline=START_SECONDS)
        start = up.kimi("serve", model, "--detach", "--port", str(port), deadline=START_SECONDS)
    assert run.code == 0, run.err
    assert start.code == 1
    assert str(port) in start.err and "--port" in start.err


def test_the_name_is_taken(up: Up, model: Path) -> None:
    run = up.kimi("serve", model, "--detach", "--name", NAME, deadline=START_SECONDS)
    assert run.code in (1, 2)
    assert NAME in run.err


def test_stop_leaves_nothing(up: Up) -> None:
    """The last one here: it ends what the others use."""
    assert up.kimi.engine()
    run = up.kimi("serve", "stop", NAME, deadline=END_SECONDS)
    assert run.code == 0, run.err
    assert not up.kimi.remains()
    server = up.kimi.server(NAME)
    assert (server["alive"], server["state"], server["error"]) == (False, "stopped", None)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", up.port), 5)
    again = up.kimi("serve", "ps")
    assert (again.code, again.out) == (0, "")
