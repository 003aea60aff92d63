"""A turn on the terminal: typed, streamed, in the scrollback."""

from __future__ import annotations

from collections.abc import Callable

from tests.support.replies import json_answer, text, tool_calls
from tests.support.server import ScriptedServer
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


def test_the_status_tells_of_changes_that_are_not_committed(start: Callable[..., Tty]) -> None:
    change = tool_calls([("shell", {"command": "echo x >> calc.py"})])
    terminal = start([change, text("Done.")])
    terminal.wait_shown("· main ·")
    terminal.submit("change it")
    terminal.wait_shown("· main* ·")


def test_an_endpoint_that_holds_up_the_start_is_told_and_typing_goes_on(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer]
) -> None:
    server = serve([text("Now.")])
    slow = json_answer({"object": "list", "data": []}, delay_headers=3)
    server.overrides["GET /v1/models"] = slow
    terminal = start(server, ready="›")
    terminal.wait_shown("opening the session")
    terminal.submit("typed before it was open")
    terminal.wait("Now.")
