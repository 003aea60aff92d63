"""A resize in a real tmux, which wraps anew what stands on the screen, history and all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.program import Kimi
from tests.support.replies import text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tmux import TMUX, Tmux

pytestmark = [
    pytest.mark.skipif(TMUX is None, reason="tmux is not installed"),
    pytest.mark.long,
]
NUMBERED = "".join(
    f"word{n:03} and some more of a text that goes on for a while. " + "\n\n" * (n % 7 == 6)
    for n in range(120)
)
DRAG = [(72, 24), (61, 22), (50, 20), (40, 16), (47, 18), (60, 24), (85, 26), (110, 30), (80, 24)]


@pytest.fixture
def start(kimi: Kimi, serve: Callable[..., ScriptedServer]) -> Iterator[Callable[..., Tmux]]:
    """Starts `kimi` in tmux with a scripted model, ready to type: `start(script, **options)`."""
    terminals: list[Tmux] = []

    def begin(script: list[object] | tuple[()] = (), **options: int) -> Tmux:
        terminal = Tmux(kimi, server=serve(script), **options)  # type: ignore[arg-type]
        terminals.append(terminal)
        terminal.wait("Type a task")
        terminal.wait_shown("% of")
        return terminal

    yield begin
    for terminal in terminals:
        terminal.close()


def drag(terminal: Tmux, times: int = 1) -> None:
    """Resize as a hand does that drags the window's corner."""
    for columns, rows in DRAG * times:
        terminal.resize(columns, rows)


def settled(terminal: Tmux) -> list[str]:
    """What is on the screen and above it once the whole live region is back."""
    terminal.until(lambda: "% of" in terminal.shown, "the status line is not back")
    return terminal.scrollback


def the_only(lines: list[str], words: str) -> str:
    found = [line for line in lines if words in line]
    assert len(found) == 1, (words, lines)
    return found[0]


def test_the_first_screen_leaves_nothing_in_the_history(start: Callable[..., Tmux]) -> None:
    terminal = start()
    assert terminal.scrollback[0].startswith("kimi "), terminal.text
    terminal.resize(60, 24)
    terminal.until(lambda: terminal.lines[3:4] == ["›"], "not drawn again")
    terminal.resize(80, 24)
    assert settled(terminal)[0].startswith("kimi ")


@pytest.mark.parametrize("draft", ["", "a draft that is long enough to take two rows or three "])
def test_dragging_while_text_streams(start: Callable[..., Tmux], draft: str) -> None:
    terminal = start([text(NUMBERED, text_fragments=60, delay_between=0.08)])
    terminal.submit("go")
    terminal.wait("word010")
    terminal.type(draft * 2)
    # Right behind an update: one that is on its way while tmux wraps can't be accounted for.
    shown = terminal.shown
    terminal.until(lambda: terminal.shown != shown, "nothing streams")
    drag(terminal, 3)
    terminal.wait("1 step")
    lines = settled(terminal)
    flat = " ".join(" ".join(lines).split())
    for number in range(120):
        assert flat.count(f"word{number:03} and some") == 1, terminal.text
    for words in ("› go", "Type a task", "1 step ·", "% of"):
        the_only(lines, words)
    assert sum(line.startswith("›") for line in lines) == 2, "the message and the input"
    if draft:
        typed = "".join(line[2:] for line in lines[-4:] if not line.startswith("  kimi"))
        assert (draft * 2).strip() in typed
    assert terminal.cursor_visible


def test_dragging_while_a_command_runs(start: Callable[..., Tmux], project: Path) -> None:
    command = (
        "for n in $(seq 30); do echo line $n of the output; done;"
        " while [ ! -e go ]; do sleep 0.05; done"
    )
    terminal = start([tool_calls([("shell", {"command": command})]), text("All done.")])
    terminal.submit("go")
    terminal.wait_shown("line 30 of")
    drag(terminal, 2)
    (project / "go").touch()
    terminal.wait("2 steps")
    lines = settled(terminal)
    the_only(lines, "● shell")
    the_only(lines, "All done.")
    the_only(lines, "Type a task")
    assert sum(line.startswith("›") for line in lines) == 2


def test_dragging_with_a_question_open(start: Callable[..., Tmux]) -> None:
    force = [("shell", {"command": "echo one && git push --force origin main"})]
    terminal = start([tool_calls(force), text("Fine.")])
    terminal.submit("go")
    terminal.wait_shown("1 once")
    drag(terminal)
    terminal.wait_shown("1 once")
    lines = settled(terminal)
    the_only(lines, "1 once")
    the_only(lines, "Type a task")
    assert len([line for line in lines if "git push" in line]) == 2, "the question and its reason"
    terminal.press("Escape")
    terminal.wait("stopped by you")


def test_dragging_with_a_draft_and_with_completions(
    start: Callable[..., Tmux], project: Path
) -> None:
    terminal = start()
    terminal.type("first line of the draft")
    terminal.press("M-Enter")
    terminal.type("second line, 中文 in it")
    terminal.wait_shown("second line")
    drag(terminal)
    lines = settled(terminal)
    the_only(lines, "first line of the draft")
    the_only(lines, "second line, 中文 in it")
    terminal.until(lambda: terminal.cursor == (2 + 23, 4), "the cursor is not behind the draft")
    terminal.press("C-c")
    terminal.until(lambda: "of the draft" not in terminal.shown, "the draft stays")
    terminal.type("look at @cal")
    terminal.wait_shown("calc.py")
    drag(terminal)
    lines = settled(terminal)
    the_only(lines, "look at @cal")
    the_only(lines, "Type a task")
    assert len(lines) <= 24 + 2
    terminal.until(lambda: terminal.cursor == (2 + 12, 3), "the cursor is not behind the word")


@pytest.mark.parametrize("rows", [8, 40])
def test_shorter_and_taller_keeps_every_line(start: Callable[..., Tmux], rows: int) -> None:
    terminal = start([text(NUMBERED)])
    terminal.submit("go")
    terminal.wait("1 step")
    before = [line for line in settled(terminal) if line]
    for size in (rows, 24, rows, 24):
        terminal.resize(80, size)
    assert [line for line in settled(terminal) if line] == before
