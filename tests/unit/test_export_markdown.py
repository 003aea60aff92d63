"""The Markdown of a session reads well, and nothing in the session can reach out of its place."""

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from markdown_it import MarkdownIt

import kimi_cli.demo
from kimi_cli.frontends.export import export
from kimi_cli.frontends.export.safe_markdown import Contained, code, fenced
from kimi_cli.protocol.events import (
    Compaction,
    DurableEvent,
    Kept,
    QuestionAnswered,
    QuestionAsked,
    Rewind,
    Title,
    ToolResult,
    ToolStarted,
    TurnEnded,
    TurnStarted,
)
from kimi_cli.protocol.messages import TextPart
from kimi_cli.protocol.stops import StopReason
from kimi_cli.store.events_file import read_events
from tests.unit.export_sessions import (
    HOSTILE,
    USAGE,
    answer,
    call,
    everywhere,
    hostile,
    numbered,
    result,
    started,
    user,
)

DEMO = Path(str(kimi_cli.demo.__file__)).parent / "session.jsonl"
PARSER = MarkdownIt("commonmark").enable(["table", "strikethrough"])
OURS = re.compile(r"<details>\n<summary>[^<>]*</summary>\n|</details>\n")
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def exported(events: list[DurableEvent], title: str = "") -> str:
    return export(numbered(events), "md", title=title, session="7f3a")


def test_the_demo_session() -> None:
    text = export(read_events(DEMO).events, "md", title="", session="7f3a")
    assert text.startswith("# The test of the cart fails. Find out why and fix it.\n\nkimi-k2.5 · ")
    meta = "1 turn · 5 steps · 11.5k tokens, 78 % cached · $0.003 · session 7f3a\n"
    assert meta in text
    assert "\n> The test of the cart fails. Find out why and fix it.  \n" in text
    assert "<summary>✻ thought for 0.5 s</summary>\n\nA test fails. First I want to see" in text
    assert "● **shell** `python -m unittest` · exit status 1, 0.1 s\n" in text
    assert "\n```diff\n--- a/cart.py\n+++ b/cart.py\n@@ -24,6 +24,6 @@\n" in text
    assert "edits[0].old" in text
    end = "*1 file +1 −1 · 5 steps · 11.5k tokens, 78 % cached · $0.003 · 0.8 s*\n"
    assert text.endswith(end)


def structure(text: str) -> list[str]:
    """The blocks at the top level of a document, its own words among them."""
    found = []
    for token in PARSER.parse(text):
        if token.level == 0 and token.nesting >= 0:
            html = token.type == "html_block"
            found.append(token.content if html else token.type)
    return found


@settings(max_examples=150, deadline=None)
@given(text=hostile, spoken=hostile)
def test_nothing_reaches_out_of_its_place(text: str, spoken: str) -> None:
    document = export(everywhere(text, spoken), "md", title=text, session=text)
    assert not CONTROLS.search(document)
    environment: dict[str, object] = {}
    tokens = PARSER.parse(document, environment)
    assert not environment.get("references")
    folds = [token for token in tokens if token.type == "html_block"]
    assert all(OURS.fullmatch(token.content) and token.level == 0 for token in folds)
    opened = ["<details>" in token.content for token in folds]
    assert opened == [True, False] * (len(folds) // 2)
    inline = [child for token in tokens for child in token.children or ()]
    assert not {"html_inline", "image"} & {child.type for child in inline}
    headings = [
        after.content
        for token, after in pairwise(tokens)
        if token.type == "heading_open" and token.tag == "h2" and token.level == 0
    ]
    assert [heading[:6] for heading in headings] == ["Turn 1", "Turn 2", "Turn 3"]
    assert tokens[-2].content.endswith("or it still ran*")


@pytest.mark.parametrize("text", HOSTILE)
def test_what_contains_text_is_closed(text: str) -> None:
    assert structure(fenced(text)) == ["fence"]
    contained = Contained()
    for kept in (contained.prose(text), contained.quote(text)):
        assert structure(f"{kept}\n\nEnd.")[-1] == "paragraph_open"


def test_prose_stays_as_it_was_written() -> None:
    plain = "Use `Vec<T>` and **bold**:\n\n```html\n<b>\n```\n\n- a\n- b"
    assert Contained().prose(plain) == plain


def test_html_in_prose_becomes_text_but_not_in_code() -> None:
    text = "A Vec<T> and `Vec<T>`, ![x](y)\n\n```\n<b>\n```"
    expected = "A Vec&lt;T> and `Vec<T>`, !\\[x](y)\n\n```\n<b>\n```"
    assert Contained().prose(text) == expected


def test_a_fence_cut_short_is_closed() -> None:
    assert Contained().prose("So:\n\n~~~py\nx = 1") == "So:\n\n~~~py\nx = 1\n~~~"


def test_headings_go_below_the_turns() -> None:
    assert Contained().prose("# A\n\nB\n---\n\n##### C") == "### A\n\n#### B\n\n\n###### C"


def test_the_users_lines_stay_lines() -> None:
    assert Contained().quote("one\ntwo\n\n    code") == "> one  \n> two  \n>\n>     code"


def test_code_spans_hold_backticks() -> None:
    assert code("a `b` ``c``") == "``` a `b` ``c`` ```"


def test_calls_tell_how_they_ended() -> None:
    asked = QuestionAsked(
        question_id="q1",
        call_id="functions.shell:2",
        tool="shell",
        text="shell rm -rf x",
        reason="outside the workspace",
        choices=["once", "no"],
    )
    text = exported(
        [
            started(),
            TurnStarted(),
            user("go"),
            answer(call(0), call(1), call(2, '{"command": "l')),
            ToolStarted(call_id="functions.shell:0", name="shell", summary="ls"),
            asked,
            QuestionAnswered(question_id="q1", answer="no", comment="keep it"),
            ToolResult(call_id="functions.shell:2", name="shell", status="denied", parts=[]),
            result(9, TextPart(text="of no call")),
            answer(TextPart(text="I will"), call(3), partial=True),
        ]
    )
    assert "● **shell** `ls` · no result: it is unknown whether it ran\n" in text
    assert "● **shell** · never run\n" in text
    assert "● **shell** · denied\n" in text
    assert 'malformed arguments: `{"command": "l`' in text
    assert "**!** asked: shell rm -rf x · outside the workspace · answer: no · keep it\n" in text
    assert "of no call" in text
    assert "● **shell** · not run: the answer was interrupted\n" in text
    assert "**!** *the answer was interrupted here*\n" in text
    assert text.endswith("**!** *no end is recorded: the program was killed, or it still ran*\n")


def test_a_compaction_stands_where_it_happened() -> None:
    kept = Kept(user_messages=4, todos=3, files_changed=1, recent_steps=2, dropped_steps=41)
    text = exported(
        [
            started(),
            user("first words"),
            Compaction(
                upto=2, note="I fixed **it**.", kept=kept, tokens_before=9100, tokens_after=900
            ),
            user("second words"),
        ]
    )
    marker = "*context compacted: the window was nearly full · 9.1k → 900 tokens*"
    facts = "*kept 4 user messages, 3 todos, 1 changed file, 2 newest steps · dropped 41 steps*"
    order = ["> first words", marker, facts, "I fixed **it**.", "> second words"]
    places = [text.index(piece) for piece in order]
    assert places == sorted(places)


def test_turns_that_failed_were_taken_back_or_have_no_end() -> None:
    ended = TurnEnded(
        reason=StopReason.COST_LIMIT, detail="$1 is spent", usage=USAGE, cost=1.0, currency="USD"
    )
    text = exported(
        [
            started(),
            TurnStarted(),
            user("one"),
            ended,
            TurnStarted(),
            user("two"),
            answer(TextPart(text="wrong")),
            Rewind(to=4),
            TurnStarted(),
            user("three"),
        ]
    )
    assert "**!** **the cost limit was reached**: $1 is spent\n" in text
    second, third = text.split("## Turn ")[2:]
    assert "*taken back later*" in second
    assert "*taken back later*" not in third


def test_titles() -> None:
    events: list[DurableEvent] = [started(), user("first words"), Title(text="An own title")]
    assert exported(events, "Given").startswith("# Given\n")
    assert exported(events).startswith("# An own title\n")
    assert exported(events[:2]).startswith("# first words\n")
    assert exported(events[:1]).startswith("# 7f3a\n")


def test_fields_of_later_versions_do_no_harm() -> None:
    later = user("hello").model_copy(update={"mood": {"of": "the user"}})
    assert "> hello" in exported([started(), later])
