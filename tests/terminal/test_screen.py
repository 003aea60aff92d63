"""The scrollback holds each finished line once; the live region below it stays small and quiet."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from kimi_cli.frontends.terminal.look import Look
from kimi_cli.frontends.terminal.scribe import Scribe
from kimi_cli.store.events_file import read_events
from tests.support.program import Kimi
from tests.support.replies import Reply, text, tool_calls
from tests.support.tty import Tty

BEGIN, END = b"\x1b[?2026h", b"\x1b[?2026l"
UPDATE = re.compile(re.escape(BEGIN) + rb"(.*?)" + re.escape(END), re.DOTALL)
MARKDOWN = """## A heading

Some *words* that are long enough to be wrapped, with `code` and **more** of them, and then on.

| name | what it is | count |
|---|---|---|
| one | the first of the rows | 1 |
| two | the second, with a long text that has to be wrapped somewhere | 22 |

```python
def f(x):
    return x  # a line of code that is rather long, longer than a narrow terminal is wide
```

1. first point
2. second point: 中文也在这里，宽字符在行尾换行的时候不应该丢失任何一个字
   - below it

"""


def long_session() -> list[Reply]:
    replies: list[Reply] = []
    for step in range(8):
        command = (
            f"for n in $(seq {step * 3}); do echo line $n of step {step}; done; exit {step % 3}"
        )
        replies.append(
            tool_calls([("shell", {"command": command})], text=MARKDOWN.replace("A", "B"))
        )
        replies.append(
            tool_calls([("glob", {"pattern": f"*{step}.py"}), ("glob", {"pattern": f"*c{step}"})])
        )
    edit = {"path": "calc.py", "edits": [{"old": "a - b", "new": "a + b"}]}
    replies.append(tool_calls([("read", {"path": "calc.py"})]))
    replies.append(tool_calls([("edit", edit)]))
    replies.append(text(MARKDOWN * 3, thinking="hm " * 400, text_fragments=150, fragments=50))
    return replies


def printed(kimi: Kimi, width: int) -> list[str]:
    """What the session leaves in the scrollback, by its stored events."""
    log = read_events(kimi.sessions()[-1] / "events.jsonl")
    scribe = Scribe(Look("dark"), lambda: width)
    return [
        re.sub(r"\x1b\[[0-9;]*m", "", line).rstrip()
        for event in log.events
        for line in scribe.feed(event)
    ]


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (200, 50), (40, 12), (20, 6)])
def test_each_finished_line_is_in_the_scrollback_once_and_nothing_else(
    start: Callable[..., Tty], kimi: Kimi, columns: int, rows: int
) -> None:
    terminal = start(long_session(), columns=columns, rows=rows, ready="Type a")
    terminal.submit("go")
    terminal.until(lambda: re.search(r"19\s+steps", terminal.text) is not None, "no end")
    terminal.until(lambda: terminal.cursor[0] == 2, "the cursor is not in the input")
    whole = terminal.scrollback
    top = next(n for n, line in enumerate(whole) if line.startswith("Type a"))
    expected = printed(kimi, columns)
    assert len(expected) > 150
    shown = whole[top + 1 : top + 1 + len(expected)]
    assert shown == expected
    below = [line for line in whole[top + 1 + len(expected) :] if line]
    assert [line[:1] for line in below] == ["›", " "], "the input and the status line"


def test_what_is_drawn_while_text_streams_is_bounded_and_whole(start: Callable[..., Tty]) -> None:
    words = ("so it goes on and on, " * 60 + "\n\n") * 2
    terminal = start([text(words, text_fragments=400, delay_between=0.005)])
    begun = len(terminal.raw)
    terminal.submit("go")
    terminal.wait("1 step")
    # Reading may have begun, and may end, within an update.
    raw = terminal.raw[terminal.raw.index(b"\x1b[?2026h", begun) :]
    raw = raw[: raw.rindex(b"\x1b[?2026l") + len(b"\x1b[?2026l")]
    updates = UPDATE.findall(raw)
    seconds = 2.0  # at the least: 400 pieces, 5 ms apart
    took = float(re.findall(r"· (\d+\.\d) s", terminal.text)[-1])
    assert took >= seconds
    # Fifteen times a second, and once for each paragraph, key and end.
    assert len(updates) <= 15 * took + 20
    assert len(raw) / 400 < 100, "bytes for a token"
    assert not UPDATE.sub(b"", raw), "all is written within synchronized updates"
    assert all(shows_cursor(update) for update in updates)


def shows_cursor(update: bytes) -> bool:
    switches = re.findall(rb"\x1b\[\?25([hl])", update)
    return not switches or switches[-1] == b"h"


def test_nothing_is_written_while_nothing_happens(start: Callable[..., Tty]) -> None:
    terminal = start([text("Done.")])
    terminal.submit("go")
    terminal.wait("1 step")
    quiet = itertools.count()
    seen = b""
    # Written now and then stays the same for a second: twelve looks, a tenth apart.
    while next(quiet) < 100 and seen != terminal.raw:
        seen = terminal.raw
        terminal.nap()
    for _ in range(30):
        terminal.nap()
    assert terminal.raw == seen
    terminal.type("a")
    terminal.wait_shown("› a")
    terminal.nap()
    assert len(UPDATE.findall(terminal.raw[len(seen) :])) == 1, "one update for one key"


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (40, 10)])
@pytest.mark.parametrize("what", ["diff", "command"])
def test_a_question_fits_and_shows_what_it_is_about_and_the_answers(
    start: Callable[..., Tty], outside: Path, columns: int, rows: int, what: str
) -> None:
    content = "".join(f"line {n} of a file with lines of some length\n" for n in range(300))
    command = "".join(f"echo the step of number {n} of the work\n" for n in range(40))
    calls: Sequence[tuple[str, dict[str, str]]] = (
        [("write", {"path": str(outside / "made"), "content": content})]
        if what == "diff"
        else [("shell", {"command": command + "git push --force origin main"})]
    )
    terminal = start([tool_calls(calls), text("x")], columns=columns, rows=rows, ready="Type a")
    terminal.submit("go")
    terminal.wait_shown("1 once")
    shown = terminal.shown
    assert "! " in shown
    assert "no, and say why…" in shown
    assert re.search(r"\d+ (more )?lines", shown)
    if what == "command":
        assert "    git push --force origin main\n    ───" in shown
    row = terminal.cursor[1]
    assert terminal.lines[row].startswith("›")
    assert terminal.lines[row + 1].startswith("  kimi-k2.5")


def test_on_a_tiny_screen_the_answers_are_still_there(
    start: Callable[..., Tty], outside: Path
) -> None:
    calls = [("write", {"path": str(outside / "made"), "content": "x"})]
    terminal = start([tool_calls(calls)], columns=20, rows=6, ready="Type a")
    terminal.submit("go")
    terminal.wait_shown("5 why")
    assert "1 once" in terminal.shown
    assert "4 no" in terminal.shown


def test_a_long_draft_takes_a_third_and_follows_the_cursor(start: Callable[..., Tty]) -> None:
    terminal = start(rows=12, columns=40)
    for number in range(20):
        terminal.type(f"line {number}")
        terminal.press("alt-enter")
    terminal.type("end")
    terminal.wait_shown("  end")
    assert terminal.lines[terminal.cursor[1]] == "  end"
    assert terminal.cursor[0] == 5
    assert len([line for line in terminal.lines if line.startswith("  line")]) == 3
    assert "Type a task" in terminal.text
