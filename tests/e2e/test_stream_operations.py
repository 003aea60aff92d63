"""What a program can ask of a running `kimi` over stdin, beside messages."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

from tests.e2e.helpers import stream_of
from tests.support.program import Kimi, Running
from tests.support.replies import text, tool_calls
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
STREAMS = ("--input-format", "stream-json", "--output-format", "stream-json")
WRITE = tool_calls([("write", {"path": "new.txt", "content": "x\n"})])


def line(**operation: Any) -> bytes:
    return json.dumps(operation).encode() + b"\n"


def write(running: Running, *lines: bytes) -> None:
    assert running.process.stdin is not None
    running.process.stdin.write(b"".join(lines))
    running.process.stdin.flush()


def close(running: Running) -> None:
    assert running.process.stdin is not None
    running.process.stdin.close()


def ended(running: Running, turns: int) -> Callable[[], bool]:
    return lambda: running.out.count('"turn_ended"') == turns


def test_a_plan_and_its_execution(kimi: Kimi, serve: Serve) -> None:
    server = serve([WRITE, text("I would write new.txt."), WRITE, text("Done.")])
    running = kimi.start(*STREAMS, server=server, stdin=subprocess.PIPE)
    write(running, line(type="set_mode", mode="plan"), line(type="user_message", text="plan it"))
    running.until(ended(running, 1), "end of the turn")
    assert not (kimi.cwd / "new.txt").exists()
    write(running, line(type="set_mode", mode="auto"), line(type="user_message", text="do it"))
    running.until(ended(running, 2), "end of the turn")
    close(running)
    run = running.end()
    events, result = stream_of(run)
    assert (run.code, result["answer"]) == (0, "Done.")
    assert (kimi.cwd / "new.txt").read_text() == "x\n"
    assert [e["mode"] for e in events if e["type"] == "mode_changed"] == ["plan", "auto"]
    assert [e["status"] for e in events if e["type"] == "tool_result"] == ["denied", "ok"]
    [denial] = result["denials"]
    assert "plan mode" in denial["reason"]
    assert server.requests[2].raw.startswith(server.requests[0].conversation)


def test_another_model_between_two_messages(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("one"), text("two")])
    operations = [
        line(type="user_message", text="first"),
        line(type="set_model", model="kimi-k3", thinking="low"),
        line(type="user_message", text="second"),
    ]
    run = kimi(*STREAMS, server=server, stdin=b"".join(operations))
    events, result = stream_of(run)
    assert (run.code, result["model"]) == (0, "kimi-k3")
    assert [r.body["model"] for r in server.requests] == ["kimi-k2.5", "kimi-k3"]
    kinds = ("turn_ended", "model_changed", "turn_started")
    shown = [e["type"] for e in events if e["type"] in kinds]
    assert shown == ["turn_started", "turn_ended", "model_changed", "turn_started", "turn_ended"]


def test_what_can_not_be_done_is_told_and_the_rest_goes_on(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("one")])
    operations = [
        line(type="set_model", model="kimi-k9"),
        line(type="undo"),
        line(type="user_message", text="first"),
    ]
    run = kimi(*STREAMS, server=server, stdin=b"".join(operations))
    events, result = stream_of(run)
    assert (run.code, result["stop_reason"], result["answer"]) == (2, "configuration", "one")
    told = [e["text"] for e in events if e["type"] == "notice" and e["level"] == "error"]
    assert [words.partition(":")[0] for words in told] == ["set model", "undo"]
    assert "kimi-k9" in told[0] and all(words in run.err for words in told)


def test_a_command_goes_to_the_background(kimi: Kimi, serve: Serve) -> None:
    begin = tool_calls([("shell", {"command": "echo begun; sleep 600"})])
    server = serve([begin, text("It runs.")])
    running = kimi.start(*STREAMS, server=server, stdin=subprocess.PIPE)
    write(running, line(type="user_message", text="begin"))
    running.until(lambda: "tool_output_delta" in running.out, "output")
    write(running, line(type="background"))
    running.until(ended(running, 1), "end of the turn")
    write(running, line(type="background"))
    running.until(lambda: "no running command" in running.err, "word about it")
    close(running)
    run = running.end()
    events, _ = stream_of(run)
    assert run.code == 0
    [result] = [e for e in events if e["type"] == "tool_result"]
    assert result["data"]["background"] is True and result["data"]["exit_code"] is None


def test_undo_redo_and_a_title(kimi: Kimi, serve: Serve) -> None:
    server = serve([WRITE, text("one"), text("two")])
    running = kimi.start(*STREAMS, server=server, stdin=subprocess.PIPE)
    made = kimi.cwd / "new.txt"
    write(running, line(type="user_message", text="first"), line(type="undo"))
    running.until(lambda: '"rewind"' in running.out, "undo")
    assert not made.exists()
    write(running, line(type="redo"), line(type="rename", text="The file"))
    running.until(lambda: running.out.count('"rewind"') == 2, "redo")
    assert made.exists()
    write(running, line(type="undo"), line(type="user_message", text="second"))
    close(running)
    run = running.end()
    events, result = stream_of(run)
    assert (run.code, result["answer"]) == (0, "two") and not made.exists()
    assert [e["what"] for e in events if e["type"] == "rewind"] == ["undo", "redo", "undo"]
    assert [e["text"] for e in events if e["type"] == "title"] == ["The file"]
    said = [m["content"] for m in server.requests[-1].messages if m["role"] == "user"]
    assert said == ["second"]
    listed = kimi("sessions", "list", "--json")
    assert "The file" in listed.out
