"""A resize on a terminal that cuts its lines off and wraps nothing, as the Linux console does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.program import Kimi
from tests.support.replies import text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tty import Tty

pytestmark = pytest.mark.long

DRAG = [(72, 24), (61, 22), (50, 20), (40, 16), (47, 18), (60, 24), (85, 26), (110, 30), (80, 24)]
NUMBERED = "".join(
    f"word{n:03} and some more of a text that goes on for a while. " + "\n\n" * (n % 7 == 6)
    for n in range(120)
)


class Console(Tty):
    """When it gets shorter, the rows above go and the cursor's row stays."""

    def resize(self, columns: int, rows: int) -> None:
        with self._lock:
            screen = self._screen
            gone = max(screen.cursor.y - (rows - 1), 0)
            row, screen.cursor.y = screen.cursor.y, screen.lines - 1
            for _ in range(gone):
                screen.index()
            screen.cursor.y = row - gone
            for beyond in range(rows, screen.lines):
                screen.buffer.pop(beyond, None)
            screen.lines = max(rows, 1)
            screen.resize(rows, columns)
        self.process.setwinsize(rows, columns)


@pytest.fixture
def start(kimi: Kimi, serve: Callable[..., ScriptedServer]) -> Iterator[Callable[..., Console]]:
    """Starts `kimi` with a scripted model, ready to type: `start(script, **options)`."""
    terminals: list[Console] = []

    def begin(script: Any = (), **options: Any) -> Console:
        terminal = Console(kimi, server=serve(script), **options)
        terminals.append(terminal)
        terminal.wait("Type a task")
        terminal.wait_shown("% of")
        return terminal

    yield begin
    for terminal in terminals:
        terminal.process.close(force=True)


def drag(terminal: Console, times: int = 1) -> None:
    for columns, rows in DRAG * times:
        terminal.resize(columns, rows)
        terminal.nap()


def count(terminal: Console, words: str) -> int:
    return sum(words in line for line in terminal.scrollback)


def test_dragging_while_text_streams(start: Callable[..., Console]) -> None:
    terminal = start([text(NUMBERED, text_fragments=500, delay_between=0.006)])
    terminal.submit("go")
    terminal.wait("word010")
    terminal.type("my draft")
    drag(terminal, 2)
    terminal.wait("1 step")
    terminal.wait_shown("% of")
    assert sum(line.startswith("›") for line in terminal.scrollback) == 2
    assert terminal.lines[terminal.cursor[1]] == "› my draft"
    assert terminal.cursor[0] == 10
    # Words at the right edge of rows go with the columns; no paragraph's first may.
    for number in range(0, 120, 7):
        assert count(terminal, f"  word{number:03}") == 1, terminal.text


def test_with_a_question_open(start: Callable[..., Console]) -> None:
    force = [("shell", {"command": "echo one && git push --force origin main"})]
    terminal = start([tool_calls(force), text("Fine.")])
    terminal.submit("go")
    terminal.wait_shown("1 once")
    drag(terminal)
    terminal.wait_shown("1 once")
    assert count(terminal, "1 once") == 1
    assert count(terminal, "› go") == 1
    assert sum(line.startswith("›") for line in terminal.scrollback) == 2


def test_with_a_draft_of_two_lines(start: Callable[..., Console]) -> None:
    terminal = start()
    terminal.type("first line of the draft")
    terminal.press("alt-enter")
    terminal.type("second 中文")
    terminal.wait_shown("second 中文")
    drag(terminal)
    terminal.wait_shown("% of")
    assert count(terminal, "first line of the draft") == 1
    assert count(terminal, "second 中文") == 1
    terminal.until(lambda: terminal.cursor[0] == 2 + 11, "the cursor is not behind the draft")
    assert terminal.lines[terminal.cursor[1]] == "  second 中文"
    assert count(terminal, "Type a task") == 1


def test_typing_goes_on_while_it_is_dragged(start: Callable[..., Console]) -> None:
    terminal = start()
    for number, (columns, rows) in enumerate(DRAG):
        terminal.resize(columns, rows)
        terminal.type(str(number))
    terminal.wait_shown("› 012345678")
    assert sum(line.startswith("›") for line in terminal.scrollback) == 1
