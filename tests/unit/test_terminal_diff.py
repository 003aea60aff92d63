"""Diffs and calls of tools as people read them."""

from __future__ import annotations

import difflib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_cli.frontends.terminal.diff_lines import CONTEXT, DiffLine, diff_texts, parse_diff
from kimi_cli.frontends.terminal.look import Look
from kimi_cli.frontends.terminal.tool_words import (
    call_words,
    outcome_words,
    output_lines,
    time_words,
)
from kimi_cli.protocol.events import ToolResult, ToolStatus

contents = st.lists(st.sampled_from(["a", "b", "", "-- x", "++ y", "@@ -1 +1 @@"]), max_size=25)


def diff_of(old: list[str], new: list[str]) -> str:
    return "".join(
        f"{line}\n" for line in difflib.unified_diff(old, new, "a/f", "b/f", lineterm="")
    )


@settings(deadline=None)
@given(contents, contents)
def test_numbers_point_at_the_lines(old: list[str], new: list[str]) -> None:
    lines = parse_diff(diff_of(old, new))
    for line in lines:
        if line.number:
            assert line.text == (old if line.sign == "-" else new)[line.number - 1]
    removed = [line.text for line in lines if line.sign == "-"]
    added = [line.text for line in lines if line.sign == "+"]
    changes = list(difflib.ndiff(old, new))
    assert len(added) - len(removed) == len(new) - len(old)
    assert bool(lines) == any(change[0] in "+-" for change in changes)


def test_a_diff_as_in_the_scrollback() -> None:
    old = [f"line {n}" for n in range(1, 31)]
    new = [*old[:9], "changed", *old[10:19], "new", *old[19:]]
    texts = [text.plain for text in diff_texts(parse_diff(diff_of(old, new)), Look())]
    assert texts == [
        " 9   line 9",
        "10 - line 10",
        "10 + changed",
        "11   line 11",
        " …",
        "19   line 19",
        "20 + new",
        "21   line 20",
    ]
    assert CONTEXT == 1


def test_what_is_no_diff_shows_nothing() -> None:
    assert parse_diff("") == parse_diff("Binary files differ\n") == []
    marked = "--- a\n+++ b\n@@ -1 +1 @@\n-x\n\\ No newline at end of file\n+y\n"
    assert parse_diff(marked) == [DiffLine(1, "-", "x"), DiffLine(1, "+", "y")]


def test_signs_tell_what_colours_tell() -> None:
    lines = parse_diff(diff_of(["x"], ["y"]))
    assert [str(text.spans[-1].style) for text in diff_texts(lines, Look())] == ["red", "green"]
    assert [text.plain for text in diff_texts(lines, Look("none"))] == ["1 - x", "1 + y"]


def result(
    name: str, status: ToolStatus = "ok", display: str = "", seconds: float = 0
) -> ToolResult:
    return ToolResult(
        call_id="c", name=name, status=status, parts=[], display=display, seconds=seconds
    )


@pytest.mark.parametrize(
    ("name", "summary", "arguments", "display", "words"),
    [
        ("grep", "x in src", {"pattern": "x", "path": "src/"}, "", 'grep "x" src/'),
        ("grep", "x", {"pattern": "x", "glob": "*.py"}, "", 'grep "x" (*.py)'),
        ("read", "a.py", {"path": "a.py"}, "29 lines", "read a.py"),
        ("read", "a.py from line 40", {"path": "a.py", "offset": 40}, "73 of 512 lines",
         "read a.py:40-112"),
        ("read", "a.py from line -5", {"path": "a.py", "offset": -5}, "5 of 1,000 lines",
         "read a.py:996-1000"),
        ("read", "a.py", "{broken", "2 of 9 lines", "read a.py"),
        ("read", "a.py", [1], "2 of 9 lines", "read a.py"),
        ("todo", "", {}, "2 items", "todo"),
        ("shell", "a\nb\x1b[31m", {}, "", "shell a ⏎ b"),
    ],
)  # fmt: skip
def test_a_call_in_words(
    name: str, summary: str, arguments: object, display: str, words: str
) -> None:
    raw = arguments if isinstance(arguments, str) else json.dumps(arguments)
    assert call_words(name, summary, raw, display) == words


@pytest.mark.parametrize(
    ("given_result", "words"),
    [
        (result("shell", "error", "exit status 2"), "exit 2"),
        (result("shell", "error", "exit status 1, 0.1 s"), "exit 1"),
        (result("shell", "ok", "0.1 s"), ""),
        (result("edit", "ok", "+1 -12"), "+1 −12"),
        (result("edit", "error", "error: old is not in a.py"), "old is not in a.py"),
        (result("edit", "error"), "failed"),
        (result("shell", "denied", "denied: not allowed"), "denied: not allowed"),
        (result("shell", "interrupted"), "interrupted"),
        (result("read", "ok", "5 of 9 lines"), ""),
        (result("read", "ok", "9 lines"), "9 lines"),
    ],
)
def test_an_outcome_in_words(given_result: ToolResult, words: str) -> None:
    assert outcome_words(given_result) == words


def test_time_is_said_of_commands_and_of_what_took_long() -> None:
    assert time_words(result("shell", seconds=2.13)) == "2.1 s"
    assert time_words(result("grep", seconds=0.4)) == ""
    assert time_words(result("grep", seconds=4)) == "4.0 s"


def test_what_was_added_for_the_model_is_not_output() -> None:
    shell = result("shell", "error")
    assert output_lines(shell, "\na\n\nb [1]\n[exit status 1]\n") == ["a", "", "b [1]"]
    assert output_lines(shell, "(no output)\n[exit status 1]\n") == []
    assert output_lines(shell, "a\n[Left running as task t1]\n") == ["a"]
