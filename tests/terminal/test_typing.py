"""Typing: lines, pastes, history, completion, the user's own commands."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.support.program import Kimi
from tests.support.replies import text
from tests.support.server import ScriptedServer
from tests.support.tty import Tty


def sent(server: ScriptedServer, number: int = -1) -> str:
    """The last message of a request, as text."""
    content = server.requests[number].messages[-1]["content"]
    return content if isinstance(content, str) else "".join(p.get("text", "") for p in content)


def test_lines_are_broken_by_three_keys_and_sent_as_one(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer]
) -> None:
    server = serve([text("Read.")])
    terminal = start(server)
    terminal.type("one")
    terminal.press("alt-enter")
    terminal.type("two")
    terminal.press("ctrl-j")
    terminal.type("three")
    # Shift-Enter, as xterm reports it.
    terminal.type("\x1b[27;2;13~")
    terminal.type("four")
    terminal.wait_shown("four")
    assert not server.requests
    terminal.press("enter")
    terminal.wait("Read.")
    assert sent(server) == "one\ntwo\nthree\nfour"


def test_a_paste_of_500_lines_is_folded_and_sent_whole(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer]
) -> None:
    server = serve([text("Read.")])
    terminal = start(server)
    pasted = "\n".join(f"line {number} of the log" for number in range(500))
    terminal.type("see ")
    terminal.paste(pasted)
    terminal.wait_shown("500 lines]")
    assert not server.requests, "a paste must never be submitted by its line ends"
    assert "line 3 of" not in terminal.text
    terminal.type(" please")
    terminal.press("enter")
    terminal.wait("Read.")
    assert sent(server) == f"see {pasted} please"


def test_a_paste_holds_nothing_that_the_terminal_would_obey(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer]
) -> None:
    server = serve([text("Read.")])
    terminal = start(server)
    terminal.paste("red \x1b[31mtext\x07\r\nnext")
    terminal.wait_shown("next")
    terminal.press("enter")
    terminal.wait("Read.")
    assert sent(server) == "red text\nnext"


def test_the_history_is_the_projects(start: Callable[..., Tty]) -> None:
    first = start([text("Read.")])
    first.submit("the very first question")
    first.wait("1 step")
    first.press("ctrl-d")
    assert first.end() == 0
    second = start()
    second.press("up")
    second.wait_shown("› the very first question")
    second.press("ctrl-c")
    second.wait_gone("the very first question")
    second.press("ctrl-r")
    second.type("very")
    second.wait_shown("the very first question")


def test_what_was_typed_and_not_sent_is_in_the_history(start: Callable[..., Tty]) -> None:
    first = start()
    first.type("half a thought")
    first.wait_shown("half a thought")
    first.process.kill(1)
    assert first.end() == 143
    second = start()
    second.press("up")
    second.wait_shown("› half a thought")


def test_files_are_completed_after_an_at_sign(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], project: Path
) -> None:
    (project / ".gitignore").write_text("secret_calc.txt\n")
    (project / "secret_calc.txt").write_text("x")
    server = serve([text("Read.")])
    terminal = start(server)
    terminal.type("look at @clc")
    terminal.wait_shown("calc.py")
    assert "secret_calc" not in terminal.shown
    terminal.press("enter")
    terminal.wait_shown("look at @calc.py")
    assert not server.requests, "Enter takes the completion first"
    terminal.press("enter")
    terminal.wait("Read.")
    assert sent(server).strip() == "look at calc.py"


def test_commands_are_completed_after_a_slash(start: Callable[..., Tty]) -> None:
    terminal = start()
    terminal.type("/he")
    terminal.wait_shown("/help")
    terminal.press("tab", "enter", "enter")
    terminal.wait("/exit")
    terminal.type("/nonsense")
    terminal.press("enter")
    terminal.wait("there is no command /nonsense")
    # What could not be carried out comes back for mending.
    terminal.wait_shown("› /nonsense")


def test_a_path_at_the_start_is_no_command(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer]
) -> None:
    server = serve([text("Read.")])
    terminal = start(server)
    terminal.submit("/etc/hosts has what in it?")
    terminal.wait("Read.")
    assert sent(server) == "/etc/hosts has what in it?"


def test_the_users_own_command_is_offered_to_the_model(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], outside: Path
) -> None:
    server = serve([text("Seen."), text("Fine.")])
    terminal = start(server)
    terminal.submit(f"!touch {outside}/made && echo out-of-the-box; exit 3")
    terminal.wait("exit status 3")
    assert (outside / "made").exists(), "what the user runs is not in the sandbox"
    terminal.wait_shown("goes with your next message")
    terminal.submit("what was that?")
    terminal.wait("Seen.")
    told = [str(message["content"]) for message in server.requests[-1].messages]
    assert any("out-of-the-box" in one and "exit status 3" in one for one in told)
    terminal.submit("!echo private-words")
    terminal.wait("    private-words")
    terminal.wait_shown("goes with your next message")
    terminal.press("esc")
    terminal.wait_gone("goes with your next message")
    terminal.submit("and now?")
    terminal.wait("Fine.")
    assert "private-words" not in str(server.requests[-1].messages)


def test_the_editor_writes_the_message(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], tmp_path: Path
) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "written in the editor" >> "$1"\n')
    editor.chmod(0o755)
    server = serve([text("Read.")])
    terminal = start(server, env={"EDITOR": str(editor)})
    terminal.type("begun")
    terminal.press("ctrl-g")
    terminal.wait_shown("written in the editor")
    terminal.press("enter")
    terminal.wait("Read.")
    assert sent(server) == "begun\nwritten in the editor"


def test_the_prompt_of_the_command_line_begins_the_session(
    kimi: Kimi, serve: Callable[..., ScriptedServer]
) -> None:
    server = serve([text("Read."), text("Again.")])
    with Tty(kimi, "say something", server=server) as terminal:
        terminal.wait("Read.")
        terminal.wait("1 step")
        terminal.submit("more")
        terminal.wait("Again.")
    assert sent(server, 0) == "say something"


def test_a_mistyped_command_is_no_prompt(kimi: Kimi) -> None:
    run = kimi("sesions")
    assert run.code == 2
    assert re.search("is 'sessions' meant", run.err)
