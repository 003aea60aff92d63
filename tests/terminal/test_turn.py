"""A turn on the terminal: typed, streamed, in the scrollback."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.replies import text, tool_calls
from tests.support.tty import Tty, modes_left_on


def test_a_turn_and_leaving(start: Callable[..., Tty]) -> None:
    terminal = start([tool_calls([("shell", {"command": "echo hi"})]), text("All **done** here.")])
    terminal.submit("do it")
    terminal.wait("All done here.")
    terminal.wait("2 steps")
    assert "› do it" in terminal.text
    assert "● shell echo hi" in terminal.text
    terminal.press("ctrl-d")
    assert terminal.end() == 0
    assert "resume with: kimi -r " in terminal.text
    assert modes_left_on(terminal.raw) == []
