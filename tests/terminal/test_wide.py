"""Wide, joined and combining characters: typed, streamed, in output, and the cursor's column."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prompt_toolkit.utils import get_cwidth

from tests.support.program import Kimi
from tests.support.replies import text, tool_calls
from tests.support.server import ScriptedServer
from tests.support.tmux import TMUX, Tmux
from tests.support.tty import Tty

TYPED = {
    "han": "中文輸入",
    "kana": "ひらがな",
    "hangul": "한국어",
    "emoji": "🎉🫠",
    "family": "👨‍👩‍👧",
    "flag": "🇩🇪",
    "skin": "👍🏽",
    "heart": "❤️",
    "accent": "e\u0301a\u0308",
    "devanagari": "नमस्ते",
    "right to left": "\u200fשלום\u200e",
}
with_tmux = pytest.mark.skipif(TMUX is None, reason="tmux is not installed")


def cursor_comes_to(terminal: Tmux, column: int) -> None:
    terminal.until(lambda: terminal.cursor == (column, 3), f"the cursor is not in {column}")


@with_tmux
def test_the_cursor_stands_behind_what_was_typed(
    kimi: Kimi, serve: Callable[..., ScriptedServer]
) -> None:
    with Tmux(kimi, server=serve()) as terminal:
        terminal.wait("Type a task")
        terminal.wait_shown("% of")
        column = 2
        for typed in TYPED.values():
            terminal.type(typed)
            column += get_cwidth(typed)
            cursor_comes_to(terminal, column)
        for typed in reversed(TYPED.values()):
            for char in reversed(typed):
                terminal.press("BSpace")
                column -= get_cwidth(char)
            cursor_comes_to(terminal, column)
        terminal.until(lambda: terminal.lines[3] == "›", "the input is not empty")


@pytest.mark.parametrize("columns", [40, 41])
def test_wide_characters_at_the_right_edge(start: Callable[..., Tty], columns: int) -> None:
    terminal = start(columns=columns)
    terminal.type("中" * 50)
    room = (columns - 2) // 2
    terminal.until(lambda: terminal.shown.count("中") == 50, "not all of it is shown")
    rows = [line for line in terminal.lines if "中" in line]
    assert [len(row) - 2 for row in rows] == [room, room, 50 - 2 * room]
    assert terminal.cursor[0] == 2 + 2 * (50 - 2 * room)
    for _ in range(50 - room):
        terminal.press("backspace")
    terminal.until(lambda: terminal.shown.count("中") == room, "not taken back")
    # The cursor has no room behind the last character, so it is in the next row.
    assert terminal.cursor in ((2, 4), (columns - 1, 3))


def test_wide_text_streams_and_stays_whole(start: Callable[..., Tty]) -> None:
    sentence = "今天我们修改了购物车的代码，现在每张优惠券只计算一次。测试全部通过！"
    replies = [
        tool_calls([("shell", {"command": f"echo '{sentence}'; exit 1"})]),
        text(sentence * 6, text_fragments=90, delay_between=0.004),
    ]
    terminal = start(replies, columns=41)
    terminal.submit("开始吧，请修改")
    terminal.wait("2 steps")
    whole = "".join(line.strip() for line in terminal.scrollback)
    assert whole.count(sentence) == 6
    assert "› 开始吧，请修改" in terminal.text
    assert all(get_cwidth(line) <= 41 for line in terminal.scrollback)


@with_tmux
def test_joined_emoji_that_stream_leave_nothing_behind(
    kimi: Kimi, serve: Callable[..., ScriptedServer]
) -> None:
    part = "done 👨‍👩‍👧 for 🇩🇪 and 👍🏽 with ❤️ so e\u0301 it goes on. "
    server = serve([text(part * 12, text_fragments=300, delay_between=0.004)])
    with Tmux(kimi, server=server, columns=50) as terminal:
        terminal.wait("Type a task")
        terminal.submit("go")
        terminal.wait("1 step")
        words = " ".join(line.strip() for line in terminal.scrollback)
        assert words.count("it goes on.") == 12
        assert words.count("done ") == 12


@with_tmux
def test_a_question_in_chinese(kimi: Kimi, serve: Callable[..., ScriptedServer]) -> None:
    command = "echo 提交代码 && git push --force origin 主分支"
    server = serve([tool_calls([("shell", {"command": command})])])
    with Tmux(kimi, server=server) as terminal:
        terminal.wait("Type a task")
        terminal.submit("推送")
        terminal.wait_shown("1 once")
        lines = terminal.lines
        row = next(n for n, line in enumerate(lines) if line.startswith("    echo 提交"))
        before = get_cwidth("    echo 提交代码 && ")
        under = lines[row + 1]
        assert under == " " * before + "─" * get_cwidth("git push --force origin 主分支")
