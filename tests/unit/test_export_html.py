"""The page of a session holds all of it, and nothing of it is anything but text."""

import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from hypothesis import given, settings

import kimi_cli.demo
from kimi_cli.frontends.export import export
from kimi_cli.frontends.export.diff_html import diff
from kimi_cli.frontends.export.page_script import SCRIPT
from kimi_cli.frontends.export.page_style import STYLE
from kimi_cli.frontends.export.prose_html import Prose
from kimi_cli.protocol.events import Compaction, DurableEvent, ToolResult, TurnStarted
from kimi_cli.protocol.messages import MediaPart, TextPart, ThinkingPart
from kimi_cli.store.events_file import read_events
from tests.unit.export_sessions import (
    PIXEL,
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
VOID = {"meta", "img", "input", "hr", "br"}
PAGE = "html head meta title style body header div a form input output button label main section h1"
PAGE += " p nav table tbody tr td span details summary pre dl dt dd h2 time code b img script"
PROSE = "thead th h3 h4 h5 h6 ul ol li blockquote em strong s hr br"
# What the value of an attribute may be; those of data: and the web are all that come from outside.
ATTRIBUTES = {
    "href": r"#top|#[tc]\d+|(?:https?:|mailto:).*",
    "rel": "noreferrer noopener",
    "start": r"\d+",
    "src": re.escape(PIXEL),
    "id": r"find|top|[tc]\d+",
    "class": r"[a-z ]+",
    "data-n": r"\d+",
    "alt": ".*",
    "loading": "lazy",
    "decoding": "async",
    "dir": "auto",
    "aria-hidden": "true",
    "aria-label": "turns|compactions|(?:previous|next) compaction|Search this session",
    "aria-live": "polite",
    "role": "search",
    "lang": "en",
    "charset": "utf-8",
    "http-equiv": "Content-Security-Policy",
    "content": ".*",
    "name": "viewport|color-scheme|referrer|q|found|back|next|only|hide|folds",
    "type": "search|button|checkbox",
    "title": "previous .*|next .*|hide what .*",
    "placeholder": "Search  /",
    "autocomplete": "off",
    "spellcheck": "false",
    "hidden": "",
    "checked": "",
}
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Page(HTMLParser):
    """What a page consists of: ``elements`` in order, and the text within each kind of them."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.within: dict[str, str] = {}
        self.open: list[str] = []
        self.strays: list[str] = []
        self.feed(document)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.strays.append(tag)

    def handle_data(self, data: str) -> None:
        for tag in set(self.open):
            self.within[tag] = self.within.get(tag, "") + data

    def handle_comment(self, data: str) -> None:
        self.strays.append(data)

    def handle_pi(self, data: str) -> None:
        self.strays.append(data)

    def unknown_decl(self, data: str) -> None:
        self.strays.append(data)


def exported(events: list[DurableEvent]) -> str:
    return export(numbered(events), "html", title="", session="7f3a")


@settings(max_examples=120, deadline=None)
@given(text=hostile, spoken=hostile)
def test_nothing_of_a_session_is_anything_but_text(text: str, spoken: str) -> None:
    document = export(everywhere(text, spoken), "html", title=text, session=text)
    assert not CONTROLS.search(document)
    page = Page(document)
    assert (page.open, page.strays) == ([], [])
    assert {tag for tag, _ in page.elements} <= {*PAGE.split(), *PROSE.split()}
    for _, attributes in page.elements:
        for name, value in attributes.items():
            assert re.fullmatch(ATTRIBUTES[name], value, re.DOTALL), (name, value)
    assert (page.within["script"], page.within["style"]) == (SCRIPT, STYLE)


@settings(max_examples=80, deadline=None)
@given(text=hostile)
def test_plain_text_changes_no_structure(text: str) -> None:
    """Where no Markdown is read, hostile text makes the page that any other word makes."""
    plain = "x" + " ".join(text.split())[:60]
    pages = [
        Page(export(everywhere(word, "spoken"), "html", title=word, session=word))
        for word in (plain, "word")
    ]
    # A text that starts like an object is shown as arguments by name.
    tags = [[tag for tag, _ in page.elements] for page in pages]
    assert tags[0] == tags[1]


def compacted(**more: Any) -> Compaction:
    return Compaction(upto=2, note="a note", tokens_before=9_000, tokens_after=2_000, **more)


def test_compactions_are_linked_to_from_the_top_and_from_each_other() -> None:
    document = exported(
        [
            started(),
            compacted(focus="<b>"),
            *(TurnStarted(), user("one"), answer(TextPart(text="1")), compacted(), compacted()),
        ]
    )
    page = Page(document)
    identities = [attributes.get("id", "") for _, attributes in page.elements]
    assert [name for name in identities if name.startswith("c")] == ["c1", "c2", "c3"]
    links = [(a.get("href"), a.get("aria-label")) for _, a in page.elements if "href" in a]
    before, after = "previous compaction", "next compaction"
    assert [link for link in links if str(link[0]).startswith("#c")] == [
        *(("#c1", None), ("#c2", None), ("#c3", None)),
        *(("#c2", after), ("#c1", before), ("#c3", after), ("#c2", before)),
    ]
    assert page.within["nav"].count("context compacted: ") == 3
    assert page.within["nav"].split("\n")[1].endswith("9.0k → 2.0k tokensturn 1")
    assert "focus: &lt;b&gt;" in document


def test_thinking_can_be_hidden_by_a_switch_that_has_its_words() -> None:
    document = exported([started(), TurnStarted(), user("x"), answer(ThinkingPart(text="hm"))])
    page = Page(document)
    switch = {"name": "hide", "type": "checkbox", "autocomplete": "off"}
    assert ("input", switch) in page.elements
    assert "hide thinking" in page.within["label"]
    assert ".quiet .thought { display: none; }" in page.within["style"].replace(".out, ", "")


def test_the_demo_session() -> None:
    document = export(read_events(DEMO).events, "html", title="", session="7f3a")
    page = Page(document)
    assert page.within["h1"] == "The test of the cart fails. Find out why and fix it."
    assert "kimi-k2.5" in page.within["p"]
    assert "1 file +1 −1 · 5 steps · 11.5k tokens, 78 % cached · $0.003 · 0.8 s" in document
    assert "thought for 0.5 s" in page.within["summary"]
    assert "FAILED (failures=1)" in page.within["pre"]
    assert '<span class="l add" data-n="27">+        for _ in set(self.coupons):' in document
    assert "nav" not in page.within


def test_the_policy_allows_the_page_and_nothing_else() -> None:
    page = Page(exported([started(), user("hi")]))
    policy = next(a["content"] for _, a in page.elements if a.get("http-equiv"))
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        digest = b64encode(sha256(page.within[tag].encode()).digest()).decode()
        assert rules.pop(kind) == f"'sha256-{digest}'"
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "media-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_folded_and_open() -> None:
    rows = "\n".join(f"row {number}" for number in range(30))
    failed = ToolResult(
        call_id="functions.shell:1", name="shell", status="error", parts=[TextPart(text=rows)]
    )
    document = exported(
        [
            started(),
            TurnStarted(),
            user("go"),
            answer(call(0), call(1)),
            result(0, TextPart(text=rows)),
            failed,
        ]
    )
    worked, wrong = re.findall(r'<div class="b call.*?</div>\n', document, re.DOTALL)
    assert "30 lines</span></summary>" in worked
    assert worked.index("row 29") < worked.index("</details>")
    assert "22 lines</span></summary>" in wrong
    assert wrong.index("row 21") < wrong.index("</details>") < wrong.index("row 22")


def test_several_turns_get_a_table() -> None:
    turns: list[DurableEvent] = [TurnStarted(), user("words 1"), TurnStarted(), user("words 2")]
    page = Page(exported([started(), *turns]))
    assert "words 1" in page.within["nav"]
    ids = {attributes.get("id") for _, attributes in page.elements}
    targets = {attributes.get("href", "#")[1:] for tag, attributes in page.elements if tag == "a"}
    assert {"t1", "t2"} <= targets <= ids


def test_only_pictures_within_the_file_are_shown() -> None:
    svg = "data:image/svg+xml;base64,AAAA"
    away = ["http://127.0.0.1/x.png", "ms://f1", svg, 'data:image/png;base64,AA" onload=x']
    media = [MediaPart(kind="image", url=url, name=f"n{url[:9]}") for url in (PIXEL, *away)]
    page = Page(exported([started(), user("look", *media)]))
    sources = [attributes["src"] for _, attributes in page.elements if "src" in attributes]
    assert sources == [PIXEL]
    assert page.within["p"].count("image that is not in this file") == len(away)


def test_prose() -> None:
    prose = Prose()
    assert "<strong>b</strong> &lt;i&gt; <code>&lt;c&gt;</code>" in prose("**b** <i> `<c>`")
    web = '<a href="https://e.org/?a=1&amp;b=2" rel="noreferrer noopener">x</a>'
    assert web in prose("[x](https://e.org/?a=1&b=2 'title')")
    for link in ("javascript:alert(1)", "data:text/html,x", "//e.org", "a/b.py", "file:///x"):
        assert "href" not in prose(f"[x]({link})")
    assert "<img" not in prose("![x](https://e.org/x.png)")
    assert '<td class="right">1</td>' in prose("| a |\n|--:|\n| 1 |")
    assert "<code>&lt;b&gt;\n</code>" in prose('```html" onclick="x\n<b>\n```')


def test_lines_of_a_diff_keep_their_signs_and_numbers() -> None:
    text = "--- a/x\n+++ b/x\n@@ -9,3 +9,3 @@ def f():\n a\n--- b\n+++ c\n d\n"
    rows = re.findall(r'<span class="(.*?)"(?: data-n="(\d+)")?>(.*?)\n</span>', diff(text))
    assert rows == [
        ("l at", "", "@@ -9,3 +9,3 @@ def f():"),
        ("l", "9", " a"),
        ("l del", "10", "--- b"),
        ("l add", "10", "+++ c"),
        ("l", "11", " d"),
    ]
