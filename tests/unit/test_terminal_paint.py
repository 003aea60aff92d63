"""Lines for a terminal: never wider than it, harmless, complete."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.table import Table
from rich.text import Text
from wcwidth import wcwidth

from kimi_cli.frontends.terminal.look import PLAIN_GLYPHS, Look
from kimi_cli.frontends.terminal.paint import (
    Painter,
    break_points,
    cells,
    clip,
    harmless,
    one_line,
    wrap,
)

SGR = re.compile(r"\x1b\[[0-9;]*m")
ODD = "a b\tc\n\x1b[31m\x9b1m\u200d\ufe0f\u0301漢字，。👩‍👩‍👧é❤️\u202e\u2028\x00\ud800-_*`|"
texts = st.one_of(st.text(), st.text(ODD), st.text("ab 漢。（❤️\u200d👩", max_size=80))
widths = st.integers(1, 40)


def bare(line: str) -> str:
    return SGR.sub("", line)


def fits(line: str, width: int) -> bool:
    """By every measure there is: rich's, and that of terminals that join nothing."""
    plain = bare(line)
    alone = sum(max(wcwidth(char), 0) for char in plain)
    return cell_len(plain) <= width and alone <= width and cells(plain) <= width


@settings(deadline=None)
@given(texts)
def test_foreign_text_has_nothing_a_terminal_obeys(text: str) -> None:
    for made in (harmless(text), one_line(text)):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", made)
        made.encode()
    assert "\n" not in one_line(text)


@settings(deadline=None)
@given(texts.map(harmless), st.integers(2, 40))
@example("0⺀ \u200b", 2)
def test_wrapped_lines_fit_and_lose_only_blanks(text: str, width: int) -> None:
    lines = [line.plain for line in wrap(Text(text), width + 1)]
    assert all(fits(line, width + 1) for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())


@settings(deadline=None)
@given(texts.map(one_line), widths)
def test_a_clipped_text_fits_and_begins_as_the_whole(text: str, width: int) -> None:
    made = clip(text, width)
    assert fits(made, width)
    assert made == text or (made.endswith("…") and text.startswith(made[:-1]))


@settings(deadline=None)
@given(texts.map(harmless), st.integers(3, 40))
def test_painted_lines_fit_and_end_their_style(text: str, width: int) -> None:
    for line in Painter(Look()).lines(Text(text, "bold red"), width):
        assert fits(line, width)
        assert "\x1b" not in bare(line)
        assert bare(line) == bare(line).rstrip()
        assert not line.count("\x1b[") or line.endswith("\x1b[0m")


def test_a_line_breaks_after_blanks_and_between_wide_characters() -> None:
    def lines(text: str, width: int) -> list[str]:
        return [line.plain for line in wrap(Text(text), width)]

    assert lines("one two three", 8) == ["one two", "three"]
    assert lines("hello 这是一个很长的句子", 11) == ["hello 这是", "一个很长的", "句子"]
    assert lines("这是一个，很长", 8) == ["这是一", "个，很长"], "no comma begins a line"
    assert lines("abcdefghij", 4) == ["abcd", "efgh", "ij"]
    assert lines("a\n\nb", 4) == ["a", "", "b"]
    assert lines("xx 👩‍👩‍👧", 7) == ["xx", "👩‍👩‍👧"], "joined characters stay together"
    assert break_points("short", 80) == []


def test_without_colour_weight_stays() -> None:
    text = Text.assemble(("a", "bold red"), ("b", "cyan"))
    assert Painter(Look()).lines(text, 9) == ["\x1b[1;31ma\x1b[0m\x1b[36mb\x1b[0m"]
    assert Painter(Look("none")).lines(text, 9) == ["\x1b[1ma\x1b[0mb"]


def test_the_environment_does_not_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "7")
    table = Table("left", "right")
    table.add_row("x" * 20, "[bold]y[/bold]")
    made = Painter(Look()).lines(table, 60)
    assert any("x" * 20 in line for line in made) and any("\x1b[1m" in line for line in made)
    assert all(fits(line, 60) for line in made)


def test_a_terminal_without_utf8_gets_our_words_in_ascii() -> None:
    look = Look("none", **PLAIN_GLYPHS)
    assert Painter(look).lines(Text("1 file +1 −1 · 3k → 2k"), 40) == ["1 file +1 -1 - 3k > 2k"]
