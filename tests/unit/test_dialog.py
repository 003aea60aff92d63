"""Menus and lines of text on a real terminal: what is seen, what comes out, what stays behind."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.prompted import Prompted

FRAME = """
import asyncio, sys
from kimi_cli.cli.event_loop import run
from kimi_cli.frontends.terminal.dialog import NoTerminal, Option, ask_text, choose
FEW = [Option("a", "alpha", "the first"), Option("b", "beta"), Option("g", "gamma")]
MANY = [Option(str(n), f"model-{n}") for n in range(1, 200)]
async def more():
    for name in ("delta", "alpha"):
        yield Option(name[0], name, "just found")
async def main():
    result = BODY
    print("result:", repr(result))
run(main())
"""
COLOUR = re.compile(rb"\x1b\[[0-9;]*\b(?:3[0-7]|4[0-7]|9[0-7]|10[0-7]|38|48)(?:;[0-9;]*)?m")


Ask = Callable[..., Prompted]


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[Ask]:
    """Runs an expression that awaits a dialog: `ask("await choose(...)", **terminal)`."""
    started: list[Prompted] = []

    def start(body: str, ready: str = "esc cancels", **options: object) -> Prompted:
        terminal = Prompted(FRAME.replace("BODY", body), tmp_path, **options)  # type: ignore[arg-type]
        started.append(terminal)
        terminal.wait(ready)
        return terminal

    yield start
    for terminal in started:
        terminal.process.close(force=True)


def shown(terminal: Prompted) -> list[str]:
    return [line for line in terminal.scrollback if line]


@pytest.mark.parametrize(
    ("keys", "result", "answer"),
    [
        (["enter"], "'b'", "beta"),
        (["up", "enter"], "'a'", "alpha"),
        (["down", "down", "enter"], "'a'", "alpha"),
        (["\x1b[H", "enter"], "'a'", "alpha"),
        (["\x1b[F", "enter"], "'g'", "gamma"),
        (["3"], "'g'", "gamma"),
        (["9", "1"], "'a'", "alpha"),
        (["esc"], "None", "cancelled"),
        (["ctrl-c"], "None", "cancelled"),
        (["ctrl-d"], "None", "cancelled"),
    ],
)
def test_a_menu_is_answered_and_leaves_one_line(
    ask: Ask, keys: list[str], result: str, answer: str
) -> None:
    terminal = ask('await choose("Which one?", FEW, 1)')
    assert shown(terminal) == [
        "  Which one?",
        "    1 alpha  the first",
        "  › 2 beta",
        "    3 gamma",
        "  enter takes it · esc cancels · ↑ ↓ or a number",
    ]
    terminal.press(*keys)
    assert terminal.end() == 0
    assert shown(terminal) == [f"  Which one? · {answer}", f"result: {result}"]


def test_what_arrives_later_joins_at_the_end_once(ask: Ask) -> None:
    terminal = ask('await choose("Which one?", FEW, arriving=more())', ready="delta")
    assert "    4 delta  just found" in shown(terminal)
    # Its key is there already.
    assert sum("alpha" in line for line in shown(terminal)) == 1
    terminal.press("up", "enter")
    assert terminal.end() == 0
    assert shown(terminal)[-1] == "result: 'd'"


@pytest.mark.parametrize("rows", [24, 8])
def test_a_long_menu_scrolls_in_a_small_terminal(ask: Ask, rows: int) -> None:
    terminal = ask('await choose("Which?", MANY, body=["above"])', rows=rows)
    terminal.type("\x1b[F")
    terminal.wait("model-199")
    assert "  Which?" in terminal.lines and len(terminal.lines) == rows
    terminal.type("\x1b[5~")
    terminal.wait_shown("model-189")
    terminal.press("enter")
    assert terminal.end() == 0
    assert shown(terminal) == ["  Which? · model-189", "result: '189'"]


def test_foreign_text_can_not_command_the_terminal(ask: Ask) -> None:
    body = r"""await choose("T\x1b]0;owned\x07", [Option("k", "red\x1b[31m\nline\u202eback")])"""
    terminal = ask(body)
    terminal.press("enter")
    assert terminal.end() == 0
    assert b"\x1b]0" not in terminal.raw and b"\x1b[31m" not in terminal.raw
    assert shown(terminal)[-1] == "result: 'k'"


def test_without_colours_and_without_utf8(ask: Ask) -> None:
    coloured = ask('await choose("Which one?", FEW)')
    coloured.press("enter")
    coloured.end()
    assert COLOUR.search(coloured.raw)

    env = {"NO_COLOR": "1", "PYTHONIOENCODING": "ascii"}
    terminal = ask('await choose("Which one?", FEW)', env=env)
    assert "  > 1 alpha  the first" in shown(terminal)
    terminal.press("enter")
    assert terminal.end() == 0
    assert not COLOUR.search(terminal.raw)
    assert terminal.raw.isascii()
    assert shown(terminal) == ["  Which one? - alpha", "result: 'a'"]


def test_the_terminal_is_left_as_it_was(ask: Ask) -> None:
    for key in ("enter", "esc"):
        terminal = ask('await choose("Which one?", FEW) + str(sys.stdin.readline())')
        during = termios.tcgetattr(terminal.process.child_fd)
        assert not during[3] & termios.ECHO
        if key == "esc":
            terminal.kill(signal.SIGTERM)
            assert terminal.end() == 143
            continue
        terminal.press(key)
        terminal.wait("alpha")
        terminal.until(
            lambda fd=terminal.process.child_fd: bool(termios.tcgetattr(fd)[3] & termios.ECHO),  # type: ignore[misc]
            "echo is off",
        )
        terminal.type("typed\r")
        assert terminal.end() == 0
        # Cursor shown, bracketed paste off, no question for the cursor's position.
        assert terminal.raw.rfind(b"\x1b[?25h") > terminal.raw.rfind(b"\x1b[?25l")
        assert terminal.raw.rfind(b"\x1b[?2004l") > terminal.raw.rfind(b"\x1b[?2004h")
        assert b"\x1b[6n" not in terminal.raw and b"\x1b[?1049h" not in terminal.raw


def test_a_secret_is_never_on_the_screen(ask: Ask) -> None:
    terminal = ask('len(await ask_text("API key", secret=True))')
    terminal.type("sk-very")
    terminal.wait("*******")
    terminal.paste("-secret\n  word\r\n")
    terminal.wait("*" * 18)
    terminal.press("enter")
    assert terminal.end() == 0
    for part in (b"sk-", b"very", b"secret", b"word"):
        assert part not in terminal.raw
    assert shown(terminal) == ["  API key · 18 characters", "result: 18"]


def test_the_rest_of_a_secret_goes_nowhere(ask: Ask) -> None:
    body = '(len(await ask_text("API key", secret=True)), await ask_text("Name"))'
    terminal = ask(body)
    terminal.type("sk-first-line\rsk-second-line\r")
    terminal.wait("Name")
    terminal.wait("esc cancels")
    terminal.type("n\r")
    assert terminal.end() == 0
    assert b"sk-" not in terminal.raw
    assert shown(terminal)[-1] == "result: (13, 'n')"


def test_a_line_has_a_default_and_is_checked(ask: Ask) -> None:
    body = """await ask_text("URL", default="http://", body=["such as http://x"],
        check=lambda text: None if text.endswith("/v1") else "must end in /v1")"""
    terminal = ask(body)
    assert "  › http://" in shown(terminal)
    terminal.press("enter")
    terminal.wait("must end in /v1")
    terminal.type(" a/v1 ")
    terminal.wait_gone("must end in /v1")
    terminal.press("enter")
    assert terminal.end() == 0
    assert shown(terminal) == ["  URL · http:// a/v1", "result: 'http:// a/v1'"]


@pytest.mark.parametrize("key", ["esc", "ctrl-c"])
def test_a_line_can_be_left(ask: Ask, key: str) -> None:
    terminal = ask('await ask_text("URL", default="http://")')
    terminal.press(key)
    assert terminal.end() == 0
    assert shown(terminal) == ["  URL · cancelled", "result: None"]


def test_without_a_terminal_nobody_is_asked(ask: Ask, tmp_path: Path) -> None:
    script = FRAME.replace("BODY", 'await choose("Which one?", FEW)')
    run = subprocess.run(
        [sys.executable, "-c", script], input="1\n", capture_output=True, text=True
    )
    assert run.returncode != 0 and "NoTerminal: there is no terminal" in run.stderr
    dumb = Prompted(script, tmp_path, env={"TERM": "dumb"})
    assert dumb.end() != 0
    assert "NoTerminal" in dumb.text and "alpha" not in dumb.text
