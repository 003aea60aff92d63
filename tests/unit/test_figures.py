"""Figures as people read them, what events add up to, and the list of sessions."""

from __future__ import annotations

import math
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from kimi_cli.frontends.account import Account
from kimi_cli.frontends.plain import (
    clean,
    clean_block,
    compacted,
    compacting,
    fit,
    pad,
    revealed,
    short,
    shrunk,
    spent,
    when,
)
from kimi_cli.frontends.sessions import home_short, table
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    Compaction,
    Kept,
    SessionResumed,
    Shrink,
    ToolResult,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.live import CompactionStarted
from kimi_cli.protocol.messages import TextPart, Usage
from kimi_cli.protocol.stops import StopReason
from kimi_cli.protocol.workspace import FileTouch
from kimi_cli.store.summary import Summary

DAY = 86_400.0
USED = Usage(input_tokens=900, cached_tokens=810, output_tokens=100)


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (0, "0"), (999, "999"), (1000, "1.0k"), (18_240, "18.2k"), (99_949, "99.9k"),
        (99_950, "100k"), (212_400, "212k"), (999_499, "999k"), (999_500, "1.00M"),
    ],
)  # fmt: skip
def test_counts_are_short(count: int, says: str) -> None:
    assert short(count) == says


def test_what_a_turn_took() -> None:
    assert spent(5, USED, 0.0123, "USD", 41) == "5 steps · 1.0k tokens, 90 % cached · $0.012 · 41 s"
    assert spent(1, Usage(), None, None, 0) == "1 step"
    assert spent(1, Usage(), 0.0004, "USD", 0) == "1 step · <$0.001"
    assert spent(1, Usage(), 0.0, "USD", 0) == "1 step · $0.000"


@pytest.mark.parametrize(
    ("age", "says"),
    [
        (-5, "just now"), (59, "just now"), (60, "1 min ago"), (3599, "59 min ago"),
        (3600, "1 h ago"), (DAY - 1, "23 h ago"), (DAY, "1 d ago"), (8 * DAY - 1, "7 d ago"),
    ],
)  # fmt: skip
def test_when(age: float, says: str) -> None:
    assert when(1e9 - age, 1e9) == says


def test_long_ago_is_a_date() -> None:
    assert when(1e9, 1e9 + 9 * DAY)[:7] == "2001-09"
    assert when(-1e300, 1e9) == when(0.0, 1e9) == "", "no calendar has it, it is not known"


def test_a_time_without_end_is_none() -> None:
    for value in (math.inf, math.nan):
        assert spent(1, Usage(), None, None, value) == "1 step"


def test_foreign_text_is_one_line_that_does_nothing() -> None:
    assert clean("a\tb\nc") == "a b ⏎ c"
    assert clean("\x1b[31ma\x9b\u202eb\u2066\u2028\r\x00") == "ab"
    assert clean("日本語 👨\u200d👩 ש") == "日本語 👨\u200d👩 ש"
    assert clean("echo \x1b]; rm x\x07") == "echo ; rm x", "nothing of a command is hidden"


SEQUENCES = [
    *(
        "\x1b[31m",
        "\x1b[2J",
        "\x1b[?25l",
        "\x1b[ q",
        "\x9b1m",
        "\x1b(B",
        "\x1bc",
        "\x1b\\",
        "\x1b=",
    ),
    *("\x1b]0;pwned\x07", "\x1b]8;;http://x\x1b\\", "\x9d0;pwned\x9c", "\x1bPq#0!9~\x1b\\"),
    *("\x1b_Ga=T;AAAA\x1b\\", "\x1b^pm\x9c", "\x1bXsos\x07", "\x1bPtmux;\x1b\x1b]0;x\x07\x1b\\"),
    *("\x00", "\x08", "\r", "\x7f", "\x9c", "\u202e", "\u2028"),
]
OPEN = ["\x1b]0;pwned", "\x1bP", "\x1b[3", "\x1b[31;", "\x1b", "\x1b(", "\x1b_G"]
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
READABLE = st.text(
    st.characters(exclude_categories=["Cc", "Cf", "Cs", "Zl", "Zp"]) | st.sampled_from("\n\t")
)


@given(
    st.lists(st.one_of(READABLE, st.sampled_from(SEQUENCES)), max_size=8),
    st.sampled_from(["", *OPEN]),
)
def test_sequences_go_whole_and_the_text_around_them_stays(pieces: list[str], end: str) -> None:
    wanted = "".join(piece for piece in pieces if piece not in SEQUENCES)
    assert clean_block("".join(pieces) + end) == wanted


@given(st.text(st.sampled_from("\x1b\x9b\x9d\x9c\x07]P[_X^\\0;m ab\n\té漢")) | st.text())
def test_nothing_is_left_that_a_terminal_obeys(text: str) -> None:
    assert not OBEYED.search(clean_block(text))
    assert clean_block(clean_block(text)) == clean_block(text)
    assert clean_block(text).count("\n") == text.count("\n"), "a string ends with its line"


def test_a_string_that_is_never_closed_ends_with_its_line() -> None:
    assert clean_block("a\x1b]0;pwned\nb") == "a\nb"
    assert clean_block("â\x9d\xa4 wrongly decoded") == "â\xa4 wrongly decoded"
    assert clean_block("\x9d0" * 200_000) == "0" * 200_000


def test_a_folder_below_home_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert home_short("/home/me/src/shop") == "~/src/shop"
    assert (home_short("/home/me"), home_short("/home/men"), home_short("")) == (
        "~", "/home/men", ""
    )  # fmt: skip


@given(st.text(st.characters(codec="utf-8"), max_size=40), st.integers(0, 30))
def test_fitted_text_fits(text: str, width: int) -> None:
    fitted = fit(text, width)
    assert cell_len(fitted) <= width
    assert fitted == text or (cell_len(text) > width and fitted.endswith("…"[:width]))
    assert cell_len(pad(fitted, width)) == width


def test_lines_of_a_compaction() -> None:
    started = CompactionStarted(reason="window", tokens=212_000, window=256_000)
    assert compacting(started) == "compacting the context: 212k of 256k tokens"
    done = Compaction(
        upto=9,
        note="n",
        tokens_before=212_000,
        tokens_after=31_200,
        window=256_000,
        kept=Kept(user_messages=4, todos=3, files_changed=2, files_read=5),
    )
    assert compacted(done) == (
        "context 83 % · compacted 212k → 31.2k tokens: kept your 4 messages, 3 todos, 7 files"
    )
    paid = done.model_copy(
        update={
            "usage": Usage(input_tokens=212_000, cached_tokens=190_800, output_tokens=2_000),
            "cost": 0.0451,
        }
    )
    assert compacted(paid, "USD") == compacted(done) + " · took 214k tokens, 90 % cached · $0.045"
    assert compacted(paid) == compacted(done) + " · took 214k tokens, 90 % cached"
    assert compacted(done, "USD") == compacted(done)
    by_hand = done.model_copy(
        update={
            "mechanical": True,
            "failure": "the model\x1b[2J wrote\nnothing",
            "window": 0,
            "kept": Kept(user_messages=1, todos=1),
        }
    )
    assert compacted(by_hand) == (
        "compacted 212k → 31.2k tokens: kept your message, 1 todo · "
        "without a note by the model: the model wrote ⏎ nothing"
    )
    cut = Shrink(upto=3, limit=1000, tokens_before=300_000, tokens_after=150_000, window=256_000)
    assert shrunk(cut) == "context 117 % · older results of tools cut: 300k → 150k tokens"


def account_of(*events: Event) -> Account:
    account = Account()
    for event in events:
        account(event)
    return account


def said(text: str, turn: int, **more: Any) -> UserMessage:
    return UserMessage(parts=[TextPart(text=text)], turn=turn, **more)


def test_turns_and_what_was_between_them() -> None:
    answer = AssistantMessage(parts=[], usage=USED, cost=0.5, seconds=2)
    compaction = Compaction(upto=1, note="", usage=USED, cost=0.25, seconds=1)
    touch = FileTouch(path="/p/a", action="created")
    again = FileTouch(path="/p/a", action="modified")
    edit = ToolResult(call_id="1", name="edit", status="ok", parts=[], files=[touch, again])
    account = account_of(
        TurnStarted(turn=1), said("one", 1), said("a reminder", 1, origin="program"),
        answer, edit, compaction,
        TurnEnded(turn=1, reason=StopReason.DONE, usage=USED + USED, cost=0.75, steps=1, seconds=4),
        compaction,
        TurnStarted(turn=2), said("two", 2), answer, answer,
        SessionResumed(turn=2, program="", cwd=""),
        compaction,
        TurnStarted(turn=3), said("three", 3),
        TurnEnded(turn=3, reason=StopReason.AUTHENTICATION),
    )  # fmt: skip
    assert [turn.text for turn in account.turns] == ["one", "two", "three"]
    results = [turn.result() for turn in account.turns]
    assert [r["stop_reason"] for r in results] == ["done", None, "authentication"]
    assert [(r["steps"], r["cost"], r["seconds"]) for r in results] == [
        (1, 0.75, 4), (2, 1.0, 4), (0, None, 0)
    ]  # fmt: skip
    assert account.compactions == 3 and len(account.aside) == 2
    assert account.usage.total_tokens == 6 * USED.total_tokens
    assert account.cost == 0.75 + 1.0 + 2 * 0.25
    assert account.changed_files() == [{"path": "/p/a", "action": "created"}]


def test_an_unknown_price_is_not_nothing() -> None:
    assert account_of(TurnStarted(turn=1)).cost is None


def stored(number: int, title: str, **more: Any) -> Summary:
    known: dict[str, Any] = {
        "id": f"00000000{number:02d}",
        "project": "p",
        "path": Path("/x"),
        "cwd": "/somewhere/else",
        "title": title,
        "model": "kimi-k2.5",
        "created": 1e9,
        "updated": 1e9,
        "turns": 3,
        "steps": 12,
        "usage": USED,
        "cost": 0.012,
        "currency": "USD",
        "last_reason": "done",
        "compactions": 0,
        "forked_from": None,
        "size": 1,
        "version": 2,
    }
    return Summary(**{**known, **more})


TITLES = ["short", "修复购物车里优惠券被计算两次的问题，并且补上测试用例，谢谢" * 3, "x" * 300, ""]


@pytest.mark.parametrize("width", [20, 40, 60, 80, 132])
@pytest.mark.parametrize("folders", [False, True])
def test_a_list_fits_the_terminal(width: int, folders: bool) -> None:
    sessions = [stored(number, title) for number, title in enumerate(TITLES)]
    lines = table(sessions, width=width, now=1e9 + 120, folders=folders)
    assert len(lines) == len(TITLES) + 1
    if width >= 40:
        assert max(map(cell_len, lines)) <= width
    for session, line in zip(sessions, lines[1:], strict=True):
        assert line.startswith(session.id) and "2 min ago" in line
    assert ("kimi-k2.5" in lines[1]) == (width > 80)


def test_a_list_for_a_pipe_is_whole() -> None:
    lines = table([stored(1, "x" * 300, cwd="/a/b")], width=None, now=1e9, folders=True)
    row = lines[1].split()
    assert row == [
        "0000000001", "just", "now", "x" * 300, "3/12", "1.0k", "$0.012", "kimi-k2.5", "/a/b"
    ]  # fmt: skip


def test_a_title_can_do_nothing_to_the_terminal() -> None:
    (line,) = table([stored(1, "a\x1b[2Jb\nc")], width=80, now=1e9)[1:]
    assert "ab ⏎ c" in line
    (line,) = table([stored(1, "t", problem="cannot be read", updated=0.0)], width=80, now=1e9)[1:]
    assert "! cannot be read" in line and "1970" not in line


@given(st.text())
def test_what_is_judged_hides_nothing(text: str) -> None:
    shown = revealed(text)
    assert not any(char != "\n" and unicodedata.category(char) in ("Cc", "Cf") for char in shown)
    assert revealed(text.replace("\x1b", "")) == shown.replace("\u241b", "")


def test_a_command_with_escapes_is_shown_whole() -> None:
    assert revealed("echo \x1b]; rm -rf ~\a\n\u202eok") == "echo ␛]; rm -rf ~␇\n[U+202E]ok"
