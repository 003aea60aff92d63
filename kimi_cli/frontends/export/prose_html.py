"""Markdown of the model as HTML that can do nothing but be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

from kimi_cli.frontends.export.diff_html import diff
from kimi_cli.frontends.export.markup import Markup, tag
from kimi_cli.frontends.export.text import harmless

SCHEMES = ("http", "https", "mailto")


class Prose:
    """Renders CommonMark with tables and strikethrough. Raw HTML is text, an image is a link, links
    go to the web and to mail only; no attribute but a link's address comes from the text."""

    def __init__(self) -> None:
        self._parser = MarkdownIt("commonmark", {"html": False})
        self._parser.enable(["table", "strikethrough"]).disable("image")
        self._parser.validateLink = _allowed  # type: ignore[method-assign]
        self._parser.add_render_rule("fence", _code)
        self._parser.add_render_rule("code_block", _code)

    def __call__(self, text: str) -> Markup:
        environment: dict[str, Any] = {}
        tokens = self._parser.parse(harmless(text), environment)
        for token in tokens:
            _tamed(token)
        html = self._parser.renderer.render(tokens, self._parser.options, environment)
        return tag("div", {"class": "prose", "dir": "auto"}, Markup(html))


def _allowed(url: str) -> bool:
    try:
        return urlsplit(url).scheme.lower() in SCHEMES
    except ValueError:
        return False


def _tamed(token: Token) -> None:
    """Keep what has a meaning here: an address, the first number of a list, a column's side."""
    attributes = token.attrs
    token.attrs = {}
    if token.type == "link_open":
        token.attrs = {"href": attributes.get("href", ""), "rel": "noreferrer noopener"}
    elif token.type == "ordered_list_open" and "start" in attributes:
        token.attrs = {"start": attributes["start"]}
    elif "style" in attributes:
        token.attrs = {"class": "right" if "right" in str(attributes["style"]) else "left"}
    elif token.type in ("heading_open", "heading_close"):
        token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
    for child in token.children or ():
        _tamed(child)


def _code(_: Any, tokens: Sequence[Token], index: int, *__: Any) -> str:
    """A block of code; render rules get the renderer first."""
    token = tokens[index]
    if token.info.strip() == "diff":
        return diff(token.content)
    return tag("pre", {}, tag("code", {}, token.content)) + "\n"
