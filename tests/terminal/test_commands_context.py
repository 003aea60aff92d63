"""/compact, /context and /usage."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.program import Kimi
from tests.support.replies import text, tool_calls
from tests.support.tty import Tty

Start = Callable[..., Tty]
SHELL = tool_calls([("shell", {"command": "echo hi"})])


def test_what_is_used(start: Start) -> None:
    terminal = start([SHELL, text("done"), text("it is blue")], rows=40)
    terminal.submit("say hi")
    terminal.wait("2 steps")
    terminal.submit("/btw which colour?")
    terminal.wait("it is blue")
    terminal.submit("/usage")
    terminal.wait("limits")
    terminal.wait("calls     1: shell 1")
    terminal.wait("btw       1 question")
    terminal.wait("998 of 1,000 steps left")
    assert any("1  say hi" in line and "2 steps" in line for line in terminal.lines)


def test_before_the_first_message(start: Start) -> None:
    terminal = start()
    terminal.submit("/usage")
    terminal.wait("tokens    none yet")
    terminal.submit("/compact")
    terminal.wait("nothing")
    terminal.submit("/context")
    terminal.wait("system prompt")


def test_the_context_before_and_after_a_compaction(start: Start, kimi: Kimi) -> None:
    kimi.configure({"context": {"recent_tokens": 0}})
    terminal = start([SHELL, text("done"), text("the note: said hi")], rows=50)
    terminal.submit("say hi")
    terminal.wait("2 steps")
    terminal.submit("/context")
    terminal.wait("system prompt")
    terminal.wait("measured by the server")
    assert "tool results" in terminal.text
    assert "free" in terminal.text
    terminal.submit("/compact the greeting")
    terminal.wait("compacted")
    terminal.submit("/context")
    terminal.wait("kept by compaction")
    terminal.wait("focus: the greeting")
    note = next(e for e in kimi.stored() if e["type"] == "compaction")
    assert note["focus"] == "the greeting"


def test_the_context_of_a_session_that_is_not_kept(start: Start) -> None:
    terminal = start([text("done")], "--no-session")
    terminal.submit("hello")
    terminal.wait("1 step")
    terminal.submit("/context")
    terminal.wait("more is known of sessions that are kept")
    terminal.submit("/usage")
    terminal.wait("in, ")


def test_the_rows_fit_a_narrow_terminal(start: Start) -> None:
    terminal = start([SHELL, text("done")], rows=50, columns=46)
    terminal.submit("say hi")
    terminal.wait("2 steps")
    terminal.submit("/context")
    terminal.wait("free")
    rows = [line for line in terminal.scrollback if "system prompt" in line or "free" in line]
    assert all(line.rstrip().endswith("%") for line in rows), terminal.text
