"""How a session begins on the terminal: trust, first run, resuming, leaving."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.program import Kimi
from tests.support.replies import text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tty import Tty, modes_left_on


def test_a_projects_settings_wait_for_trust(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], project: Path
) -> None:
    theirs = serve([text("I am another server.")])
    settings = project / ".kimi" / "config.toml"
    settings.parent.mkdir()
    settings.write_text(f'[endpoint]\nbase_url = "{theirs.base_url}"\n[shell]\ntimeout = 7.0\n')
    ours = serve([text("I am yours.")])
    terminal = start(ours, ready="base_url")
    assert "Type a task" not in terminal.text
    terminal.press("enter")  # the safe answer is the one that is marked
    terminal.wait("Type a task")
    terminal.submit("who are you?")
    terminal.wait("I am yours.")
    assert not theirs.requests


def test_without_a_key_the_first_run_asks(kimi: Kimi) -> None:
    with Tty(kimi, env={"KIMI_API_KEY": "", "MOONSHOT_API_KEY": ""}) as terminal:
        terminal.wait("Moonshot")
        assert "Type a task" not in terminal.text
        terminal.press("esc")
        assert terminal.end() == 0
        assert modes_left_on(terminal.raw) == []


def test_a_resumed_session_shows_where_it_was(start: Callable[..., Tty]) -> None:
    first = start([tool_calls([("shell", {"command": "echo hi"})]), text("The **former** answer.")])
    first.submit("the former question")
    first.wait("2 steps")
    first.press("ctrl-d")
    first.end()
    second = start([text("The later answer.")], "-c")
    second.wait("The former answer.")
    assert "› the former question" in second.text
    second.submit("and now?")
    second.wait("The later answer.")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signals_end_it_and_leave_the_terminal_as_it_was(
    start: Callable[..., Tty], number: signal.Signals
) -> None:
    slow = tool_calls([("shell", {"command": "printf be; echo gun; sleep 60"})])
    terminal = start([slow])
    terminal.submit("go")
    terminal.wait_shown("begun")
    terminal.kill(number)
    assert terminal.end() == {signal.SIGINT: 130}.get(number, 143)
    assert modes_left_on(terminal.raw) == []


def test_a_terminal_that_goes_away_ends_it_all(
    start: Callable[..., Tty], kimi: Kimi, tmp_path: Path
) -> None:
    slow = tool_calls([("shell", {"command": "printf be; echo gun; sleep 60"})])
    terminal = start([slow])
    terminal.submit("go")
    terminal.wait_shown("begun")
    terminal.type("unsent words")
    terminal.wait_shown("unsent words")
    terminal.hang_up()
    # The fixture sees to it that nothing of it is left behind.
    history = list((kimi.home / "history").glob("*.jsonl"))
    assert "unsent words" in history[0].read_text()


def test_leaving_does_not_wait_for_the_users_own_command(start: Callable[..., Tty]) -> None:
    terminal = start()
    terminal.submit("!printf be; echo gun; sleep 60")
    terminal.wait_shown("begun")
    terminal.kill(signal.SIGTERM)
    assert terminal.end() == 143


def test_leaving_does_not_wait_for_an_answer(start: Callable[..., Tty], outside: Path) -> None:
    write = [("write", {"path": str(outside / "made"), "content": "x"})]
    terminal = start([tool_calls(write)])
    terminal.submit("go")
    terminal.wait_shown("1 once")
    terminal.press("ctrl-c")
    terminal.wait("stopped by you")
    terminal.press("ctrl-c", "ctrl-c")
    assert terminal.end() == 0
    assert not (outside / "made").exists()


def test_an_endpoint_that_is_none_ends_it_in_words(kimi: Kimi) -> None:
    with Tty(kimi, "--model", "no-such-model-anywhere", "--thinking", "??") as terminal:
        assert terminal.end() == 2
        assert "thinking" in terminal.text


def test_a_dumb_terminal_is_told_what_to_do(kimi: Kimi) -> None:
    with Tty(kimi, env={"TERM": "dumb"}) as terminal:
        assert terminal.end() == 2
        assert "kimi -p" in terminal.text
