"""While the model works: queueing, steering, moving to the background, stopping."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.replies import Reply, http_error, text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tty import Tty

LONG = [("shell", {"command": "printf be; echo gun; sleep 30"})]


def contents(server: ScriptedServer) -> list[str]:
    return [str(message.get("content")) for message in server.requests[-1].messages]


def test_enter_queues_and_the_arrow_takes_back(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], project: Path
) -> None:
    wait = [("shell", {"command": "printf be; echo gun; while [ ! -e go ]; do sleep 0.05; done"})]
    server = serve([tool_calls(wait), text("First."), text("Second.")])
    terminal = start(server)
    terminal.submit("one")
    terminal.wait_shown("begun")
    terminal.submit("two")
    terminal.wait_shown("next: two")
    terminal.submit("three")
    terminal.wait_shown("then: three")
    terminal.press("up")
    terminal.wait_shown("› three")
    assert "then: three" not in terminal.shown
    terminal.press("ctrl-c")  # stops, with a draft in the box: nothing typed is lost
    terminal.wait("stopped by you")
    terminal.wait_shown("kept: two")
    assert "› three" in terminal.shown
    terminal.press("enter")
    terminal.wait("First.")
    assert contents(server)[-1] == "three"
    assert "kept: two" in terminal.shown
    terminal.press("enter")
    terminal.wait("Second.")
    assert contents(server)[-1] == "two"


def test_steering_reaches_the_running_turn(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], project: Path
) -> None:
    wait = [("shell", {"command": "printf be; echo gun; while [ ! -e go ]; do sleep 0.05; done"})]
    server = serve([tool_calls(wait), text("Steered.")])
    terminal = start(server)
    terminal.submit("one")
    terminal.wait_shown("begun")
    terminal.type("and mind the API")
    terminal.wait_shown("› and mind the API")
    terminal.press("ctrl-s")
    terminal.wait_shown("steering: and mind the API")
    (project / "go").touch()
    terminal.wait("Steered.")
    assert contents(server)[-1] == "and mind the API"
    assert len(server.requests) == 2, "one turn, not two"
    terminal.wait_gone("steering:")


def test_a_command_goes_to_the_background(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer]
) -> None:
    server = serve([tool_calls(LONG), text("It runs on.")])
    terminal = start(server)
    terminal.submit("start it")
    terminal.wait_shown("begun")
    terminal.press("ctrl-b")
    terminal.wait("It runs on.")
    assert "still runs" in contents(server)[-1] or "background" in contents(server)[-1]


STATES: dict[str, tuple[list[Reply], str]] = {
    "waiting for the first byte": ([text("late", delay_headers=30)], "waiting for the model"),
    "streaming": ([text("so " * 600, text_fragments=600, delay_between=0.05)], "so so"),
    "thinking": (
        [text("x", thinking="hm " * 600, thinking_fragments=600, delay_between=0.05)],
        "thinking",
    ),
    "a tool call": ([tool_calls(LONG)], "begun"),
    "a silent stream": ([text("so it goes", stall_after=3)], "so it"),
    "a command that ignores signals": (
        [
            tool_calls(
                [("shell", {"command": "trap '' TERM INT; printf be; echo gun; sleep 30 & wait"})]
            )
        ],
        "begun",
    ),
}


@pytest.mark.parametrize("key", ["esc", pytest.param("ctrl-c", marks=pytest.mark.long)])
@pytest.mark.parametrize("state", list(STATES))
def test_a_turn_stops_whatever_runs(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer], state: str, key: str
) -> None:
    replies, sign = STATES[state]
    server = serve([*replies, text("Going on.")])
    terminal = start(server)
    terminal.submit("go")
    terminal.wait_shown(sign)
    terminal.press(key)
    terminal.wait("stopped by you", deadline=10)
    time.sleep(0)
    terminal.submit("and then?")
    terminal.wait("Going on.")


def test_waiting_for_a_server_is_told_and_can_be_stopped(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer]
) -> None:
    busy = http_error(
        429, "engine_overloaded_error", "The engine is overloaded", headers={"retry-after": "40"}
    )
    terminal = start(serve([busy, text("x")]))
    terminal.submit("go")
    terminal.wait_shown("next try in")
    terminal.press("esc")
    terminal.wait("stopped by you", deadline=10)


def test_ctrl_c_twice_leaves(start: Callable[..., Tty]) -> None:
    terminal = start()
    terminal.press("ctrl-c")
    terminal.wait_shown("ctrl-c again leaves")
    terminal.press("ctrl-c")
    assert terminal.end() == 0
