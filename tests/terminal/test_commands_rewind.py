"""/undo, /redo and /rewind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.replies import text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tty import Tty

Start = Callable[..., Tty]
Serve = Callable[..., ScriptedServer]
WRITE = tool_calls([("write", {"path": "new.txt", "content": "mine\n"})])


def test_a_turn_is_taken_back_and_brought_back(start: Start, serve: Serve, project: Path) -> None:
    server = serve([WRITE, text("written"), text("gone on")])
    terminal = start(server)
    terminal.submit("write it")
    terminal.wait("2 steps")
    assert (project / "new.txt").exists()
    terminal.submit("/undo")
    terminal.wait_shown("take it back? 1 file would change")
    assert "removed       new.txt" in terminal.text
    terminal.answer("take it back?", "2")
    terminal.wait("undone: 1 file restored")
    assert not (project / "new.txt").exists()
    terminal.submit("/redo")
    terminal.answer("bring it back?", "2")
    terminal.wait("redone: 1 file restored")
    assert (project / "new.txt").read_text() == "mine\n"
    terminal.submit("go on")
    terminal.wait("gone on")
    assert "write it" in server.requests[2].raw.decode()


def test_saying_no_changes_nothing(start: Start, project: Path) -> None:
    terminal = start([WRITE, text("written")])
    terminal.submit("/undo")
    terminal.wait("there is no turn to undo")
    terminal.submit("write it")
    terminal.wait("2 steps")
    terminal.submit("/undo")
    terminal.wait_shown("take it back?")
    terminal.press("esc")
    terminal.wait("nothing was changed")
    assert (project / "new.txt").exists()
    terminal.submit("/redo")
    terminal.wait("there is nothing to redo")


def test_edits_by_hand_need_a_second_yes(start: Start, project: Path) -> None:
    terminal = start([WRITE, text("written")])
    terminal.submit("write it")
    terminal.wait("2 steps")
    (project / "new.txt").write_text("mine\nand theirs\n")
    terminal.submit("/undo")
    terminal.wait_shown("take it back?")
    assert "these edits would be lost" in terminal.text
    terminal.answer("take it back?", "2")
    terminal.answer("edits by others in 1 file would be lost", "1")
    terminal.wait("nothing was changed")
    assert (project / "new.txt").read_text() == "mine\nand theirs\n"
    terminal.submit("/undo")
    terminal.answer("take it back?", "2")
    terminal.answer("edits by others in 1 file would be lost", "2")
    terminal.wait("undone: 1 file restored")
    assert not (project / "new.txt").exists()


def test_going_back_brings_the_message_back(start: Start, serve: Serve, project: Path) -> None:
    server = serve([text("one"), WRITE, text("two"), text("three")])
    terminal = start(server)
    terminal.submit("the first thing")
    terminal.wait("1 step")
    terminal.submit("the second thing")
    terminal.wait("2 steps")
    terminal.submit("/rewind")
    terminal.wait_shown("back to before which turn?")
    assert "2  the second thing" in terminal.shown
    terminal.type("second")
    terminal.press("enter")
    terminal.wait_shown("back to before turn 2")
    terminal.press("enter")
    terminal.answer("take it back?", "2")
    terminal.wait("went back: 1 file restored")
    twice = "the message did not come back"
    terminal.until(lambda: terminal.text.count("› the second thing") == 2, twice)
    assert not (project / "new.txt").exists()
    terminal.type(", again")
    terminal.press("enter")
    terminal.wait("three")
    last = server.requests[-1].raw.decode()
    assert "the second thing, again" in last
    assert last.count("the second thing") == 1


def test_the_conversation_alone(start: Start, project: Path) -> None:
    terminal = start([WRITE, text("written")])
    terminal.submit("write it")
    terminal.wait("2 steps")
    terminal.submit("/rewind 9")
    terminal.wait("there is no turn 9")
    terminal.submit("/rewind 1")
    terminal.wait_shown("back to before turn 1")
    terminal.press("down", "enter")
    terminal.answer("take it back?", "2")
    terminal.wait("went back: no file changed")
    twice = "the message did not come back"
    terminal.until(lambda: terminal.text.count("› write it") == 2, twice)
    assert (project / "new.txt").exists()


def test_it_waits_for_the_running_turn(start: Start, project: Path) -> None:
    slow = text("written", delay_headers=2.0)
    terminal = start([WRITE, slow])
    terminal.submit("write it")
    terminal.wait("write new.txt")
    terminal.submit("/undo")
    terminal.wait_shown("next: /undo")
    assert "take it back?" not in terminal.text
    terminal.wait_shown("take it back? 1 file would change")
    assert "2 steps" in terminal.text
    terminal.answer("take it back?", "2")
    terminal.wait("undone: 1 file restored")
