"""What reaches the model: the prompt, stdin as prompt or data, operations over stdin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.helpers import last_text, result_of, stream_of
from tests.support.program import PROGRAM, Kimi, Running
from tests.support.recorded import Recorded
from tests.support.replies import Reply, text, tool_calls
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]
PIXEL = "data:image/png;base64,iVBORw0KGgo="


def asked(server: ScriptedServer) -> str:
    """The one prompt that the server saw."""
    assert len(server.requests) == 1
    return last_text(server.requests[0].messages)


def line(**operation: Any) -> bytes:
    return json.dumps(operation).encode() + b"\n"


def write(running: Running, *lines: bytes) -> None:
    assert running.process.stdin is not None
    running.process.stdin.write(b"".join(lines))
    running.process.stdin.flush()


def close(running: Running) -> None:
    assert running.process.stdin is not None
    running.process.stdin.close()


def test_prompt_as_argument(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("Four.")])
    run = kimi("-p", "what is 2+2? ¿ 四", server=server)
    assert (run.code, run.out) == (0, "Four.\n")
    assert asked(server) == "what is 2+2? ¿ 四"


def test_dash_takes_the_prompt_from_stdin(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")])
    assert kimi("-p", "-", server=server, stdin="from\nstdin\n").code == 0
    assert asked(server) == "from\nstdin\n"


def test_pipe_without_prompt_is_the_prompt(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")])
    assert kimi(server=server, stdin="\ufeffpiped ünïcode").code == 0
    assert asked(server) == "piped ünïcode"


def test_pipe_beside_prompt_is_data(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")])
    assert kimi("-p", "review", server=server, stdin=b"diff \xff --git").code == 0
    assert asked(server) == "review\n\n<stdin>\ndiff \ufffd --git\n</stdin>"


def test_stdin_may_be_a_file(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("from a file")
    server = serve([text("ok"), text("ok")])
    with (tmp_path / "data.txt").open("rb") as file:
        assert kimi(server=server, stdin=file).code == 0
    with (tmp_path / "data.txt").open("rb") as file:
        assert kimi("-p", "sum up", server=server, stdin=file).code == 0
    prompts = [last_text(request.messages) for request in server.requests]
    assert prompts == ["from a file", "sum up\n\n<stdin>\nfrom a file\n</stdin>"]


def test_pipe_held_open_by_a_harness_is_not_waited_for(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")])
    running = kimi.start("-p", "go on", server=server, stdin=subprocess.PIPE)
    run = running.end()
    close(running)
    assert run.code == 0
    assert "nothing arrived on stdin" in run.err
    assert asked(server) == "go on"


def test_slow_pipeline_is_waited_for(kimi: Kimi, serve: Serve) -> None:
    """Longer than the patience with a harness: the shell between is not our parent's pipe."""
    server = serve([text("ok")])
    run = subprocess.run(
        ["sh", "-c", '{ sleep 3; echo late; } | "$0" -p wait', str(PROGRAM)],
        cwd=kimi.cwd,
        env=kimi.environment(server),
        capture_output=True,
        timeout=60,
    )
    assert run.returncode == 0
    assert asked(server) == "wait\n\n<stdin>\nlate\n\n</stdin>"


def test_closed_stdin_is_no_obstacle(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("ok")])
    command = ["sh", "-c", 'exec "$0" "$@" <&-', str(PROGRAM)]
    env = kimi.environment(server)
    runs = [
        subprocess.run([*command, "-p", p], cwd=kimi.cwd, env=env, timeout=60, capture_output=True)
        for p in ("x", "-")
    ]
    assert [(run.returncode, run.stdout) for run in runs] == [(0, b"ok\n"), (2, b"")]
    assert b"stdin is closed" in runs[1].stderr
    assert asked(server) == "x"


def test_closed_stdout_loses_the_result_and_nothing_else(kimi: Kimi, serve: Serve) -> None:
    """Nor may the answer end up in the file or socket that got the descriptor instead."""
    server = serve([tool_calls([("write", {"path": "new.txt", "content": "new"})]), text("secret")])
    command = ["sh", "-c", 'exec "$0" "$@" >&-', str(PROGRAM), "-p", "x"]
    env = kimi.environment(server)
    run = subprocess.run(command, cwd=kimi.cwd, env=env, timeout=60, stderr=subprocess.PIPE)
    assert run.returncode == 74
    assert (kimi.cwd / "new.txt").read_text() == "new"
    assert kimi.stored()[-1]["reason"] == "done"


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        (("-p", "  "), "prompt is empty"),
        ((), "prompt is empty"),
        (("-p", "x", "--input-format", "stream-json"), "not -p"),
        (("--image", "x.png", "--input-format", "stream-json"), "media parts"),
        (("-p", "x", "-c", "-r", "abc"), "can't be given together"),
        (("-p", "x", "-c", "--no-session"), "--no-session"),
        (("-p", "x", "--output-format", "yaml"), "yaml"),
        (("-p", "x", "--no-such-flag"), "--no-such-flag"),
    ],
)
def test_usage_errors_end_with_2_before_any_request(
    kimi: Kimi, serve: Serve, args: tuple[str, ...], complaint: str
) -> None:
    server = serve()
    run = kimi(*args, server=server)
    assert (run.code, run.out) == (2, "")
    assert complaint in run.err
    assert not server.requests + server.other_requests


def test_nothing_to_do_in_a_terminal(kimi: Kimi) -> None:
    master, terminal = os.openpty()
    try:
        run = kimi(stdin=terminal)
    finally:
        os.close(master)
        os.close(terminal)
    assert run.code == 2
    assert "-p TEXT" in run.err


def test_operations_make_turns(kimi: Kimi, serve: Serve) -> None:
    """Two turns, one with an image, a bad line between them; the last turn gives the answer."""
    server = serve([text("one"), text("two")])
    image = {"type": "media", "kind": "image", "url": PIXEL}
    operations = [
        line(type="user_message", text="first"),
        b"this is not json\n",
        b"\n",
        line(type="set_colour", colour="red"),
        line(type="user_message", text="second", parts=[image]),
    ]
    run = kimi(
        "--input-format", "stream-json", "--output-format", "stream-json",
        server=server, stdin=b"".join(operations).rstrip(b"\n"),
    )  # fmt: skip
    assert run.code == 2
    assert run.err.count("not an operation") == 2
    assert "stdin line 2 is not an operation: it is not JSON: this is not json\n" in run.err
    assert "line 4 is not an operation: there is no type set_colour, only user_message," in run.err
    events, result = stream_of(run)
    told = [e["text"] for e in events if e["type"] == "notice" and e["level"] == "error"]
    assert len(told) == 2 and all(text in run.err for text in told)
    assert (result["stop_reason"], result["detail"]) == (
        "configuration", "2 lines of stdin not carried out"
    )  # fmt: skip
    assert [e["answer"] for e in events if e["type"] == "turn_ended"] == ["one", "two"]
    assert (result["answer"], result["steps"]) == ("two", 2)
    assert server.requests[1].messages[-1]["content"] == [
        {"type": "text", "text": "second"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]
    first, second = server.requests
    assert second.raw.startswith(first.conversation)


@pytest.mark.parametrize(
    ("bad", "complaint"),
    [
        (b"[1]", "it is not a JSON object"),
        (b"{}", "it has no type"),
        (b'{"type": "steer"}', "steer needs text"),
        (b'{"type": "user_message", "txt": "x"}', "user_message has no field txt"),
        (b'{"type": "user_message", "text": 5}', "text of user_message is not a text"),
        (b'{"type": "user_message", "text": " "}', "the message is empty"),
        (b"\xff\xfe", "it is not JSON"),
    ],
)
def test_a_line_that_is_no_operation_is_told_at_once(
    bad: bytes, complaint: str, kimi: Kimi, serve: Serve
) -> None:
    """Before the input has ended; what follows is carried out, and the exit code tells."""
    server = serve([text("one")])
    running = kimi.start(
        "--input-format", "stream-json", "--output-format", "stream-json",
        server=server, stdin=subprocess.PIPE,
    )  # fmt: skip
    write(running, b"\n", bad + b"\n")
    running.until(lambda: '"notice"' in running.out, "notice")
    write(running, line(type="user_message", text="go on"))
    close(running)
    run = running.end()
    events, result = stream_of(run)
    (notice,) = [event["text"] for event in events if event["type"] == "notice"]
    assert notice.startswith(f"stdin line 2 is not an operation: {complaint}: ")
    assert [event["reason"] for event in events if event["type"] == "turn_ended"] == ["done"]
    assert (run.code, result["answer"], result["turns"][0]["stop_reason"]) == (2, "one", "done")


def test_a_bad_line_does_not_hide_how_the_run_ended(kimi: Kimi, serve: Serve) -> None:
    server = serve([tool_calls([("read", {"path": "calc.py"})])])
    run = kimi(
        *("--input-format", "stream-json", "--output-format", "json", "--max-steps", "1"),
        server=server,
        stdin=b"nonsense\n" + line(type="user_message", text="x"),
    )
    assert (run.code, result_of(run)["stop_reason"]) == (10, "step_limit")
    assert "not an operation" in run.err


def test_no_operations_at_all_is_an_error(kimi: Kimi, serve: Serve) -> None:
    run = kimi(
        "--input-format", "stream-json", "--output-format", "json", server=serve(), stdin=b"\n"
    )
    assert run.code == 2
    assert "no message" in run.err
    assert result_of(run)["stop_reason"] == "configuration"


def test_steering_reaches_the_running_turn(kimi: Kimi, serve: Serve) -> None:
    released = threading.Event()

    def script(index: int, request: Recorded) -> Reply:
        if index == 0:
            released.wait(30)
            return tool_calls([("read", {"path": "calc.py"})])
        return text("done")

    server = serve(script)
    running = kimi.start(
        "--input-format", "stream-json", "--output-format", "stream-json",
        server=server, stdin=subprocess.PIPE,
    )  # fmt: skip
    write(running, line(type="user_message", text="start"))
    assert server.wait_until(lambda: bool(server.requests), 30)
    # The complaint about the second line shows that the first was taken.
    write(running, line(type="steer", text="keep the API"), b"mark\n")
    running.until(lambda: "not an operation" in running.err, "complaint")
    released.set()
    close(running)
    events, result = stream_of(running.end())
    assert [turn["stop_reason"] for turn in result["turns"]] == ["done"]
    roles = [message["role"] for message in server.requests[1].messages]
    assert roles[-3:] == ["assistant", "tool", "user"]
    assert last_text(server.requests[1].messages) == "keep the API"
    assert [e["origin"] for e in events if e["type"] == "user_message"] == ["user", "steer"]


def test_interrupt_ends_the_turn_and_the_next_message_goes_on(kimi: Kimi, serve: Serve) -> None:
    half = text("Half an answer that goes on", text_fragments=2, stall_after=2)
    server = serve([half, text("whole")])
    running = kimi.start(
        "--input-format", "stream-json", "--output-format", "stream-json",
        server=server, stdin=subprocess.PIPE,
    )  # fmt: skip
    write(running, line(type="user_message", text="first"))
    running.until(lambda: '"text_delta"' in running.out, "first piece")
    write(running, line(type="interrupt"), line(type="user_message", text="second"))
    close(running)
    run = running.end()
    events, result = stream_of(run)
    ends = [e["reason"] for e in events if e["type"] == "turn_ended"]
    assert ends == ["interrupted", "done"]
    assert (run.code, result["answer"]) == (0, "whole")
    said = server.requests[1].messages
    assert [m["role"] for m in said] == ["system", "user", "assistant", "user"]
    assert "Half an answ" in last_text(said, "assistant")
    assert "interrupted" in last_text(said, "assistant")


def test_sigint_between_turns_ends_the_run(kimi: Kimi, serve: Serve) -> None:
    server = serve([text("one")])
    running = kimi.start(
        "--input-format", "stream-json", "--output-format", "stream-json",
        server=server, stdin=subprocess.PIPE,
    )  # fmt: skip
    write(running, line(type="user_message", text="first"))
    running.until(lambda: '"turn_ended"' in running.out, "end of the turn")
    running.signal(signal.SIGINT)
    run = running.end(10)
    close(running)
    assert run.code == 130
    assert stream_of(run)[1]["exit_code"] == 130


def test_operations_that_come_all_at_once_keep_their_order(kimi: Kimi, serve: Serve) -> None:
    """An interrupt is for the message before it, steering without a turn is a message."""
    server = serve([text("second"), text("third")])
    run = kimi(
        *("--input-format", "stream-json", "--output-format", "stream-json"),
        server=server,
        stdin=line(type="user_message", text="one")
        + line(type="interrupt")
        + line(type="user_message", text="two"),
    )
    events, result = stream_of(run)
    ends = [event["reason"] for event in events if event["type"] == "turn_ended"]
    assert ends == ["interrupted", "done"]
    assert result["answer"] == "second"
    run = kimi(
        *("--input-format", "stream-json", "--output-format", "json"),
        server=server,
        stdin=line(type="steer", text="just this"),
    )
    assert result_of(run)["answer"] == "third"
    assert last_text(server.requests[-1].messages) == "just this"
