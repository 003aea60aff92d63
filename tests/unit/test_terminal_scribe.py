"""The scrollback: the same lines from a live session and from a stored one."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from rich.cells import cell_len

import kimi_cli.demo
from kimi_cli.frontends.terminal.look import PLAIN_GLYPHS, Look
from kimi_cli.frontends.terminal.past import cut_short
from kimi_cli.frontends.terminal.scribe import Scribe
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Aside,
    AssistantMessage,
    BudgetWarning,
    Checkpoint,
    Compaction,
    Confined,
    DurableEvent,
    InstructionFile,
    Instructions,
    Kept,
    ModeChanged,
    ModelChanged,
    Notice,
    QuestionAnswered,
    QuestionAsked,
    Rewind,
    Shrink,
    Title,
    ToolResult,
    ToolStarted,
    ToolStatus,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.live import (
    RetryScheduled,
    StepStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)
from kimi_cli.protocol.messages import (
    MediaPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    Usage,
)
from kimi_cli.protocol.stops import StopReason
from kimi_cli.protocol.workspace import FileTouch
from kimi_cli.tools.shell_output import excerpt

SGR = re.compile(r"\x1b\[[0-9;]*m")
DIFF = "--- a/c.py\n+++ b/c.py\n@@ -70,3 +70,3 @@\n a\n-b\n+c\n d\n"


def scribe(width: int = 80, look: Look | None = None) -> Scribe:
    return Scribe(look or Look("none"), lambda: width, now=lambda: 106.0)


def lines(pen: Scribe, *events: Event) -> list[str]:
    return [SGR.sub("", line) for event in events for line in pen.feed(event)]


def user(text: str, **more: Any) -> UserMessage:
    return UserMessage(parts=[TextPart(text=text)], **more)


def answer(text: str = "", thinking: str = "", **more: Any) -> AssistantMessage:
    parts = [ThinkingPart(text=thinking)] * bool(thinking) + [TextPart(text=text)] * bool(text)
    return AssistantMessage(parts=parts, thinking_seconds=6 if thinking else 0, **more)


def result(
    name: str, summary: str = "", text: str = "", status: ToolStatus = "ok", **more: Any
) -> ToolResult:
    parts = [TextPart(text=text)] * bool(text)
    return ToolResult(call_id="c", name=name, summary=summary, status=status, parts=parts, **more)


def ended(reason: StopReason = StopReason.DONE, **more: Any) -> TurnEnded:
    return TurnEnded(reason=reason, **more)


def test_a_turn_as_on_the_screen() -> None:
    call = ToolCallPart(id="c", name="grep", arguments='{"pattern": "coupon", "path": "src/"}')
    message = answer("I'll look at how the total is computed.", "Hm.")
    touch = FileTouch(path="/s/c.py", action="modified", added=1, removed=1, diff=DIFF)
    usage = Usage(input_tokens=18_000, output_tokens=200, cached_tokens=16_380)
    assert lines(
        scribe(),
        TurnStarted(currency="USD"),
        user("the cart total is wrong"),
        message.model_copy(update={"parts": [*message.parts, call]}),
        ToolStarted(call_id="c", name="grep"),
        result("grep", "coupon in src/", display="14 matches in 5 files"),
        result("edit", "src/c.py", display="+1 -1", files=[touch]),
        result("shell", "pytest -q", "4 passed in 0.31s\n", seconds=2.1),
        answer("Each coupon is now counted once.\n\nDone."),
        ended(usage=usage, cost=0.012, currency="USD", steps=5, seconds=41),
        user("thanks"),
    ) == [
        "",
        "› the cart total is wrong",
        "",
        "✻ thought for 6 s · ctrl-t",
        "  I'll look at how the total is computed.",
        '● grep "coupon" src/ · 14 matches in 5 files',
        "● edit src/c.py · +1 −1",
        "    70   a",
        "    71 - b",
        "    71 + c",
        "    72   d",
        "● shell pytest -q · 2.1 s",
        "    4 passed in 0.31s",
        "",
        "  Each coupon is now counted once.",
        "",
        "  Done.",
        "",
        "  1 file +1 −1 · 5 steps · 18.2k tokens, 91 % cached · $0.012 · 41 s",
        "",
        "› thanks",
    ]


def test_a_failed_command_shows_its_end(tmp_path: Path) -> None:
    pen = scribe()
    output = "".join(f"line {n}\n" for n in range(218))
    path = tmp_path / "output"
    path.write_text(output)
    shown = lines(
        pen,
        result(
            "shell", "make test", output + "[exit status 2]\n", "error",
            display="exit status 2", seconds=8.4, output_path=str(path),
        ),
    )  # fmt: skip
    assert shown[:2] == ["● shell make test · exit 2 · 8.4 s", "    … 212 lines · ctrl-o shows all"]
    assert shown[2:] == [f"    line {n}" for n in range(212, 218)]
    fold = pen.folds.latest("output")
    assert fold and fold.text == output and fold.title == "shell make test"


@pytest.mark.parametrize(
    ("written", "says", "end"),
    [
        (b"".join(b"line %d\n" % n for n in range(100_000)), "… 99998 lines", "line 99999"),
        (b"y\n" * 15_000_000, "… the end of 30 MB", "y"),
        (b"x" * 2_000_000, "… the end of 2 MB", "x"),
    ],
)
def test_an_output_that_was_cut_is_measured_as_a_whole(
    written: bytes, says: str, end: str, tmp_path: Path
) -> None:
    path = tmp_path / "output"
    path.write_bytes(written)
    cut = excerpt(path, 0, running=False)
    assert cut.cut
    pen = scribe()
    shown = lines(pen, result("shell", "make", cut.text, output_path=str(path)))
    assert shown[1] == f"    {says} · ctrl-o shows all"
    assert len(shown) <= 4 and shown[-1].strip().startswith(end)
    assert not any("left out" in line for line in shown)
    fold = pen.folds.latest("output")
    assert fold and fold.path == str(path)


def test_a_call_that_was_interrupted_keeps_its_command() -> None:
    pen = scribe()
    call = ToolCallPart(id="d", name="shell", arguments='{"command": "echo next"}')
    said = AssistantMessage(parts=[call])
    begun = ToolStarted(call_id="c", name="shell", summary="make test")
    stopped = result("shell", "", "interrupted while it ran, and stopped", "interrupted")
    never = stopped.model_copy(update={"call_id": "d"})
    assert lines(pen, said, begun, stopped, never) == [
        "● shell make test · interrupted",
        "● shell echo next · interrupted",
    ]


def test_other_outcomes() -> None:
    pen = scribe()
    assert lines(
        pen,
        result("shell", "rm -rf /", "Denied: no", "denied", display="denied: it destroys"),
        result("edit", "a.py", "old is not in a.py", "error", display="error: old is not in a.py"),
        result("shell", "sleep 9", "half\n", "interrupted", seconds=3),
        result("shell", "ls", "\n".join("abcdefg"), seconds=0.01),
    ) == [
        "● shell rm -rf / · denied: it destroys",
        "● edit a.py · old is not in a.py",
        "● shell sleep 9 · interrupted · 3.0 s",
        "    half",
        "● shell ls",
        "    … 5 lines · ctrl-o shows all",
        "    f",
        "    g",
    ]
    styled = scribe(look=Look()).feed(result("shell", "x", "", "denied", display="denied: no"))
    assert styled[0].startswith("\x1b[33m●") and "\x1b[33mdenied: no\x1b[0m" in styled[0]


def test_a_long_diff_is_cut_and_counted() -> None:
    diff = "@@ -0,0 +1,50 @@\n" + "".join(f"+line {n}\n" for n in range(50))
    touch = FileTouch(path="/s/n.py", action="created", added=50, diff=diff)
    pen = scribe()
    shown = lines(pen, result("write", "n.py", display="new, 50 lines", files=[touch]))
    assert shown[0] == "● write n.py · new, 50 lines"
    assert shown[-1] == "    … 38 more lines · ctrl-o shows all" and len(shown) == 14
    fold = pen.folds.latest("diff")
    assert fold and fold.text == diff


def test_messages_of_the_user() -> None:
    pen = scribe(30)
    assert lines(pen, user("one two three four five six seven\nnew")) == [
        "", "› one two three four five six", "  seven", "  new",
    ]  # fmt: skip
    assert lines(pen, user("also this", origin="steer")) == ["", "› also this (steered)"]
    assert lines(pen, user("check failed\nlong output", origin="program")) == [
        "", "  kimi tells the model: check…",
    ]  # fmt: skip
    picture = MediaPart(kind="image", url="data:", name="a\x1bb.png")
    assert lines(pen, UserMessage(parts=[TextPart(text="see"), picture]))[1] == "› see [ab.png]"
    long = lines(pen, user("\n".join("x" * 40)))[1:]
    assert len(long) == 13 and long[-1].startswith("  … 28 more lines")
    fold = pen.folds.latest("message")
    assert fold and fold.text.count("x") == 40


@pytest.mark.parametrize(
    ("message", "shown", "rest"),
    [
        ("word " * 140, 14, ""),
        ("word " * 400, 12, "… 28 more lines"),
        ("a\n" + "word " * 400, 12, "… 29 more lines"),
        ("x" * 20_001, 12, "… 19401 more characters"),
        ("x\n" * 10_001, 12, "… 9989 more lines"),
    ],
)
def test_a_long_message_of_the_user_is_folded(message: str, shown: int, rest: str) -> None:
    pen = scribe(52)
    made = lines(pen, user(message))[1:]
    if not rest:
        assert len(made) == shown and pen.folds.latest() is None
        return
    assert len(made) == shown + 1 and made[-1] == f"  {rest} · ctrl-o shows all"
    fold = pen.folds.latest("message")
    assert fold and fold.text == message.strip("\n")


def test_why_a_turn_ended() -> None:
    assert lines(scribe(), ended(StopReason.INTERRUPTED, steps=3, seconds=2)) == [
        "",
        "  stopped by you after 3 steps · nothing is lost, go on typing",
        "  2.0 s",
    ]
    shown = lines(scribe(), ended(StopReason.AUTHENTICATION, detail="401: no\x1b[2J", steps=1))
    assert shown == ["", "  the key was refused: 401: no", "  kimi login sets another", "  1 step"]
    for reason in StopReason:
        assert reason is StopReason.DONE or len(lines(scribe(), ended(reason))) > 1, reason


def test_remarks_are_one_dim_line_each() -> None:
    pen = scribe(90)
    said = {
        "compacted 212k → 31.0k tokens: kept your 4 messages": Compaction(
            upto=1, note="", kept=Kept(user_messages=4), tokens_before=212_000, tokens_after=31_000
        ),
        "older results of tools cut": Shrink(upto=1, limit=9, tokens_before=9, tokens_after=3),
        "look out": Notice(level="warning", text="look out"),
        "80 % of the limit of cost": BudgetWarning(axis="cost", used=0.8, limit=1),
        "AGENTS.md: 1 file, 1 cut": Instructions(
            files=[InstructionFile(path="a", digest="", clipped=True)], text=""
        ),
        "mode plan": ModeChanged(mode="plan"),
        "model k2 · thinking on": ModelChanged(model="k2", thinking="on"),
        "no way back from here: disk full": Checkpoint(snapshot="", failure="disk full"),
        "undone: 2 files restored": Rewind(to=1, what="undo", files=True, restored=2),
    }
    for text, event in said.items():
        made = lines(pen, event)
        assert len(made) == 1 and made[0].startswith("  ") and text in made[0], made
    begun = ToolStarted(call_id="", name="x")
    assert lines(pen, Title(text="t"), Checkpoint(snapshot="s"), StepStarted(), begun) == []
    confined = Confined(mode="workspace-write", way="bubblewrap")
    assert lines(pen, confined) == [], "the first words of the screen say it"
    assert "network on" in lines(pen, confined.model_copy(update={"network": True}))[0]


@pytest.mark.parametrize(
    ("answered", "comment", "line"),
    [
        ("once", "", "! allowed once: shell pip install x"),
        ("session", "", "! allowed for this session: network for pip"),
        ("project", "", "! always allowed here: network for pip"),
        ("no", "use uv", "! no: use uv"),
        ("no", "", "! no: shell pip install x"),
    ],
)
def test_decisions_are_recorded(answered: str, comment: str, line: str) -> None:
    asked = QuestionAsked(
        question_id="q", call_id="c", tool="shell", text="shell pip install x", reason="r",
        choices=["once", "no"], rule="network for pip",
    )  # fmt: skip
    reply = QuestionAnswered(question_id="q", answer=answered, comment=comment)
    assert lines(scribe(), asked, reply) == [line]


def test_a_question_without_an_answer_is_no_decision() -> None:
    asked = QuestionAsked(
        question_id="q", call_id="c", tool="shell", text="shell curl x", reason="r", choices=["no"]
    )
    left = QuestionAnswered(question_id="q", answer="no", by="policy")
    stopped = result("shell", "", "not run: the turn was interrupted before", "interrupted")
    assert lines(scribe(), asked, left, stopped) == [
        "! not answered: shell curl x",
        "● shell curl x · interrupted",
    ]


def test_what_streams_is_in_the_tail_until_it_is_finished() -> None:
    pen = scribe()
    pen.feed(user("go"))
    pen.feed(StepStarted(time=100.0))
    pen.feed(ThinkingDelta(text="".join(f"thought {n}\n" for n in range(50)), time=102.0))
    tail = [SGR.sub("", line) for line in pen.tail(20)]
    assert tail[0] == "✻ thinking · 6 s" and tail[-1] == "  thought 49" and len(tail) == 5
    assert [SGR.sub("", line) for line in pen.tail(2)] == ["✻ thinking · 6 s", "  thought 49"]
    assert lines(pen, TextDelta(text="First **par", time=102.0)) == [
        "",
        "✻ thought for 2 s · ctrl-t",
    ]
    assert [SGR.sub("", line) for line in pen.tail(9)] == ["  First par"]
    assert lines(pen, TextDelta(text="agraph**.\n\nSec")) == ["  First paragraph."]
    assert pen.tail(9) == ["", "  Sec"], "the empty line comes with what it stands before"
    assert pen.tail(1) == ["  Sec"]
    assert pen.tail(0) == []
    assert lines(pen, answer("First **paragraph**.\n\nSecond.", "t")) == ["", "  Second."]
    assert pen.tail(9) == []


def retry(message: str = "busy") -> RetryScheduled:
    return RetryScheduled(error="e", message=message, delay=1, attempt=1, attempts=3)


def test_a_retry_makes_what_streamed_void() -> None:
    pen = scribe()
    pen.feed(TextDelta(text="only in the tail"))
    assert lines(pen, retry()) == [] and pen.tail(9) == []
    pen.feed(TextDelta(text="also"))
    assert lines(pen, retry("busy, wait")) == []
    assert lines(pen, TextDelta(text="written\n\nmore")) == [
        "  busy, wait · 2 tries failed", "", "  written",
    ]  # fmt: skip
    assert lines(pen, retry()) == ["", "  busy · the answer begins again"]
    assert lines(pen, TextDelta(text="new"), answer("new")) == ["", "  new"]
    assert lines(pen, StepStarted(), retry(), answer("", "hm")) == [
        "", "  busy · one try failed", "✻ thought for 6 s · ctrl-t",
    ]  # fmt: skip


def test_failures_to_the_end_are_told_once() -> None:
    pen = scribe()
    failed = lines(pen, retry(), retry("too busy"), ended(StopReason.TEMPORARY, detail="busy."))
    assert failed[:2] == ["", "  the model's server failed: busy."]
    assert sum("busy" in line for line in failed) == 1
    stopped = lines(pen, retry(), ended(StopReason.INTERRUPTED))
    assert stopped[1] == "  busy · one try failed" and "stopped by you" in stopped[3]


def test_an_answer_that_is_cut_off() -> None:
    pen = scribe()
    pen.feed(TextDelta(text="half an ans"))
    assert lines(pen, answer("half an ans", partial=True)) == ["  half an ans", "  … cut off here"]
    pen.feed(TextDelta(text="lost"))
    assert lines(pen, ended(StopReason.TEMPORARY, detail="gone"))[:3] == ["", "  lost", ""]


def test_text_that_turned_out_to_be_a_call_is_not_written_twice() -> None:
    pen = scribe()
    first = lines(pen, TextDelta(text="I look.\n\n<call>read a"))
    assert first + lines(pen, answer("I look.")) == ["  I look."]


def test_thinking_can_be_read_later() -> None:
    pen = scribe()
    assert lines(pen, answer("", "short")) == ["✻ thought for 6 s · ctrl-t"]
    quick = answer("", "quick").model_copy(update={"thinking_seconds": 0.3})
    assert lines(pen, quick) == []
    assert [fold.text for fold in pen.folds.all()] == ["short", "quick"]
    at_once = answer("So.", "at once").model_copy(update={"thinking_seconds": 0.04})
    assert "✻ thought · ctrl-t" in lines(pen, at_once)
    titles = [fold.title for fold in pen.folds.all()]
    assert titles == ["thought for 6 s", "thought for 0.3 s", "thought"]


def test_a_call_that_is_written_is_no_thinking() -> None:
    pen = scribe()
    pen.feed(ThinkingDelta(text="hm", time=100))
    assert pen.tail(9)
    pen.feed(ToolCallDelta(index=0, name="write", arguments="{"))
    assert pen.tail(9) == []


def test_a_question_beside_the_work_does_not_disturb_it() -> None:
    pen = scribe()
    aside = Aside(question="why?", answer="So:\n\n```py\nx = 1\n```", seconds=3, partial=True)
    pen.feed(TextDelta(text="One.\n\n```py\n" + "y = 2\n" * 8))
    assert lines(pen, aside) == [
        "", "› why? (aside)", "", "  So:", "", "    x = 1", "",
        "  cut off · the model forgets this · 3.0 s",
    ]  # fmt: skip
    assert lines(pen, answer("One.\n\n```py\n" + "y = 2\n" * 9))[-2:] == ["", "    y = 2"]


def test_a_mode_is_told_once() -> None:
    pen = scribe()
    assert lines(pen, ModeChanged(mode="plan")) == ["  mode plan"]
    assert lines(pen, user("You are in plan mode.", origin="program", mode="plan")) == []


def test_a_turn_that_was_cut_short_is_told_of_a_stored_session() -> None:
    begun = ToolStarted(call_id="c", name="shell", summary="make\x1b[2J test")
    turn = [TurnStarted(), user("go"), begun]
    words = "kimi ended in the middle of this turn"
    assert cut_short(turn) == f"{words}, while this ran: shell make test"
    assert cut_short([*turn, result("shell")]) == words
    assert cut_short([*turn, ended()]) == cut_short([]) == ""
    assert cut_short([*turn, TurnStarted(), user("on")]) == words
    assert cut_short([*turn, TurnStarted(), user("on"), ended()]) == ""


def test_no_title_or_link_is_left_of_what_streams() -> None:
    pen = scribe()
    for char in "a \x1b]0;pwned\x07b":
        pen.feed(TextDelta(text=char))
        assert not any("pwn" in line or "0;" in line for line in pen.tail(9))
    assert lines(pen, answer("a \x1b]0;pwned\x07b")) == ["  a b"]


def test_notices_of_our_own() -> None:
    pen = scribe(look=Look())
    assert pen.notice("look", "warn") == ["  \x1b[33mlook\x1b[0m"]
    assert pen.notice("a\x1b[2Jb") == ["  \x1b[2mab\x1b[0m"]
    assert pen.notice("") == []


def demo() -> list[Event]:
    adapter: TypeAdapter[DurableEvent] = TypeAdapter(DurableEvent)
    stored = Path(kimi_cli.demo.__file__).with_name("session.jsonl")
    return [adapter.validate_json(line) for line in stored.read_text("utf-8").splitlines()]


def live(events: list[Event], cuts: list[int]) -> list[Event]:
    """The events as they come while the session runs: answers in pieces first."""
    made: list[Event] = []
    for event in events:
        if isinstance(event, AssistantMessage):
            made.append(StepStarted(time=1.0))
            for part in event.parts:
                if isinstance(part, ThinkingPart):
                    made.append(ThinkingDelta(text=part.text, time=1.0 + event.thinking_seconds))
                if isinstance(part, TextPart):
                    edges = sorted({0, len(part.text), *(c % (len(part.text) + 1) for c in cuts)})
                    made += [TextDelta(text=part.text[a:b]) for a, b in pairwise(edges)]
        made.append(event)
    return made


words = st.sampled_from(
    [
        *("# H", "text `c` **b**", "", "", "- i", "  - n", "1. x", "```py", "x = 1", "```", "> q"),
        *("| a | b |", "|--|--|", "漢字。" * 30, "\x1b[2J\x9b\u202e", "<b>", "word " * 40, "~~~"),
    ]
)
bodies = st.lists(words, max_size=14).map("\n".join)
turns = st.lists(
    st.one_of(
        bodies.map(answer),
        st.tuples(bodies, bodies).map(lambda two: answer(*two)),
        bodies.map(lambda text: user(text + "x")),
        bodies.map(lambda text: result("shell", text, text, "error", display=text)),
        bodies.map(lambda text: result("grep", text, text, display=text)),
        bodies.map(lambda text: Notice(text=text)),
        st.just(result("edit", "a.py", files=[FileTouch(path="a", action="modified", diff=DIFF)])),
        st.sampled_from(StopReason).map(ended),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=60)
@given(turns, st.lists(st.integers(0, 500), max_size=8), st.integers(20, 120))
def test_a_stored_session_reads_as_it_did_live(
    events: list[Event], cuts: list[int], width: int
) -> None:
    written: list[str] = []
    seen, again = scribe(width, Look()), scribe(width, Look())
    for event in live(events, cuts):
        written += seen.feed(event)
        tail = seen.tail(7)
        assert len(tail) <= 7
        assert all(cell_len(SGR.sub("", line)) <= width for line in tail)
    assert written == [line for event in events for line in again.feed(event)]
    bare = [SGR.sub("", line) for line in written]
    assert all(cell_len(line) <= width and line == line.rstrip() for line in bare)
    assert not any(re.search("[\x00-\x1f\x7f-\x9f\u202a-\u202e]", line) for line in bare)
    assert not any(one == two == "" for one, two in pairwise(bare)), "no two empty lines"


@pytest.mark.parametrize("width", [20, 24, 40, 80, 300])
@pytest.mark.parametrize(
    "look", [Look(), Look("light"), Look("none"), Look("none", **PLAIN_GLYPHS)]
)
def test_the_demo_in_every_look_and_width(look: Look, width: int) -> None:
    pen = scribe(width, look)
    made = [line for event in demo() for line in pen.feed(event)]
    assert len(made) > 20
    assert all(cell_len(SGR.sub("", line)) <= width for line in made)
    if not look.colour:
        codes = {code for line in made for code in re.findall(r"\x1b\[([0-9;]*)m", line)}
        assert all(set(code.split(";")) <= set("0123479") for code in codes), "no colour"
    if look.dot == "-":
        assert all(line.isascii() for line in made)


def test_nothing_heavy_is_loaded_before_it_is_needed() -> None:
    import subprocess
    import sys

    code = (
        "import sys, kimi_cli.frontends.terminal.scribe\n"
        "heavy = 'pygments', 'markdown_it', 'rich', 'prompt_toolkit', 'wcwidth'\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
