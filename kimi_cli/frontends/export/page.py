"""A session as one page that holds all it needs, and that needs nothing else."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from kimi_cli.frontends.export import words
from kimi_cli.frontends.export.blocks_html import Blocks, folded
from kimi_cli.frontends.export.markup import Markup, lines, put, tag
from kimi_cli.frontends.export.outline import Block, Compacted, Outline, Turn
from kimi_cli.frontends.export.page_script import SCRIPT
from kimi_cli.frontends.export.page_style import STYLE
from kimi_cli.frontends.export.reader import outline
from kimi_cli.frontends.export.text import count, harmless, one_line
from kimi_cli.frontends.plain import money, tokens
from kimi_cli.protocol.events import DurableEvent


def page(events: Sequence[DurableEvent], *, title: str, session: str) -> str:
    """One HTML document. Its policy lets the browser load nothing, and run only the page's own
    script, which searches and folds; everything can be read without it."""
    out = outline(events, title=title, session=session)
    compactions = _compactions(out)
    blocks = Blocks([block for _, block in compactions])
    head = tag(
        "head",
        {},
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"http-equiv": "Content-Security-Policy", "content": _policy()}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("meta", {"name": "color-scheme", "content": "light dark"}),
        tag("meta", {"name": "referrer", "content": "no-referrer"}),
        tag("title", {}, out.title),
        tag("style", {}, Markup(STYLE)),
    )
    body = tag(
        "body",
        {},
        _bar(out),
        tag(
            "main",
            {},
            _opening(out, blocks, compactions),
            *(_turn(turn, blocks) for turn in out.turns),
        ),
        tag("script", {}, Markup(SCRIPT)),
    )
    return f"<!doctype html>\n{tag('html', {'lang': 'en'}, head, body)}\n"


def _policy() -> str:
    return (
        f"default-src 'none'; style-src {_digest(STYLE)}; script-src {_digest(SCRIPT)}; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


def _bar(out: Outline) -> Markup:
    search = tag(
        "form",
        {"id": "find", "hidden": True, "role": "search"},
        tag(
            "input",
            {
                "name": "q",
                "type": "search",
                "placeholder": "Search  /",
                "aria-label": "Search this session",
                "autocomplete": "off",
                "spellcheck": "false",
            },
        ),
        tag("output", {"name": "found", "aria-live": "polite"}),
        tag(
            "button", {"name": "back", "type": "button", "title": "previous (shift-enter, N)"}, "↑"
        ),
        tag("button", {"name": "next", "type": "button", "title": "next (enter, n)"}, "↓"),
        tag(
            "label",
            {"title": "hide what does not match"},
            tag("input", {"name": "only", "type": "checkbox", "checked": True}),
            "matches only",
        ),
        tag(
            "label",
            {"title": "hide what the model thought (t)"},
            tag("input", {"name": "hide", "type": "checkbox", "autocomplete": "off"}),
            "hide thinking",
        ),
        _button("folds", "unfold all", ""),
    )
    top = tag("a", {"class": "name", "href": "#top"}, out.title)
    return tag("header", {}, tag("div", {"class": "bar"}, top, search))


def _button(name: str, label: str, title: str) -> Markup:
    return tag("button", {"name": name, "type": "button", "title": title}, label)


def _compactions(out: Outline) -> list[tuple[str, Compacted]]:
    """Each with the place where it stands."""
    places: list[tuple[str, Sequence[Block]]] = [("", out.before)]
    places += [(f"turn {turn.number}", turn.blocks) for turn in out.turns]
    return [(place, b) for place, some in places for b in some if isinstance(b, Compacted)]


def _opening(out: Outline, blocks: Blocks, compactions: Sequence[tuple[str, Compacted]]) -> Markup:
    facts = [tag("p", {"class": "meta"}, line) for line in words.meta(out)]
    given = []
    if out.start and out.start.system_prompt:
        given.append(
            tag("div", {"class": "b info"}, folded("system prompt", out.start.system_prompt))
        )
    if out.tools:
        given.append(tag("div", {"class": "b info"}, _tools(out.tools)))
    return tag(
        "section",
        {"id": "top"},
        tag("h1", {"dir": "auto"}, out.title),
        lines(facts),
        _turns(out) if len(out.turns) > 1 else "",
        _jumps(compactions) if compactions else "",
        lines([*given, *(blocks.render(block) for block in out.before)]),
    )


def _tools(tools: Sequence[dict[str, Any]]) -> Markup:
    rows = []
    for tool in tools:
        rows.append(tag("dt", {}, one_line(str(tool.get("name", "")), 80)))
        rows.append(tag("dd", {}, one_line(str(tool.get("description", "")))))
    size = tag("span", {"class": "size"}, str(len(tools)))
    return tag("details", {}, tag("summary", {}, "tools", size), tag("dl", {"class": "in"}, *rows))


def _turns(out: Outline) -> Markup:
    currency = harmless(out.currency or "")
    rows = [
        tag(
            "tr",
            {"class": "gone"} if turn.gone else {},
            tag("td", {"class": "right"}, str(turn.number)),
            tag(
                "td",
                {"class": "request"},
                tag("a", {"href": f"#t{turn.number}", "dir": "auto"}, turn.request or "(no words)"),
                tag("span", {"class": "label"}, words.outcome(turn)),
            ),
            tag("td", {"class": "right"}, count(turn.steps, "step")),
            tag("td", {"class": "right wide"}, tokens(turn.usage.total_tokens)),
            tag("td", {"class": "right"}, money(turn.cost, currency)),
            tag("td", {"class": "right wide"}, words.duration(turn.end.seconds if turn.end else 0)),
        )
        for turn in out.turns
    ]
    return tag("nav", {"aria-label": "turns"}, tag("table", {}, tag("tbody", {}, lines(rows))))


def _jumps(compactions: Sequence[tuple[str, Compacted]]) -> Markup:
    rows = [
        tag(
            "tr",
            {"class": "gone"} if block.gone else {},
            tag("td", {"class": "request"}, tag("a", {"href": f"#c{number}"}, line)),
            tag("td", {"class": "right"}, place),
        )
        for number, (place, block) in enumerate(compactions, 1)
        for line in words.compaction(block)[:1]
    ]
    table = tag("table", {}, tag("tbody", {}, lines(rows)))
    return tag("nav", {"aria-label": "compactions"}, table)


def _turn(turn: Turn, blocks: Blocks) -> Markup:
    name = f"t{turn.number}"
    heading = tag(
        "h2",
        {},
        tag("a", {"href": f"#{name}"}, f"Turn {turn.number}"),
        tag("time", {}, words.day_and_minute(turn.begun)),
        tag("span", {}, words.GONE) if turn.gone else "",
    )
    rendered = []
    gone = turn.gone
    for block in turn.blocks:
        if block.gone and not gone:
            rendered.append(tag("p", {"class": "b label"}, f"{words.GONE}:"))
        gone = block.gone
        rendered.append(blocks.render(block))
    if turn.end is None:
        mark = tag("span", {"class": "g", "aria-hidden": "true"}, "!")
        rendered.append(tag("div", {"class": "b stop"}, mark, tag("p", {}, words.NO_END)))
    return put("\n", tag("section", {"id": name, "class": "turn"}, heading, lines(rendered)))
