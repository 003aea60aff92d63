"""Keys that must not do by accident what they do on purpose, and typing that must not get lost."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.program import Kimi
from tests.support.replies import text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tty import Tty

Start = Callable[..., Tty]
Serve = Callable[..., ScriptedServer]


def write_outside(outside: Path) -> list[tuple[str, dict[str, str]]]:
    return [("write", {"path": str(outside / "made"), "content": "x"})]


def test_a_digit_in_a_search_answers_nothing(start: Start, outside: Path) -> None:
    terminal = start([tool_calls(write_outside(outside)), text("Done.")])
    terminal.submit("go")
    terminal.wait_shown("1 once")
    terminal.press("ctrl-r")
    terminal.wait_shown("search:")
    for _ in range(6):
        terminal.press("1")
        terminal.nap()
    assert not (outside / "made").exists()
    terminal.press("ctrl-c")
    terminal.wait_gone("search:")
    assert "1 once" in terminal.shown, "Ctrl-C closes the search, nothing else"


def test_a_draft_stays_while_a_reason_is_given(start: Start, outside: Path) -> None:
    terminal = start([tool_calls(write_outside(outside)), text("Done.")])
    terminal.submit("go")
    terminal.wait_shown("1 once")
    terminal.type("a long draft")
    terminal.wait_shown("› a long draft")
    terminal.type("\x1b5")
    terminal.wait_shown("say why ›")
    terminal.type("because")
    terminal.wait_shown("because")
    terminal.press("ctrl-c")
    terminal.wait_shown("› a long draft")
    terminal.press("esc")
    terminal.wait("stopped by you")
    assert "› a long draft" in terminal.shown


def test_what_narrows_a_menu_is_not_left_in_the_message(start: Start) -> None:
    terminal = start([text("one " * 400, text_fragments=400, delay_between=0.02), text("two")])
    terminal.submit("go")
    terminal.wait_shown("one one")
    terminal.submit("/model")
    terminal.wait_shown("model, now")
    terminal.type("thinking")
    terminal.wait_shown("› thinking")
    terminal.press("esc")
    terminal.wait_gone("model, now")
    terminal.press("esc")
    terminal.wait("stopped by you")
    assert "› thinking" not in terminal.shown


def test_a_question_behind_a_menu_is_told(start: Start, serve: Serve, outside: Path) -> None:
    slow = tool_calls(write_outside(outside), delay_headers=1.5)
    terminal = start([slow, text("Done.")])
    terminal.submit("go")
    terminal.wait_shown("waiting for the model")
    terminal.submit("/model")
    terminal.wait_shown("model, now")
    terminal.wait_shown("write needs your answer")
    terminal.press("esc")
    terminal.wait_shown("1 once")


def test_enter_that_was_meant_for_a_message_confirms_nothing(start: Start, project: Path) -> None:
    write = tool_calls([("write", {"path": "new.txt", "content": "x"})])
    slow = text("written", delay_headers=1.0)
    terminal = start([write, slow])
    terminal.submit("write it")
    terminal.wait("write new.txt")
    terminal.submit("/undo")
    terminal.until(lambda: press_enter_until_asked(terminal), "it does not ask")
    terminal.wait("nothing was changed")
    assert (project / "new.txt").exists()


def press_enter_until_asked(terminal: Tty) -> bool:
    terminal.press("enter")
    return "nothing was changed" in terminal.text


def test_steering_takes_no_commands(start: Start, serve: Serve) -> None:
    server = serve(
        [tool_calls([("shell", {"command": "printf be; echo gun; sleep 3"})]), text("ok")]
    )
    terminal = start(server)
    terminal.submit("go")
    terminal.wait_shown("begun")
    terminal.type("/undo")
    terminal.wait_shown("› /undo")
    terminal.press("ctrl-s")
    terminal.wait_shown("next: /undo")
    terminal.wait("ok")
    assert "/undo" not in str(server.requests[-1].messages)


def test_pressing_ctrl_c_again_while_it_stops_does_not_leave(start: Start) -> None:
    terminal = start([text("so " * 400, text_fragments=400, delay_between=0.05), text("Here.")])
    terminal.submit("go")
    terminal.wait_shown("so so")
    terminal.press("ctrl-c", "ctrl-c")
    terminal.wait("stopped by you")
    terminal.submit("still here?")
    terminal.wait("Here.")


def test_the_users_own_command_says_that_it_was_stopped(start: Start) -> None:
    terminal = start()
    terminal.submit("!printf be; echo gun; sleep 100")
    terminal.wait_shown("    begun")
    terminal.press("esc")
    terminal.wait("· stopped")
    assert "    begun" in terminal.text


def test_what_streams_waits_for_the_editor(start: Start, tmp_path: Path) -> None:
    go, done = tmp_path / "go", tmp_path / "done"
    editor = tmp_path / "editor"
    editor.write_text(
        f"#!/bin/sh\necho EDITING\nwhile [ ! -e {go} ]; do sleep 0.05; done\ntouch {done}\n"
    )
    editor.chmod(0o755)
    streamed = "word " * 200 + "\n\nlast words"
    reply = text(streamed, text_fragments=100, delay_between=0.01)
    terminal = start([reply], env={"EDITOR": str(editor)})
    terminal.submit("go")
    terminal.wait_shown("word word")
    terminal.press("ctrl-g")
    terminal.wait_shown("EDITING")
    for _ in range(20):
        terminal.nap()
    assert "last words" not in terminal.text.partition("EDITING")[2]
    go.touch()
    terminal.wait("last words")


def test_a_line_that_begins_with_a_path_is_a_message(start: Start, serve: Serve) -> None:
    server = serve([text("Delete something.")])
    terminal = start(server)
    terminal.submit("/tmp is full, why?")
    terminal.wait("Delete something.")
    assert "/tmp is full, why?" in str(server.requests[-1].messages[-1])


def test_the_prompt_of_the_command_line_comes_before_what_is_typed(
    kimi: Kimi, serve: Serve
) -> None:
    server = serve([text("First."), text("Second.")])
    with Tty(kimi, "the prompt", server=server) as terminal:
        terminal.wait_shown("›")
        terminal.type("typed early\r")
        terminal.wait("Second.")
    assert "the prompt" in str(server.requests[0].messages[-1])
    assert "typed early" in str(server.requests[1].messages[-1])


def test_the_whole_of_a_long_question_can_be_read(start: Start, outside: Path) -> None:
    content = "".join(f"line {number}\n" for number in range(300))
    write = [("write", {"path": str(outside / "made"), "content": content})]
    terminal = start([tool_calls(write), text("Done.")])
    terminal.submit("go")
    terminal.wait_shown("1 once")
    assert "+line 150" not in terminal.text
    terminal.press("ctrl-o")
    terminal.wait("+line 150")
    terminal.wait_shown("1 once")
