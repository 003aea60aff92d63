"""Wrapping of streamed text."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kimi_cli.frontends.wrap import StreamWrap

texts = st.text("ab 日\n本,x", max_size=120)


def wrapped(text: str, cuts: list[int], width: int = 30) -> str:
    wrap = StreamWrap(width, "  ")
    places = [0, *sorted(cut % (len(text) + 1) for cut in cuts), len(text)]
    pieces = [text[a:b] for a, b in pairwise(places)]
    return "".join(wrap.feed(piece) for piece in pieces) + wrap.end()


@given(texts, st.lists(st.integers(0, 200), max_size=6))
def test_how_it_arrives_makes_no_difference(text: str, cuts: list[int]) -> None:
    assert wrapped(text, cuts) == wrapped(text, [])


@given(texts)
def test_no_word_is_lost_or_broken_and_lines_fit(text: str) -> None:
    out = wrapped(text, [])
    assert out.split() == text.split()
    for line in out.split("\n"):
        words = line.split()
        assert cell_len(line.rstrip()) <= 30 or len(words) == 1
        assert not words or line.startswith("  ")


def test_the_first_line_has_its_own_beginning() -> None:
    wrap = StreamWrap(20, "  ", "* ")
    assert wrap.feed("one two three four five") + wrap.end() == "* one two three four\n  five"
