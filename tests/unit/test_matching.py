"""Finding the place of an edit, and putting the new text there."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.tools import matching, nearest
from kimi_cli.tools.splice import Document


def replaced(raw: str, old: str, new: str) -> tuple[str, str]:
    """The one place replaced, and how it was found."""
    document = Document(raw)
    found = matching.search(document.plain, old, new)
    assert len(found) == 1, found
    return document.replace(found), found[0].how


def count(text: str, old: str) -> int:
    return len(matching.search(text, old, "new"))


class TestExact:
    def test_one_place(self) -> None:
        assert replaced("a b c", "b", "x") == ("a x c", "")

    def test_overlapping_places_are_two(self) -> None:
        assert count("aaa", "aa") == 2

    def test_every_does_not_overlap(self) -> None:
        document = Document("aaaaa")
        assert document.replace(matching.every("aaaaa", "aa", "b")) == "bba"

    def test_an_exact_place_beats_a_loose_one(self) -> None:
        assert replaced("x = 1  \nx = 1\ny", "x = 1\ny", "z") == ("x = 1  \nz", "")

    @given(st.text("ab\n ", max_size=60), st.text("ab\n ", min_size=1, max_size=6))
    def test_an_exact_place_is_unique_or_nothing_is_edited(self, text: str, old: str) -> None:
        places = [i for i in range(len(text)) if text.startswith(old, i)]
        found = matching.search(text, old, "new")
        if places:
            assert [f.start for f in found] == places[: matching.MANY]
            assert all(f.how == "" and f.end - f.start == len(old) for f in found)
        else:
            assert all(f.how for f in found)


class TestTrailingBlanks:
    def test_the_file_has_them(self) -> None:
        raw = "def f():  \n    return 1\t\nend\n"
        new, how = replaced(raw, "def f():\n    return 1\n", "def f():\n    return 2\n")
        assert (new, how) == ("def f():  \n    return 2\nend\n", "trailing blanks")

    def test_the_model_has_them(self) -> None:
        assert replaced("a\nb\nc\n", "a  \nb", "x\nb") == ("x\nb\nc\n", "trailing blanks")

    def test_part_of_a_line_does_not_lose_its_blank(self) -> None:
        assert count("food\n", "foo ") == 0

    def test_a_line_of_blanks_is_not_the_end_of_another(self) -> None:
        assert count("bar\nfoo x\n", "  \nfoo y") == 0
        assert count("bar\nfoo\n", "  \nfoo  ") == 0

    def test_blanks_before_more_text_are_not_at_the_end(self) -> None:
        assert count("a\n\tbar\n", "a\n    ") == 0

    def test_two_places_are_two(self) -> None:
        assert count("a \nb\na  \nb\n", "a\nb") == 2


class TestTypography:
    def test_quotes_and_dashes(self) -> None:
        new, how = replaced("say “hi” – it’s on\n", 'say "hi" - it\'s on', 'say "ho" - it\'s on')
        assert (new, how) == ("say “ho” – it’s on\n", "typographic characters")

    def test_the_model_has_them(self) -> None:
        assert replaced('f("x")\n', "f(“x”)", "g(“x”)") == ('g("x")\n', "typographic characters")

    def test_a_repeated_line_keeps_its_own(self) -> None:
        raw = "“one”\n“two”\n“three”\n"
        assert replaced(raw, '"one"\n"two"\n', '"one"\nnew "2"\n')[0] == "“one”\nnew “2”\n“three”\n"

    def test_no_break_space(self) -> None:
        assert replaced("a\u00a0b\n", "a b", "a c")[0] == "a\u00a0c\n"


class TestIndentation:
    def test_deeper_in_the_file(self) -> None:
        raw = "class A:\n    def f(self):\n        pass\n"
        old, new = "def f(self):\n    pass", "def f(self):\n    if x:\n        go()\n\n    pass"
        result, how = replaced(raw, old, new)
        assert how == "indentation"
        assert result == (
            "class A:\n    def f(self):\n        if x:\n            go()\n\n        pass\n"
        )

    def test_shallower_in_the_file(self) -> None:
        raw = "def f():\n    pass\n"
        result = replaced(raw, "    def f():\n        pass\n", "    def g():\n        pass\n")
        assert result == ("def g():\n    pass\n", "indentation")

    def test_spaces_for_tabs(self) -> None:
        raw = "func f() {\n\tif x {\n\t\tgo()\n\t}\n}\n"
        old = "    if x {\n        go()\n    }"
        new = "    if y {\n        go()\n        stop()\n    }"
        result, how = replaced(raw, old, new)
        assert result == "func f() {\n\tif y {\n\t\tgo()\n\t\tstop()\n\t}\n}\n"
        assert how == "indentation"

    def test_tabs_for_spaces(self) -> None:
        raw = "if x:\n  go()\n  if y:\n    stop()\n"
        result, _ = replaced(raw, "\tgo()\n\tif y:\n\t\tstop()", "\tgo()\n\tif z:\n\t\tstop()")
        assert result == "if x:\n  go()\n  if z:\n    stop()\n"

    def test_uneven_shifts_are_no_match(self) -> None:
        assert count("a\n   b\n", "  a\n b") == 0

    def test_new_text_that_cannot_be_shifted_is_no_match(self) -> None:
        assert matching.search("def f():\n    pass\n", "  def f():\n      pass\n", "x\n") == []

    def test_part_of_a_line_is_no_match(self) -> None:
        assert count("x = foo()\nbar()\n", "  foo()\n  bar()") == 0

    def test_two_places_are_two(self) -> None:
        assert count("  a\n  b\n    a\n    b\n", "a\nb") == 2


class TestCopiedForms:
    def test_line_numbers_of_read(self) -> None:
        result = replaced("a\nb\nc\n", "2\tb\n3\tc\n", "2\tx\n3\tc\n")
        assert result == ("a\nx\nc\n", "copied line numbers")

    def test_numbers_that_do_not_count_up_are_text(self) -> None:
        assert count("b\nc\n", "7\tb\n3\tc") == 0

    def test_line_numbers_of_grep(self) -> None:
        assert replaced("a\nb\nc\n", "2:b\n3:c", "2:x\n3:c")[0] == "a\nx\nc\n"

    def test_a_single_number_with_a_colon_is_text(self) -> None:
        assert count('x: "http"\n', '8080: "http"') == 0

    def test_numbers_in_the_file_are_text(self) -> None:
        assert replaced("1: b\n2: c\n", "1: b", "1: x") == ("1: x\n2: c\n", "")

    def test_escaped_quotes(self) -> None:
        result = replaced('f("a")\n', r"f(\"a\")", r"f(\"a\n\")")
        assert result == ('f("a\\n")\n', "surplus backslashes")

    def test_escaped_line_ends(self) -> None:
        assert replaced("a\n\tb\n", r"a\n\tb", r"a\n\tc")[0] == "a\n\tc\n"

    def test_a_backslash_of_the_code_stays(self) -> None:
        assert replaced('p("\\n")\nq\n', 'p("\\n")\nq', 'p("\\n\\n")\nq')[0] == 'p("\\n\\n")\nq\n'

    def test_combined_with_blanks(self) -> None:
        result = replaced("  a  \n  b\n", "1\t  a\n2\t  b\n", "1\t  a\n2\t  x\n")
        assert result == ("  a  \n  x\n", "copied line numbers and trailing blanks")

    def test_no_newline_at_the_end_of_the_file(self) -> None:
        result = replaced("a\nb", "b\n", "c\n")
        assert result == ("a\nc", "the newline missing at the end of the file")


LINE = st.text('ab “"\t', max_size=4)
FILE = st.lists(LINE, min_size=1, max_size=8).map("\n".join)


@given(FILE, st.data())
def test_loose_readings_never_choose_between_places(text: str, data: st.DataObject) -> None:
    """Whatever is found, the place is what was asked for in all but blanks and typography, and
    there is no second place that differs from ``old`` in the same way only."""
    lines = text.split("\n")
    i = data.draw(st.integers(0, len(lines) - 1))
    j = data.draw(st.integers(i, len(lines) - 1))
    noise = data.draw(st.sampled_from(["", " ", "\t", "  "]))
    old = "\n".join(noise + line.rstrip() for line in lines[i : j + 1])
    if not old:
        return
    found = matching.search(text, old, "new\nlines")

    def bare(piece: str) -> list[str]:
        return [matching.plain_characters(line).strip() for line in piece.split("\n")]

    for place in found:
        assert bare(text[place.start : place.end]) == bare(place.old)
    if len(found) == 1 and found[0].how == "trailing blanks":
        wanted = [line.rstrip(" \t") for line in old.split("\n")]
        windows = [lines[k : k + len(wanted)] for k in range(len(lines) - len(wanted) + 1)]
        equal = [w for w in windows if [line.rstrip(" \t") for line in w] == wanted]
        assert len(equal) <= 1


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["\n", "\r\n"])), max_size=12),
    st.data(),
)
def test_mixed_line_ends_survive(parts: list[tuple[str, str]], data: st.DataObject) -> None:
    raw = "start\n" + "".join(text + end for text, end in parts) + "last"
    document = Document(raw)
    start = data.draw(st.integers(0, len(document.plain) - 1))
    end = data.draw(st.integers(start + 1, len(document.plain)))
    new = data.draw(st.text("abxyz\n", max_size=8))
    old = document.plain[start:end]
    place = matching.Found(start, end, old, new, new)
    result = document.replace([place])
    assert result.replace("\r\n", "\n") == document.plain[:start] + new + document.plain[end:]
    raw_start = next(
        n
        for n in range(len(raw) + 1)
        if raw[:n].replace("\r\n", "\n") == document.plain[:start] and not raw[:n].endswith("\r")
    )
    tail = document.plain[end:]
    kept = next(
        (
            n
            for n in range(len(raw) + 1)
            if raw[n:].replace("\r\n", "\n") == tail and not (n and raw[n - 1 : n + 1] == "\r\n")
        ),
        len(raw),
    )
    assert result.startswith(raw[:raw_start])
    assert result.endswith(raw[kept:])
    if "\r\n" not in raw:
        assert "\r" not in result
    if new == old:
        assert result == raw


class TestLocalLineEnds:
    def test_added_lines_take_the_ends_around(self) -> None:
        assert replaced("a\r\nb\r\nc\n", "b", "b1\nb2")[0] == "a\r\nb1\r\nb2\r\nc\n"
        assert replaced("a\r\nb\nc\n", "c", "c1\nc2")[0] == "a\r\nb\nc1\nc2\n"
        assert replaced("a\r\nb", "a", "a1\na2")[0] == "a1\r\na2\r\nb"

    def test_repeated_lines_keep_their_own(self) -> None:
        assert replaced("a\r\nb\nc\r\n", "a\nb\nc\n", "a\nx\nc\n")[0] == "a\r\nx\nc\r\n"


class TestNearest:
    text = "\n".join(f"def function_{n}(value):\n    return value + {n}\n" for n in range(20_000))

    def test_a_misspelt_name(self) -> None:
        old = "def function_777(valeu):\n    return value + 777"
        assert nearest.nearest(self.text, old)[0] == (777 * 3, 777 * 3 + 1)

    def test_one_line(self) -> None:
        text = "alpha\nreceive_data(socket)\nomega"
        assert nearest.nearest(text, "recieve_data(socket)") == [(1, 1)]

    def test_nothing_alike(self) -> None:
        assert nearest.nearest("alpha\nbeta", "something entirely different()") == []
        assert nearest.nearest("", "x") == []


def cost(text: str, old: str) -> float:
    start = time.process_time()
    matching.search(text, old, "x")
    nearest.nearest(text, old)
    return time.process_time() - start


@pytest.mark.parametrize(
    ("unit", "old"),
    [
        ("x = compute(value)  # note\n", "x = compute(values)\ny = 2\n" * 20),
        ("same\n", "  same\n" * 300 + "other"),
        ("    \n", "\n" * 300 + "x"),
        ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "a" * 3000 + "b"),
        ("\t same\n", "  same\n" * 300),
    ],
)
def test_time_grows_no_faster_than_the_text(unit: str, old: str) -> None:
    """Five times the text must not take anywhere near the square of that."""
    cost(unit * 100, old)
    small = min(cost(unit * 4_000, old) for _ in range(2))
    large = min(cost(unit * 20_000, old) for _ in range(2))
    assert large < small * 15 + 0.05
