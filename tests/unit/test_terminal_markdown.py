"""Markdown that streams in: cut into blocks, and what they look like."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from kimi_cli.frontends.terminal.code_block import Highlighter
from kimi_cli.frontends.terminal.look import PLAIN_GLYPHS, Look
from kimi_cli.frontends.terminal.markdown import MarkdownLines
from kimi_cli.frontends.terminal.markdown_stream import PIECE, Block, MarkdownStream, closed
from kimi_cli.frontends.terminal.paint import Painter

pieces = st.sampled_from(
    [
        *("# Head", "## Two", "plain words", "**bold** and `code`", "", "", "---", "===", "***"),
        *("- item", "  - nested", "* star", "1. one", "1. again", "7) seven", "  more", "    deep"),
        *("```python", "```", "~~~", "  ```sh", "   ```", "> quote", "> - list", ">"),
        *("| a | b |", "|---|--:|", "| 1 | 2 |", "<b>x</b>", "[a](b)", "[r]: http://x", "\tt"),
        *(
            "\x1b[31mred",
            "漢字。👩‍👩‍👧",
            "&#x202e;&lt;",
            "/* comment",
            "end */",
            "x" * 60,
            "****",
            "[`",
        ),
    ]
)
WORDS = ["alpha", "*gamma*", "`delta`", "**eps**", "漢字", "3.", "-", ">", "#", "|", "~"]
documents = st.lists(pieces, max_size=30).map("\n".join)


def blocks_of(text: str, cuts: list[int] | None = None) -> list[Block]:
    stream = MarkdownStream()
    edges = [0, *sorted(cut % (len(text) + 1) for cut in cuts or []), len(text)]
    made = [block for a, b in pairwise(edges) for block in stream.feed(text[a:b])]
    return made + stream.end()


def shown(text: str, width: int = 60, look: Look | None = None) -> list[str]:
    """The lines of a document as plain text."""
    markdown, lines = MarkdownLines(look or Look("none")), []
    for number, block in enumerate(blocks_of(text)):
        lines += [""] * (block.gap and number > 0)
        lines += [line.plain.rstrip() for line in markdown.lines(block, width)]
    return lines


@settings(deadline=None)
@given(documents, st.lists(st.integers(0, 2000), max_size=12))
@example("a\n```\n/*\n" + "x\n" * 70, [5, 9, 9, 20])
def test_the_blocks_do_not_depend_on_the_pieces(text: str, cuts: list[int]) -> None:
    assert blocks_of(text, cuts) == blocks_of(text)
    assert blocks_of(text, list(range(len(text)))) == blocks_of(text)


@settings(deadline=None)
@given(documents)
def test_looking_at_what_is_pending_changes_nothing(text: str) -> None:
    stream, made = MarkdownStream(), []
    for char in text:
        stream.pending()
        made += stream.feed(char)
    pending = stream.pending()
    assert pending == stream.end()
    assert made + pending == blocks_of(text)


@settings(deadline=None)
@given(documents, st.integers(1, 90))
def test_lines_fit_and_are_harmless(text: str, width: int) -> None:
    painter, markdown = Painter(Look()), MarkdownLines(Look())
    for block in blocks_of(text):
        for line in markdown.lines(block, width):
            assert cell_len(line.plain.rstrip()) <= width or width < 8
            bare = re.sub(r"\x1b\[[0-9;]*m", "", painter.line(line, width))
            assert cell_len(bare) <= width
            assert not re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", bare)


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS)))
def test_no_word_is_lost(words: list[str]) -> None:
    text = " ".join(words)
    wanted = re.sub(r"[^\w]", "", text)
    assert re.sub(r"[^\w]", "", "".join(shown(text, 20))) == wanted


def test_a_document() -> None:
    text = """# Title
Words with `code`, **weight** and [a link](https://x.y/z), <https://a.b>,
[https://c.d](https://c.d) and ![shot](pic.png).

* one
* two
  goes on
  - nested

> said
> so

<b>x</b> &lt;tag&gt; [ref][1]

[1]: http://foo
"""
    assert shown(text, 80) == [
        "Title",
        "Words with `code`, weight and a link (https://x.y/z), https://a.b,",
        "https://c.d and shot (pic.png).",
        "",
        "• one",
        "• two",
        "  goes on",
        "  • nested",
        "",
        "│ said",
        "│ so",
        "",
        "<b>x</b> <tag> [ref][1]",
        "",
        "[1]: http://foo",
    ]


def test_headings_stand_left_and_bold() -> None:
    painter, markdown = Painter(Look()), MarkdownLines(Look())
    lines = [markdown.lines(block, 40)[0] for block in blocks_of("# One\n## Two\n")]
    assert [painter.line(line, 40) for line in lines] == [
        "\x1b[1;4mOne\x1b[0m",
        "\x1b[1mTwo\x1b[0m",
    ]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1. a\n2. b\n3. c", [1, 2, 3]),
        ("1. a\n1. b\n1. c", [1, 2, 3]),
        ("5. a\n5. b", [5, 6]),
        ("1. a\n\n2. b\n\n   more\n\n3. c", [1, 2, 3]),
        ("1. a\n   ```\n   code\n   ```\n2. b", [1, 2]),
        ("1. a\n```\ncode\n```\n2. b", [1, 2]),
        ("1. a\n  - sloppy\n2. b", [1, 2]),
        ("9. a\n10. b", [9, 10]),
    ],
)
def test_numbers_survive_that_items_come_one_by_one(text: str, numbers: list[int]) -> None:
    found = [re.match(r"(\d+)\. ", line) for line in shown(text)]
    assert [int(match[1]) for match in found if match] == numbers


@pytest.mark.parametrize(
    ("source", "end"),
    [("a **b", "**"), ("a `b", "`"), ("a **b** c", ""), ("a **", ""), ("**a\n\nb", ""), ("`", "")],
)
def test_what_is_open_is_closed_while_it_is_looked_at(source: str, end: str) -> None:
    assert closed(Block(source)).source == source + end


def test_items_are_finished_one_by_one() -> None:
    stream = MarkdownStream()
    assert stream.feed("1. one\n2. tw") == []
    assert [block.source for block in stream.feed("o\n3. three\n")] == ["1. one", "2. two"]
    assert stream.tail == "3. three\n"


def test_sloppy_fences_in_items_stay_code() -> None:
    text = "- run:\n  ```sh\nmake\n```\nafter\n"
    assert shown(text) == ["• run:", "    make", "after"]


def test_long_code_comes_in_pieces_and_looks_as_if_it_came_at_once() -> None:
    code = ["def f(x):", '    """Says', "    much.", '    """', "    return [x, 1]", ""] * 60 + [
        "x"
    ]
    text = "```python\n" + "\n".join(code)
    stream = MarkdownStream()
    made = stream.feed(text)
    assert len(made) >= len(code) // PIECE - 1
    markdown = MarkdownLines(Look())
    lines = [line for block in [*made, *stream.end()] for line in markdown.lines(block, 80)]
    whole = Highlighter(Look()).lines(code, "python")
    painter = Painter(Look())
    assert [painter.line(line, 80) for line in lines] == [
        ("  " + painter.line(line, 78)).rstrip() for line in whole
    ]


def test_growing_code_is_not_highlighted_from_its_start_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    worked: list[int] = []
    inner = Highlighter._highlight

    def counting(self: Highlighter, code: list[str], lexer: object) -> object:
        worked.append(len(code))
        return inner(self, code, lexer)

    monkeypatch.setattr(Highlighter, "_highlight", counting)
    body = "\n".join(f"def f{n}(x):\n    return {n} + x  # {n}\n" for n in range(400))
    shown(f"```python\n{body}\n```\n", look=Look())
    assert sum(worked) < 12 * len(body.split("\n"))


def test_a_comment_over_many_lines_is_one() -> None:
    code = ["/*", *[f" * line {n}" for n in range(20)], " */", "int x;"]
    text = "```c\n" + "\n".join(code) + "\n```\n"
    markdown = MarkdownLines(Look())
    lines = [line for block in blocks_of(text) for line in markdown.lines(block, 60)]
    styles = {str(span.style) for line in lines[:20] for span in line.spans}
    assert len(styles) == 1


def test_tables() -> None:
    text = "| name | n |\n|:--|--:|\n| one | 1 |\n| 漢字 | 22 |\n"
    assert shown(text) == ["name   n", "────  ──", "one    1", "漢字  22"]
    narrow = "| a | b | c |\n|-|-|-|\n| some words | more words | and more |\n"
    assert all(cell_len(line) <= 12 for line in shown(narrow, 12))
    assert "a: some" in shown(narrow, 12)
    wide = shown("| a | b |\n|-|-|\n| " + "word " * 30 + "| x |\n", 40)
    assert len(wide) > 4 and all(cell_len(line) <= 40 for line in wide)


def test_without_utf8_bullets_and_bars_are_ascii() -> None:
    look = Look("none", **PLAIN_GLYPHS)
    assert shown("- a\n\n> b\n", look=look) == ["- a", "", "| b"]


def test_a_very_long_line_is_looked_at_in_part_and_stays_in_its_place() -> None:
    stream = MarkdownStream()
    stream.feed("word " * 20_000)
    first = stream.pending()[0].source
    stream.feed("word")
    second = stream.pending()[0].source
    assert len(first) < 4_000 and second.startswith(first)
    assert sum(len(block.source) for block in stream.end()) == 20_000 * 5 + 4
