"""Pastes: cleaned, folded, unfolded."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.frontends.terminal.pastes import MANY_CHARACTERS, MANY_LINES, Pastes, clean

big = st.builds(
    lambda text, more: text + more,
    st.text(),
    st.sampled_from(["\nline" * MANY_LINES, "x" * MANY_CHARACTERS, "\r\n" * 300, ""]),
)
typed = st.text(st.characters(exclude_characters="[]", exclude_categories=["Cs", "Cc"]))


@given(big)
def test_what_was_folded_comes_back_cleaned(text: str) -> None:
    pastes = Pastes()
    assert pastes.expand(pastes.fold(text)) == clean(text)


@given(st.lists(st.tuples(typed, big), max_size=5), typed)
def test_several_pastes_in_typed_text_come_back(pieces: list[tuple[str, str]], end: str) -> None:
    pastes = Pastes()
    box = "".join(text + pastes.fold(paste) for text, paste in pieces) + end
    assert pastes.expand(box) == "".join(text + clean(paste) for text, paste in pieces) + end


@given(big)
def test_cleaned_text_has_nothing_a_terminal_obeys(text: str) -> None:
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", clean(text))


@given(st.text(st.sampled_from("\x1b\x9b]0;title\x07\x1b\\[31mP\r\n\ta")))
def test_what_is_left_of_sequences_is_harmless_too(text: str) -> None:
    assert not set(clean(text)) & {"\x1b", "\x9b", "\x07", "\r"}


@pytest.mark.parametrize(
    ("pasted", "expected"),
    [
        ("a\r\nb\rc\n", "a\nb\nc\n"),
        ("\tx", "\tx"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07rest", "rest"),
        ("\x1b[200~inner", "inner"),
        ("nul\x00bell\x07", "nulbell"),
        ("日本語\u3000é", "日本語\u3000é"),
    ],
)
def test_cleaning(pasted: str, expected: str) -> None:
    assert clean(pasted) == expected


@pytest.mark.parametrize("text", ["", "one\ntwo", "x" * (MANY_CHARACTERS - 1), "l\n" * 5])
def test_small_pastes_stay_as_they_are(text: str) -> None:
    assert Pastes().fold(text) == text


def test_placeholders_say_what_they_stand_for_and_differ() -> None:
    pastes = Pastes()
    assert pastes.fold("line\n" * 1500) == "[paste 1: 1,500 lines]"
    assert pastes.fold("line\n" * 1500) == "[paste 2: 1,500 lines]"
    assert pastes.fold("x" * 5120) == "[paste 3: 5,120 characters]"


def test_half_a_placeholder_is_text() -> None:
    pastes = Pastes()
    placeholder = pastes.fold("line\n" * 10)
    for at in range(len(placeholder)):
        broken = placeholder[:at] + placeholder[at + 1 :]
        assert pastes.expand(broken) == broken


def test_a_paste_that_looks_like_a_placeholder_is_not_unfolded() -> None:
    pastes = Pastes()
    first = pastes.fold("line\n" * 10)
    second = pastes.fold(f"{first}\n" * 10)
    assert pastes.expand(second) == f"{first}\n" * 10


@given(typed, typed)
def test_a_placeholder_before_the_cursor_is_found_whole(before: str, after: str) -> None:
    pastes = Pastes()
    placeholder = pastes.fold("line\n" * 10)
    text = before + placeholder + after
    end = len(before) + len(placeholder)
    found = [at for at in range(len(text) + 1) if pastes.placeholder_before(text, at)]
    assert found == [end]
    assert pastes.placeholder_before(text, end) == len(placeholder)


def test_brackets_alone_are_no_placeholder() -> None:
    assert Pastes().placeholder_before("[paste 1: 10 lines]", 19) == 0
    assert Pastes().placeholder_before("plain", 5) == 0
