"""Help, modes, the theme, the editor, leaving."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.program import Kimi
from tests.support.replies import text
from tests.support.tty import Tty

Start = Callable[..., Tty]


def test_help_lists_the_commands_and_tells_of_one(start: Start) -> None:
    terminal = start(rows=50, columns=100)
    terminal.submit("/help")
    terminal.wait("? on an empty line shows the keys")
    for name in ("model", "compact", "undo", "export", "policy", "btw", "theme", "exit"):
        assert f"  /{name}" in terminal.text
    terminal.submit("/help quit")
    terminal.wait("also /quit, /q")


def test_help_fits_a_narrow_terminal(start: Start) -> None:
    terminal = start(rows=50, columns=44)
    terminal.submit("/help")
    terminal.wait("? on an empty line shows the keys")
    rows = [line for line in terminal.scrollback if line.startswith("  /")]
    assert len(rows) > 20
    assert all(len(line) <= 44 for line in rows)


def test_a_command_that_is_none_comes_back_for_editing(start: Start) -> None:
    terminal = start()
    terminal.submit("/hepl me")
    terminal.wait("there is no command /hepl")
    terminal.wait_shown("› /hepl me")


def test_mode_and_plan(start: Start) -> None:
    terminal = start([text("1. look 2. change")])
    terminal.submit("/mode")
    terminal.wait("mode auto: free inside the sandbox")
    terminal.submit("/mode ask")
    terminal.wait_shown("ask ·")
    terminal.submit("/mode fast")
    terminal.wait("there is no mode 'fast'")
    terminal.submit("/plan mend add()")
    terminal.wait("1. look 2. change")
    terminal.wait_shown("plan ·")
    assert "› mend add()" in terminal.text


def test_a_theme_holds_from_now_on(start: Start) -> None:
    terminal = start([text("one"), text("two")])
    terminal.submit("/theme none")
    terminal.wait("theme none")
    before = len(terminal.raw)
    terminal.submit("say one")
    terminal.wait("1 step")
    assert b"\x1b[36m" not in terminal.raw[before:]
    terminal.submit("/theme light")
    terminal.wait("theme light")
    before = len(terminal.raw)
    terminal.submit("say two")
    terminal.until(lambda: terminal.text.count("1 step") == 2, "no second turn")
    assert b"\x1b[34m" in terminal.raw[before:] or b"\x1b[0;34m" in terminal.raw[before:]
    terminal.submit("/theme pink")
    terminal.wait("there is no theme 'pink'")


def test_the_editor_by_its_command(start: Start, kimi: Kimi, tmp_path: Path) -> None:
    editor = tmp_path / "editor"
    editor.write_text('#!/bin/sh\necho "from the editor" > "$1"\n')
    editor.chmod(0o755)
    terminal = start(env={"EDITOR": str(editor)})
    terminal.submit("/editor")
    terminal.wait_shown("› from the editor")


def test_leaving(start: Start) -> None:
    terminal = start()
    terminal.submit("/exit")
    assert terminal.end() == 0


def test_commands_and_what_follows_them_are_completed(start: Start) -> None:
    terminal = start()
    terminal.type("/mo")
    terminal.wait_shown("/model")
    terminal.press("ctrl-u")
    terminal.type("/mode ")
    terminal.wait_shown("only reads, ends in a plan")
