"""Rules and modes that change in the middle of a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.program import Kimi
from tests.support.replies import text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tty import Tty


def test_a_rule_added_by_a_command_holds_at_once(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], project: Path
) -> None:
    touch = tool_calls([("shell", {"command": "touch made"})])
    server = serve([touch, text("Refused."), touch, text("Allowed.")])
    terminal = start(server)
    terminal.submit("/policy deny shell(touch *)")
    terminal.wait("deny: shell(touch *)")
    terminal.submit("go")
    terminal.wait("Refused.")
    assert not (project / "made").exists()
    terminal.submit("/policy remove shell(touch *)")
    terminal.wait("removed: deny shell(touch *)")
    terminal.submit("again")
    terminal.wait("Allowed.")
    assert (project / "made").exists()


def test_the_mode_flag_holds_from_the_start(
    kimi: Kimi, serve: Callable[..., ScriptedServer], project: Path
) -> None:
    touch = tool_calls([("shell", {"command": "touch made"})])
    run = kimi("-p", "go", "--mode", "plan", server=serve([touch, text("A plan.")]))
    assert run.code == 0, run.err
    assert not (project / "made").exists()


def test_a_key_reaches_every_mode_that_asks(start: Callable[..., Tty]) -> None:
    terminal = start()
    for mode in ("plan", "ask", "auto", "plan"):
        terminal.press("shift-tab")
        terminal.wait_shown(f"· {mode} ·")
    assert "yolo" not in terminal.text
    terminal.submit("/mode yolo")
    terminal.wait_shown("· yolo ·")
    terminal.press("shift-tab")
    terminal.wait_shown("· auto ·")
