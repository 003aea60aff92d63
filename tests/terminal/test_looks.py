"""How the main screens look, and on what kinds of terminal.

The screens are compared with tests/terminal/snapshots/*.txt, in which times, amounts, ids and paths
are masked. After a change that is meant, write them anew and read the difference:

    KIMI_SNAPSHOTS=write python -m pytest tests/terminal/test_looks.py
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.screens import SCENES, play
from tests.support.server import ScriptedServer
from tests.support.tty import Tty

SNAPSHOTS = Path(__file__).with_name("snapshots")
WRITE = os.environ.get("KIMI_SNAPSHOTS") == "write"
MASKS = (
    (r"^(  kimi-\S+ · .*?)\d+ % of 256k.*$", r"\1N % of 256k …"),
    (r"/tmp/kimi-\w{8}", "HOME"),
    (r"\b\d+ min \d+ s\b|\b\d+(\.\d+)? ?s\b", "N s"),
    (r"\bin \d+:\d\d\b", "in N:NN"),
    (r"\b\d+(\.\d+)?[kM]? tokens", "N tokens"),
    (r"\d+(\.\d+)?[kM]? → \d+(\.\d+)?[kM]?", "N → N"),
    (r"\b\d+ % cached", "N % cached"),
    (r"\$\d+\.\d+", "$N"),
    (r" · N s(?= · exit|$)", ""),
    (r"(?<=# )\d+(?= · )|\b0t[0-9a-z]{8}\b", "ID"),
)


def masked(lines: list[str]) -> str:
    text = "\n".join(lines).strip("\n")
    for pattern, by in MASKS:
        text = re.sub(pattern, by, text, flags=re.MULTILINE)
    return text + "\n"


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder whose path is equally long each time, as lines are cut by it."""
    with tempfile.TemporaryDirectory(prefix="kimi-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", list(SCENES))
def test_a_screen_looks_as_it_did(
    name: str, home: Path, serve: Callable[..., ScriptedServer]
) -> None:
    terminal = play(name, home, serve())
    path = SNAPSHOTS / f"{name}.txt"
    try:
        if WRITE:
            seen: list[str] = []
            while seen != terminal.lines:
                seen = terminal.lines
                terminal.nap()
            path.write_text(masked(seen))
        expected = path.read_text()
        # The last figures of a turn may come a moment after its words.
        terminal.until(lambda: masked(terminal.lines) == expected, f"it should be\n{expected}", 5)
    finally:
        terminal.process.close(force=True)


def colours(terminal: Tty) -> set[int]:
    codes = re.findall(rb"\x1b\[([0-9;]*)m", terminal.raw)
    numbers = {int(one) for code in codes for one in code.split(b";") if one}
    return {one for one in numbers if 30 <= one <= 107}


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"NO_COLOR": "1", "COLORFGBG": "0;15"}])
def test_without_colours(start: Callable[..., Tty], env: dict[str, str]) -> None:
    terminal = start(env=env)
    terminal.type("hello")
    terminal.wait_shown("› hello")
    assert not colours(terminal)


def test_blue_on_a_light_background(start: Callable[..., Tty]) -> None:
    assert 36 in colours(start())
    light = start(env={"COLORFGBG": "0;15"})
    light.until(lambda: 34 in colours(light), "no blue")
    assert 36 not in colours(light)


def test_ascii_alone_where_the_encoding_has_no_more(
    start: Callable[..., Tty], serve: Callable[..., ScriptedServer]
) -> None:
    terminal = start(env={"PYTHONIOENCODING": "ascii"})
    terminal.wait_shown("% of")
    terminal.press("?")
    terminal.wait("ctrl-z")
    terminal.type("word")
    terminal.wait_shown("> word")
    assert terminal.cursor[0] == 6
    assert terminal.raw.isascii()
    assert "kimi-k2.5 - " in terminal.shown


def test_a_wide_terminal_shows_all_of_the_status(start: Callable[..., Tty]) -> None:
    from tests.support.replies import text

    terminal = start([text("Done.")], columns=200)
    terminal.submit("go")
    terminal.wait_shown("1 step ·")
    terminal.until(lambda: "% cached" in terminal.lines[terminal.cursor[1] + 1], "no status")
    status = terminal.lines[terminal.cursor[1] + 1]
    for words in ("kimi-k2.5", "auto", "main", "% of 256k", "tokens", "% cached", "$0.0"):
        assert words in status
