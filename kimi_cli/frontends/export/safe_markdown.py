"""Foreign text inside a Markdown document, so that it stays where it was put."""

from __future__ import annotations

import re
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from kimi_cli.frontends.export.text import harmless, one_line

_RUNS = re.compile(r"`+")
_SPECIAL = re.compile(r"[\\`*\[\]<>&~|]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
# Backslash escapes and code spans stay as they are.
_INLINE = re.compile(
    r"(?P<keep>\\[!-/:-@\[-`{-~]|(?<!`)(?P<run>`+)(?!`).+?(?<!`)(?P=run)(?!`))|(?P<bad><|!\[)",
    re.DOTALL,
)
_UNDERLINE = re.compile(r" {0,3}(=+|-+)[ \t]*")
_END = "End."
_REFUSED = frozenset({"html_block", "html_inline", "image"})


def literal(text: str) -> str:
    """One line of plain text, shown as it is."""
    line = _SPECIAL.sub(r"\\\g<0>", one_line(text))
    # Between two of them GitHub sets formulas.
    return line.replace("$", "\\$") if line.count("$") > 1 else line


def code(text: str) -> str:
    """A code span on one line; empty for no text."""
    line = one_line(text)
    if not line:
        return ""
    tick = "`" * (_longest(line) + 1)
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{tick}{pad}{line}{pad}{tick}"


def fenced(text: str, info: str = "text") -> str:
    """A fenced block that no line of the text can close."""
    body = harmless(text)
    fence = "`" * max(3, _longest(body) + 1)
    return f"{fence}{info}\n{body}{'' if body.endswith(chr(10)) else chr(10)}{fence}"


class Contained:
    """Markdown written by others, made a part of a document: it keeps its form, but nothing in it
    reaches beyond it: no raw HTML, no images, no open fence, no definitions. What can't be had
    that way is shown as code."""

    def __init__(self) -> None:
        self._parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])

    def prose(self, text: str) -> str:
        """Markdown of the model, its headings two levels down."""
        return self._made(harmless(text).strip("\n"), "")

    def quote(self, text: str) -> str:
        """The words of the user as a quotation that keeps their lines."""
        return self._made(harmless(text).strip("\n"), "> ")

    def _made(self, text: str, prefix: str) -> str:
        for candidate in (text, self._defused(text)):
            shaped = self._quoted(candidate) if prefix else self._demoted(self._closed(candidate))
            if self._sound(shaped):
                return shaped
        return fenced(text)

    def _sound(self, text: str) -> bool:
        environment: dict[str, Any] = {}
        tokens = self._parser.parse(f"{text}\n\n{_END}\n", environment)
        apart = len(tokens) >= 3 and tokens[-3].level == 0 and tokens[-2].content == _END
        inline = (child for token in tokens for child in token.children or ())
        refused = any(token.type in _REFUSED for token in (*tokens, *inline))
        return apart and not refused and not environment.get("references")

    def _closed(self, text: str) -> str:
        """A last fence that was left open (an answer cut short) gets its end."""
        tokens = self._parser.parse(text)
        if not tokens or tokens[-1].type != "fence" or self._sound(text):
            return text
        return f"{text}\n{tokens[-1].markup}"

    def _defused(self, text: str) -> str:
        """Without raw HTML and images: their first characters are written as text."""
        lines = text.split("\n")
        is_code = _code_lines(self._parser.parse(text))
        pieces: list[str] = []
        start = 0
        for index in range(len(lines) + 1):
            if index == len(lines) or index in is_code:
                run = "\n".join(lines[start:index])
                pieces += [_INLINE.sub(_spelt, run)] * (index > start)
                pieces += lines[index : index + 1]
                start = index + 1
        return "\n".join(pieces)

    def _demoted(self, text: str) -> str:
        lines = text.split("\n")
        for token in self._parser.parse(text):
            if token.type != "heading_open" or token.level or token.map is None:
                continue
            level = "#" * min(int(token.tag[1]) + 2, 6)
            first, after = token.map
            if token.markup.startswith("#"):
                lines[first] = level + lines[first].lstrip().lstrip("#")
            elif after - first == 2 and _UNDERLINE.fullmatch(lines[first + 1]):
                lines[first] = f"{level} {lines[first].strip()}"
                lines[first + 1] = ""
        return "\n".join(lines)

    def _quoted(self, text: str) -> str:
        lines = text.split("\n")
        is_code = _code_lines(self._parser.parse(text))
        # Two blanks at the end keep a line's end.
        broken = [
            line if index in is_code or not line.strip() else f"{line.rstrip()}  "
            for index, line in enumerate(lines)
        ]
        return "\n".join(
            f"> {line}".rstrip() if not line.strip() else f"> {line}" for line in broken
        )


def _code_lines(tokens: list[Token]) -> set[int]:
    blocks = (token.map for token in tokens if token.type in ("fence", "code_block") and token.map)
    return {line for first, after in blocks for line in range(first, after)}


def _spelt(found: re.Match[str]) -> str:
    return found["keep"] or {"<": "&lt;", "![": "!\\["}[found["bad"]]


def _longest(text: str) -> int:
    return max((len(run) for run in _RUNS.findall(text)), default=0)
