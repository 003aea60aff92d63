"""Instructions and budgets through the installed program, across compactions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.helpers import result_of, stream_of
from tests.support.program import Kimi
from tests.support.recorded import Recorded
from tests.support.replies import Reply, http_error, text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.worker import Worker, asks_for_note

pytestmark = pytest.mark.long

Serve = Callable[..., ScriptedServer]
MODEL = "kimi-k2-0905-preview"


def window(kimi: Kimi, tokens: int) -> None:
    kimi.configure({"models": {MODEL: {"context": tokens, "max_output_tokens": 1000}}})


def contents(record: Recorded) -> list[str]:
    return [str(message.get("content")) for message in record.messages]


def test_instructions_are_merged_and_stay_in_their_place(
    kimi: Kimi, serve: Serve, project: Path
) -> None:
    (kimi.home / "AGENTS.md").write_text("Home rule: answer in verse.\n")
    (project / "AGENTS.md").write_text("Root rule: use tabs.\n")
    below = project / "pkg"
    below.mkdir()
    (below / "AGENTS.md").write_text("Package rule: no globals.\n")
    server = serve(Worker([0, 0, 0]))
    assert kimi("-p", "one", "-m", MODEL, server=server, cwd=below).code == 0
    first = contents(server.requests[0])
    rules = ("Home rule: answer in verse.", "Root rule: use tabs.", "Package rule: no globals.")
    places = [first[1].index(rule) for rule in rules]
    assert places == sorted(places)
    assert first[2] == "one"
    # Nothing changed: nothing is said again, and the former request is a prefix.
    assert kimi("-p", "two", "-c", server=server, cwd=below).code == 0
    assert server.requests[1].raw.startswith(server.requests[0].conversation)
    assert sum(rules[1] in content for content in contents(server.requests[1])) == 1
    # A change is told where it breaks nothing: at the end.
    (project / "AGENTS.md").write_text("Root rule: use spaces.\n")
    assert kimi("-p", "three", "-c", server=server, cwd=below).code == 0
    assert server.requests[2].raw.startswith(server.requests[1].conversation)
    assert "Root rule: use spaces." in contents(server.requests[2])[-2]
    assert server.rejected == []


def test_instructions_survive_compactions(kimi: Kimi, serve: Serve, project: Path) -> None:
    (project / "AGENTS.md").write_text("Root rule: use tabs.\n")
    worker = Worker([60])
    server = serve(worker)
    window(kimi, 12_000)
    run = kimi("-p", "go", "-m", MODEL, "--yolo", server=server)
    assert run.code == 0
    assert worker.notes >= 2
    assert len({contents(record)[1] for record in server.requests}) == 1
    assert "Root rule: use tabs." in contents(server.requests[-1])[1]
    assert worker.broken_prefixes == []


def test_the_time_limit_holds_in_a_compaction(kimi: Kimi, serve: Serve) -> None:
    worker = Worker([200], note=text("never ends", stall_after=2))
    server = serve(worker)
    window(kimi, 8_000)
    run = kimi(
        *("-p", "go", "-m", MODEL, "--yolo", "--output-format", "json", "--timeout", "8"),
        server=server,
    )
    assert (run.code, result_of(run)["stop_reason"]) == (13, "time_limit")
    assert worker.notes == 1
    # Its partial answer is nowhere: the history is what it was.
    assert not any(event["type"] == "compaction" for event in kimi.stored())


def test_the_cost_limit_holds_across_compactions(kimi: Kimi, serve: Serve) -> None:
    worker = Worker([500])
    server = serve(worker, keep=False)
    window(kimi, 8_000)
    run = kimi(
        *("-p", "go", "-m", MODEL, "--yolo", "--output-format", "stream-json"),
        *("--max-cost", "0.05"),
        server=server,
    )
    events, result = stream_of(run)
    assert (run.code, result["stop_reason"]) == (12, "cost_limit")
    costs = [e["cost"] for e in events if e["type"] in ("assistant_message", "compaction")]
    assert worker.notes >= 2
    assert all(costs)
    assert abs(sum(costs) - result["cost"]) < 1e-6
    assert 0.045 < result["cost"] <= 0.05


def test_a_note_is_tried_again_like_every_request(kimi: Kimi, serve: Serve) -> None:
    worker = Worker([40])
    refused = {"left": 2}

    def script(index: int, record: Recorded) -> Reply:
        if asks_for_note(record) and refused["left"]:
            refused["left"] -= 1
            return http_error(429, "engine_overloaded_error", "The engine is overloaded")
        return worker(index, record)

    server = serve(script)
    window(kimi, 12_000)
    run = kimi("-p", "go", "-m", MODEL, "--yolo", "--output-format", "stream-json", server=server)
    events, result = stream_of(run)
    assert run.code == 0
    assert result["compactions"] >= 1
    assert not any(event.get("mechanical") for event in events)
    assert sum(event["type"] == "retry_scheduled" for event in events) == 2


TOO_LONG = "Invalid request: Your request exceeded model token limit: 20000 (requested: 20001)"


def test_an_endpoint_whose_window_is_smaller_than_it_said(kimi: Kimi, serve: Serve) -> None:
    worker = Worker([60])
    refused: list[int] = []

    def script(index: int, record: Recorded) -> Reply:
        if len(record.raw) > 48_000:
            refused.append(index)
            return http_error(400, "invalid_request_error", TOO_LONG)
        return worker(index, record)

    server = serve(script)
    window(kimi, 200_000)
    run = kimi(
        "-p", "remember 4711", "-m", MODEL, "--yolo", "--output-format", "json", server=server
    )
    assert run.code == 0
    assert result_of(run)["answer"] == "Round 1 is finished."
    assert result_of(run)["compactions"] >= 1
    # The limit is learnt once, not run into again and again.
    assert 1 <= len(refused) <= 3
    assert worker.steps == 60
    assert any("remember 4711" in content for content in contents(server.requests[-1]))


@pytest.mark.parametrize(
    "note",
    [
        text(""),
        tool_calls([("shell", {"command": "touch never-asked-for"})]),
        http_error(400, "invalid_request_error", "no notes today"),
        http_error(500, "server_error", "broken"),
    ],
    ids=["empty", "tool calls", "refused", "server error"],
)
def test_a_note_that_comes_to_nothing(note: Reply, kimi: Kimi, serve: Serve, project: Path) -> None:
    worker = Worker([40], note=note)
    server = serve(worker)
    kimi.configure(
        {
            "models": {MODEL: {"context": 12_000, "max_output_tokens": 1000}},
            "retry": {"attempts": 2, "base_seconds": 0.01, "cap_seconds": 0.02},
        }
    )
    run = kimi("-p", "remember 4711", "-m", MODEL, "--yolo", server=server)
    assert run.code == 0, run.err
    compactions = [event for event in kimi.stored() if event["type"] == "compaction"]
    assert compactions and all(event["mechanical"] for event in compactions)
    assert all(event["failure"] for event in compactions)
    assert any("remember 4711" in content for content in contents(server.requests[-1]))
    assert not (project / "never-asked-for").exists()


def test_a_result_larger_than_the_window(kimi: Kimi, serve: Serve, project: Path) -> None:
    (project / "big.txt").write_text("a line of the file\n" * 40_000)
    read = tool_calls([("shell", {"command": "cat big.txt"})])
    steps = iter([read, read, read, text("seen")])

    def script(index: int, record: Recorded) -> Reply:
        return text("a note") if asks_for_note(record) else next(steps)

    server = serve(script)
    window(kimi, 8_000)
    run = kimi("-p", "look", "-m", MODEL, "--yolo", server=server)
    assert (run.code, run.out.strip()) == (0, "seen")
    assert server.rejected == []
    assert max(len(record.raw) for record in server.requests) < 8_000 * 5
