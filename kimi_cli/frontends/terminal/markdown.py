"""Finished Markdown blocks as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kimi_cli.frontends.terminal.code_block import Highlighter, language_of
from kimi_cli.frontends.terminal.markdown_stream import Block
from kimi_cli.frontends.terminal.paint import cells, harmless, wrap

if TYPE_CHECKING:
    from markdown_it.tree import SyntaxTreeNode
    from rich.text import Text

    from kimi_cli.frontends.terminal.look import Look

PROSE = 100
"""Columns beyond which prose is hard to read."""
NARROW = 8
"""Columns below which nothing is indented any further."""


class MarkdownLines:
    """Renders blocks; what belongs to a place (links by reference, HTML) is shown as it is written.
    Line breaks stay as they are."""

    def __init__(self, look: Look) -> None:
        self._look = look
        self._code = Highlighter(look)
        self._parser: Any = None
        self._utf8 = look.dot == "·"
        self._source: list[str] = []
        self._known: list[Text] = []

    def lines(self, block: Block, width: int, *, passing: bool = False) -> list[Text]:
        """The lines of a block, at most ``width`` columns each. ``passing``: it is only looked at
        on its way, the next block does not follow it."""
        if block.code:
            known = self._known if block.shown == len(self._known) else []
            code = self._code.lines(block.code, language_of(block.info), known)
            if not passing:
                self._known = code
            return self._code_lines(code[block.shown :], width)
        self._source = block.source.split("\n")
        tree = self._parse(block.source)
        lines = self._children(tree.children, width - block.indent, block.number)
        return _indented(lines, " " * block.indent)

    def _parse(self, source: str) -> SyntaxTreeNode:
        from markdown_it import MarkdownIt
        from markdown_it.tree import SyntaxTreeNode

        if self._parser is None:
            parser = MarkdownIt("commonmark", {"breaks": True, "html": False})
            parser.enable(["table", "strikethrough"])
            parser.disable(["reference", "html_block", "html_inline"])
            self._parser = parser
        return SyntaxTreeNode(self._parser.parse(source))

    def _children(
        self, nodes: Sequence[SyntaxTreeNode], width: int, number: int | None = None
    ) -> list[Text]:
        from rich.text import Text

        lines: list[Text] = []
        for node in nodes:
            if lines and self._gap_before(node):
                lines.append(Text())
            lines += self._node(node, width, number)
        return lines

    def _gap_before(self, node: SyntaxTreeNode) -> bool:
        first = node.map[0] if node.map else 0
        return first > 0 and not self._source[first - 1].strip(" >")

    def _node(self, node: SyntaxTreeNode, width: int, number: int | None) -> list[Text]:
        from rich.text import Text

        match node.type:
            case "paragraph":
                return wrap(self._inline(node), min(width, PROSE))
            case "heading":
                text = self._inline(node)
                text.stylize("bold underline" if node.tag == "h1" else "bold")
                return wrap(text, min(width, PROSE))
            case "fence" | "code_block":
                code = harmless(node.content).removesuffix("\n").split("\n")
                return self._code_lines(self._code.lines(code, language_of(node.info)), width)
            case "bullet_list" | "ordered_list":
                return self._list(node, width, number)
            case "blockquote":
                bar = Text().append("│ " if self._utf8 else "| ", "dim")
                return _indented(self._children(node.children, _inner(width, 2)), bar)
            case "table":
                return self._table(node, width)
            case "hr":
                return [Text(self._look.rule * min(width, 40), "dim")]
            case _:
                return wrap(Text(harmless(node.content)), width)

    def _code_lines(self, code: Sequence[Text], width: int) -> list[Text]:
        indent = "  " if width > NARROW else ""
        return _indented([p for line in code for p in wrap(line, width - len(indent))], indent)

    def _list(self, node: SyntaxTreeNode, width: int, number: int | None) -> list[Text]:
        from rich.text import Text

        lines: list[Text] = []
        last = (number - 1) if number is not None else None
        for item in node.children:
            marker = "• " if self._utf8 else "- "
            if node.type == "ordered_list":
                said = int(item.info) if item.info.isdigit() else 1
                if number is not None and not lines:
                    said = number
                last = said if last is None or said > last else last + 1
                marker = f"{last}{item.markup} "
            if lines and self._gap_before(item):
                lines.append(Text())
            inside = self._children(item.children, _inner(width, len(marker))) or [Text()]
            if width - len(marker) < NARROW:
                inside = self._children(item.children, width) or [Text()]
                lines += wrap(Text(marker).append_text(inside[0]), width) + inside[1:]
                continue
            lines.append(Text(marker).append_text(inside[0]))
            lines += _indented(inside[1:], " " * len(marker))
        return lines

    def _inline(self, node: SyntaxTreeNode) -> Text:
        from rich.text import Text

        text = Text()
        for child in node.children:
            if child.type == "inline":
                for part in child.children:
                    self._span(text, part, ())
        return text

    def _span(self, text: Text, node: SyntaxTreeNode, styles: tuple[str, ...]) -> None:
        style = " ".join(styles)
        match node.type:
            case "softbreak" | "hardbreak":
                text.append("\n")
            case "code_inline":
                tick = "" if self._look.colour else "`"
                code = harmless(node.content).replace("\n", " ")
                text.append(f"{tick}{code}{tick}", f"{style} {self._look.accent}".strip())
            case "strong" | "em" | "s":
                now = {"strong": "bold", "em": "italic", "s": "strike"}[node.type]
                for child in node.children:
                    self._span(text, child, (*styles, now))
            case "link" | "image":
                before = len(text)
                for child in node.children:
                    self._span(text, child, styles)
                target = harmless(str(node.attrs.get("href" if node.type == "link" else "src", "")))
                shown = text.plain[before:]
                if target.removeprefix("mailto:") not in (shown, f"http://{shown}"):
                    text.append(f" ({target})" if shown else target, "dim")
            case _:
                text.append(harmless(node.content).replace("\n", " "), style)

    def _table(self, node: SyntaxTreeNode, width: int) -> list[Text]:
        rows = [
            [self._inline(cell) for cell in row.children]
            for part in node.children
            for row in part.children
        ]
        sides = [
            str(cell.attrs.get("style", "")).removeprefix("text-align:")
            for cell in node.children[0].children[0].children
        ]
        head, body = rows[0], rows[1:]
        widths = _columns(rows, width)
        if widths is None:
            return self._records(head, body, width)
        from rich.text import Text

        for cell in head:
            cell.stylize("bold")
        lines = _row(head, widths, sides)
        lines.append(Text("  ".join(self._look.rule * size for size in widths), "dim"))
        for row in body:
            lines += _row(row, widths, sides)
        return lines

    def _records(self, head: list[Text], body: list[list[Text]], width: int) -> list[Text]:
        """A table too wide for the terminal: each row as lines of ``head: cell``."""
        from rich.text import Text

        lines: list[Text] = []
        for row in body or [[Text() for _ in head]]:
            if lines:
                lines.append(Text())
            for name, cell in zip(head, row, strict=False):
                label = name.copy()
                label.stylize("bold")
                lines += wrap(label.append(": ").append_text(cell), width)
        return lines


def _inner(width: int, indent: int) -> int:
    return max(width - indent, 1)


def _indented(lines: list[Text], indent: str | Text) -> list[Text]:
    from rich.text import Text

    if not indent:
        return lines
    made = []
    for line in lines:
        start = Text(indent) if isinstance(indent, str) else indent.copy()
        made.append(start.append_text(line))
    return made


def _columns(rows: list[list[Text]], width: int) -> list[int] | None:
    """The widths of a table's columns, the widest made smaller until all fit; None when they would
    be too narrow to read."""
    count = max(len(row) for row in rows)
    widths = [
        max((cells(row[at].plain) for row in rows if at < len(row)), default=0)
        for at in range(count)
    ]
    widths = [max(size, 1) for size in widths]
    room = width - 2 * (count - 1)
    over = sum(widths) - room
    while over > 0:
        widest = max(range(count), key=widths.__getitem__)
        if widths[widest] <= NARROW:
            return None
        widths[widest] -= 1
        over -= 1
    return widths


def _row(row: list[Text], widths: list[int], sides: list[str]) -> list[Text]:
    from rich.text import Text

    parts = [wrap(cell, size) for cell, size in zip(row, widths, strict=False)]
    lines = []
    for at in range(max((len(part) for part in parts), default=0)):
        line = Text()
        for part, size, side in zip(parts, widths, sides, strict=False):
            piece = part[at] if at < len(part) else Text()
            free = size - cells(piece.plain)
            before = {"right": free, "center": free // 2}.get(side, 0)
            line.append(" " * before).append_text(piece).append(" " * (free - before + 2))
        line.rstrip()
        lines.append(line)
    return lines
