"""/btw, /tasks and /doctor."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.program import Kimi
from tests.support.recorded import Recorded
from tests.support.replies import Reply, text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tty import Tty

Start = Callable[..., Tty]
Serve = Callable[..., ScriptedServer]


def test_a_question_leaves_no_trace_in_the_context(start: Start, serve: Serve) -> None:
    server = serve([text("first"), text("a heron"), text("second")])
    terminal = start(server)
    terminal.submit("begin")
    terminal.wait("1 step")
    terminal.submit("/btw which bird?")
    terminal.wait("  a heron")
    terminal.wait("the model forgets this")
    terminal.until(lambda: terminal.text.count("a heron") == 1, "it stands there twice")
    terminal.submit("go on")
    terminal.wait("second")
    assert "bird" not in server.requests[2].raw.decode()
    terminal.submit("/btw")
    terminal.wait("/btw QUESTION")


def test_a_question_while_a_turn_runs(start: Start, serve: Serve) -> None:
    slow = text("slow answer", stall_after=2)

    def script(index: int, request: Recorded) -> Reply:
        return text("a heron") if "which bird" in request.raw.decode() else slow

    terminal = start(serve(script))
    terminal.submit("begin")
    terminal.wait_shown("waiting for the model")
    terminal.submit("/btw which bird?")
    terminal.wait("  a heron")
    assert "stopped" not in terminal.text
    terminal.press("esc")
    terminal.wait("stopped by you")


def test_a_question_that_hangs_is_stopped(start: Start, serve: Serve) -> None:
    terminal = start(serve([text("never", stall_after="headers"), text("here again")]))
    terminal.submit("/btw which bird?")
    terminal.wait_shown("btw: asking beside the work")
    terminal.press("esc")
    terminal.wait_gone("btw: asking")
    terminal.submit("hello")
    terminal.wait("here again")


def test_background_tasks(start: Start) -> None:
    run = {"command": "echo ready; exec sleep 300", "background": True}
    terminal = start([tool_calls([("shell", run)]), text("started")])
    terminal.submit("/tasks")
    terminal.wait("there are no background tasks")
    terminal.submit("start it")
    terminal.wait("2 steps")
    terminal.submit("/tasks")
    terminal.wait("t1 · running")
    terminal.wait("    ready")
    terminal.submit("/tasks 1")
    terminal.until(lambda: terminal.text.count("ready") >= 3, "no output")
    terminal.submit("/tasks stop t9")
    terminal.wait("there is no task 't9': t1")
    terminal.submit("/tasks stop t1")
    terminal.wait("t1 · stopped")


def test_the_checks(start: Start, kimi: Kimi) -> None:
    terminal = start([text("hello"), text("more")] * 4, rows=50, columns=120)
    terminal.submit("/doctor")
    terminal.wait("ok    settings")
    terminal.wait("sandbox")
    terminal.wait("endpoint")


def test_a_long_output_shows_its_end(start: Start) -> None:
    run = {"command": "seq 1 300; echo ready; exec sleep 300", "background": True}
    terminal = start([tool_calls([("shell", run)]), text("started")], rows=50)
    terminal.submit("start it")
    terminal.wait("2 steps")
    terminal.submit("/tasks t1")
    terminal.wait("its end · ctrl-o shows all")
    terminal.wait("  300\n")
    assert "  250\n" not in terminal.text
    terminal.press("ctrl-o")
    terminal.wait("  250\n")
