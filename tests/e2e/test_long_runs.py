"""Hundreds of steps through the installed program: nothing drifts, nothing is lost."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.helpers import stream_of
from tests.support.program import Kimi
from tests.support.server import ScriptedServer
from tests.support.worker import Worker

Serve = Callable[..., ScriptedServer]
MODEL = "kimi-k2-0905-preview"
FIRST = "Build the catalogue of rounds; every file below made/ counts. Never touch README.md."
LAST = "One more thing: close all rounds and name the last file by its full name."


def window(kimi: Kimi, tokens: int) -> None:
    kimi.configure({"models": {MODEL: {"context": tokens, "max_output_tokens": 4000}}})


def say(*messages: str) -> str:
    return "".join(json.dumps({"type": "user_message", "text": m}) + "\n" for m in messages)


def compactions(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] == "compaction"]


@pytest.mark.long
def test_a_thousand_steps_in_a_64k_window(kimi: Kimi, serve: Serve, project: Path) -> None:
    worker = Worker([400, 300, 300], thinking="I go on with the next step.")
    server = serve(worker, keep=False)
    window(kimi, 65_536)
    run = kimi(
        *("--input-format", "stream-json", "--output-format", "stream-json"),
        *("--yolo", "--max-steps", "1100", "-m", MODEL),
        server=server,
        stdin=say(FIRST, "Go on with the next rounds.", LAST),
        deadline=300,
    )
    events, result = stream_of(run)
    assert (run.code, result["answer"]) == (0, "Round 3 is finished.")
    assert worker.steps == 1000
    found = compactions(events)
    assert len(found) >= 5
    assert not any(event["mechanical"] for event in found)
    # Every request was one that a strict endpoint takes, and extended the one before.
    assert server.rejected == []
    assert worker.broken_prefixes == []
    assert FIRST in worker.last_text
    assert LAST in worker.last_text
    sent = json.dumps(worker.messages)
    assert "step 951 and those after it" in sent
    assert "close the round" in sent
    missing = [name for name in worker.written if name not in sent]
    assert (len(worker.written), missing) == (100, [])
    assert "README.md" in worker.last_text
    assert {event["window"] for event in found} == {65_536}
    assert result["compactions"] == len(found)
    assert len(result["changed_files"]) == 100
    # What each turn used adds up to what was used, the notes included.
    usage = [e["usage"] for e in events if e["type"] in ("assistant_message", "compaction")]
    total = sum(u["input_tokens"] + u["output_tokens"] for u in usage)
    assert total == result["usage"]["total_tokens"]
    assert (project / worker.written[-1]).exists()


@pytest.mark.long
def test_twenty_facts_are_all_there_three_compactions_later(kimi: Kimi, serve: Serve) -> None:
    """The user gives them while it works, each after some steps; 300 steps later all are there."""
    worker = Worker([320])
    server = serve(worker, keep=False)
    window(kimi, 32_768)
    source, feed = os.pipe()
    running = kimi.start(
        *("--input-format", "stream-json", "--output-format", "stream-json"),
        *("--yolo", "-m", MODEL),
        server=server,
        stdin=source,
        stdout=subprocess.PIPE,
    )
    os.close(source)
    with os.fdopen(feed, "w") as stdin:
        stdin.write(say("Work through the rounds. Fact 0: the port is 7000."))
        stdin.flush()
        for number in range(1, 20):
            reached = number * 2
            running.until(lambda at=reached: worker.steps >= at, f"step {reached}")  # type: ignore[misc]
            fact = f"Fact {number}: the port of service {number} is {7000 + number * 13}."
            stdin.write(json.dumps({"type": "steer", "text": fact}) + "\n")
            stdin.flush()
    run = running.end(200)
    events, result = stream_of(run)
    assert result["stop_reason"] == "done"
    steers = [e for e in events if e["type"] == "user_message" and e["origin"] == "steer"]
    assert len(steers) == 19
    assert len({event["step"] for event in steers}) >= 10
    assert len([c for c in compactions(events) if c["seq"] > steers[-1]["seq"]]) >= 3
    assert server.rejected == []
    assert worker.broken_prefixes == []
    assert "Fact 0: the port is 7000." in worker.last_text
    for number in range(1, 20):
        assert f"the port of service {number} is {7000 + number * 13}." in worker.last_text
