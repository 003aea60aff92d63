"""The syntax tree of a command, walked: every program in it, and a second look at the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

from kimi_cli.safety.shell_heredoc import check_expansions, read_heredoc
from kimi_cli.safety.shell_parts import Part
from kimi_cli.safety.shell_scan import Scan
from kimi_cli.safety.shell_words import Hole, Mismatch, Word, read_word

if TYPE_CHECKING:
    from tree_sitter import Node

MOST_PARTS = 500

_HOLES = frozenset(
    {
        *("command_substitution", "process_substitution", "expansion", "simple_expansion"),
        "arithmetic_expansion",
    }
)
_SIMPLE = frozenset(
    {
        *("command", "declaration_command", "unset_command"),
        *("variable_assignment", "variable_assignments"),
    }
)
_COMPOUND = frozenset(
    {
        *("program", "list", "pipeline", "subshell", "compound_statement", "negated_command"),
        *("if_statement", "elif_clause", "else_clause", "while_statement", "do_group"),
        *("for_statement", "c_style_for_statement", "case_statement", "case_item"),
        "function_definition",
    }
)
_BLANK = re.compile(r"(?:[ \t\n]|\\\n)*")
_INDEX = re.compile(r"\[([^\]]*)\]?.*?=")
_LIVE = re.compile(r"`|\$[({]|[<>]\(")
_PLAIN_EXPANSION = re.compile(
    r"""\$\{ (?: \#?(?:\w+|[@*#?$!-]) | \w+ \[[@*\d]+\] | \#\w+\[[@*]\]
      | (?:\w+|[@*]) (?: :?[-+?=] | \#\#? | %%? | //?[\#%]? | \^\^? | ,,? ) (?s:.*) ) \}""",
    re.VERBOSE,
)
_ASSIGNING = re.compile(r"\$\{(\w+):?=")
_ARITHMETIC_TESTS = frozenset({"-eq", "-ne", "-lt", "-le", "-gt", "-ge", "-v"})


class Walk:
    """Collects the parts of one syntax tree.

    ``wrap`` gets a part and the index it will have, and returns it followed by the parts it wraps.
    The methods raise Mismatch where the tree and bash disagree.
    """

    def __init__(self, text: str, source: bytes, wrap: Callable[[Part, int], list[Part]]) -> None:
        self.parts: list[Part] = []
        self._text = text
        self._wrap = wrap
        self._offsets: list[int] | None = None
        if len(text) != len(source):
            self._offsets = [i for i, char in enumerate(text) for _ in char.encode()]
            self._offsets.append(len(text))
        self._quirks: list[str] = []
        self._ticked = False
        self._bodies: dict[int, str] = {}
        self._behind: dict[int, tuple[int, list[Node]]] = {}

    def program(self, root: Node) -> None:
        start, end = self._span(root)
        if not _BLANK.fullmatch(self._text[:start]) or not _BLANK.fullmatch(self._text[end:]):
            raise Mismatch("there is text that belongs to no command")
        self._compound(root)
        if self._quirks:
            self._add(Part((), self._text, 0, len(self._text), quirks=self._take_quirks(0)))

    def _span(self, node: Node) -> tuple[int, int]:
        if self._offsets is None:
            return node.start_byte, node.end_byte
        return self._offsets[node.start_byte], self._offsets[node.end_byte]

    def _source(self, node: Node) -> str:
        start, end = self._span(node)
        return self._text[start:end]

    # Statements

    def _visit(self, node: Node) -> None:
        kind = node.type
        if kind in _SIMPLE or (kind == "test_command" and self._source(node).startswith("[ ")):
            self._simple(node)
        elif kind == "redirected_statement":
            self._redirected(node)
        elif kind == "test_command":
            self._test(node)
            self._redirected_last(node)
        elif kind == "comment":
            self._comment(node)
        elif kind in _COMPOUND:
            self._compound(node)
            self._redirected_last(node)
        else:
            self._inert(node)

    def _redirected_last(self, node: Node) -> None:
        """Redirections behind ``... | while ...; done``, which the tree hangs to the pipeline."""
        end = self._span(node)[1]
        if end in self._behind and node.type not in ("pipeline", "list", "negated_command"):
            stop, redirects = self._behind.pop(end)
            self._tail_to(stop, end, redirects)

    def _compound(self, node: Node) -> None:
        kind = node.type
        children = node.children
        before = None
        for child in children:
            start, end = self._span(child)
            if before is not None and not _BLANK.fullmatch(self._text, before, max(start, before)):
                raise Mismatch("there is text that belongs to no command")
            before = end
        first = children[0].type if children else ""
        if kind == "c_style_for_statement" or (kind == "compound_statement" and first == "(("):
            self._arithmetic(node)
        if kind == "for_statement":
            name = next((c for c in children if c.type == "variable_name"), None)
            if name is not None:
                start, end = self._span(node)
                variable = self._source(name)
                self._add(Part((), self._text[start:end], start, end, (f"{variable}=",)))
        for child in children:
            if child.is_named:
                self._visit(child)
        redirects = [c for c in children if c.type.endswith("_redirect")]
        if redirects:
            self._tail(node, self._span(redirects[0])[0], redirects)

    def _redirected(self, node: Node) -> None:
        """A command with redirections; the tree hangs words behind one to the redirection."""
        body = node.children[0]
        if (
            body.type in _SIMPLE
            or body.type.endswith("_redirect")
            or (body.type == "test_command" and self._source(body).startswith("[ "))
        ):
            self._simple(node)
        elif body.type in ("pipeline", "list", "negated_command"):
            # The redirection is that of the last command in it.
            place = self._span(body)[1]
            self._behind[place] = self._span(node)[1], node.children[1:]
            self._visit(body)
            if self._behind.pop(place, None):
                raise Mismatch("a redirection is not understood")
        else:
            self._visit(body)
            self._tail(node, self._span(body)[1], node.children[1:])

    def _tail(self, node: Node, start: int, redirects: list[Node]) -> None:
        self._tail_to(self._span(node)[1], start, redirects)

    def _tail_to(self, end: int, start: int, redirects: list[Node]) -> None:
        """The redirections behind a compound command."""
        holes: dict[int, Hole] = {}
        arrays: dict[int, int] = {}
        mark = len(self._quirks)
        self._collect(redirects, holes, arrays)
        scan = self._scan(start, holes, arrays)
        if scan.words or scan.assignments:
            raise Mismatch("there are words behind a compound command")
        quirks = self._take_quirks(mark)
        if scan.writes or scan.reads or quirks:
            raw = self._text[start:end].strip()
            self._add(
                Part((), raw, start, end, (), tuple(scan.writes), tuple(scan.reads), quirks=quirks)
            )

    def _test(self, node: Node) -> None:
        """``[[ ... ]]``, a keyword with a grammar of its own."""
        mark = len(self._quirks)
        self._inert(node)
        start, end = self._span(node)
        if not self._source(node).startswith("[["):
            raise Mismatch("a test that is written in an unusual way")
        quirks = self._take_quirks(mark)
        self._add(Part((Word("[["),), self._text[start:end], start, end, quirks=quirks))

    def _comment(self, node: Node) -> None:
        start, end = self._span(node)
        if "\n" in self._text[start:end] or not self._separated(start):
            raise Mismatch("something looks like a comment and is none")

    def _separated(self, at: int) -> bool:
        """Whether a new word starts at ``at``, as bash sees it."""
        while self._text[:at].endswith("\\\n"):
            at -= 2
        if at == 0:
            return True
        before = self._text[at - 1]
        if before not in " \t\n;&|()<>`":
            return False
        slashes = len(self._text[: at - 1]) - len(self._text[: at - 1].rstrip("\\"))
        return slashes % 2 == 0 or before == "\n"

    # Simple commands

    def _simple(self, node: Node) -> None:
        mark = len(self._quirks)
        place = len(self.parts)
        holes: dict[int, Hole] = {}
        arrays: dict[int, int] = {}
        start, end = self._span(node)
        heredoc = self._collect(node.children, holes, arrays)
        if end in self._behind:
            end, redirects = self._behind.pop(end)
            heredoc = self._collect(redirects, holes, arrays) or heredoc
        if not self._separated(start) and self._text[start - 1] not in "{}!":
            raise Mismatch("a command starts in the middle of a word")
        scan = self._scan(start, holes, arrays)
        if scan.end != end and not (heredoc and scan.end < end):
            raise Mismatch("a command does not end where it seems to")
        part = Part(
            tuple(scan.words),
            self._text[start:end],
            start,
            end,
            tuple(scan.assignments),
            tuple(scan.writes),
            tuple(scan.reads),
            quirks=self._take_quirks(mark),
            stdin=scan.stdin,
        )
        # A command stands before what is substituted into it.
        inner, self.parts = self.parts[place:], self.parts[:place]
        shift = self._add(part)
        for other in inner:
            outer = other.outer + shift if other.outer >= place else other.outer
            self.parts.append(replace(other, outer=outer))

    def _collect(
        self,
        nodes: Iterable[Node],
        holes: dict[int, Hole],
        arrays: dict[int, int],
        *,
        heredoc: bool = False,
    ) -> bool:
        """Gather the expansions in ``nodes`` and look into them; whether there is a here-document.
        ``heredoc`` says that they hang below one, where the rest of its line hangs too."""
        found = False
        for node in nodes:
            kind = node.type
            if kind in _HOLES:
                self._hole(node, holes)
            elif kind == "comment":
                self._comment(node)
            elif kind == "heredoc_body":
                continue
            elif kind == "heredoc_redirect":
                found = True
                self._heredoc(node)
                self._collect(node.children, holes, arrays, heredoc=True)
            elif heredoc and (
                kind in _COMPOUND
                or kind in _SIMPLE
                or kind in ("redirected_statement", "test_command")
            ):
                self._visit(node)
            elif kind == "array":
                start, end = self._span(node)
                arrays[start] = end
                self._array(node)
            else:
                if kind == "subscript":
                    self._arithmetic(node)
                if node.child_count:
                    found = self._collect(node.children, holes, arrays) or found
        return found

    def _array(self, node: Node) -> None:
        """``(a b "$c")`` of an assignment: its words are only data, but for what they expand."""
        holes: dict[int, Hole] = {}
        self._collect(node.children, holes, {})
        start, end = self._span(node)
        at = start + 1
        while at < end - 1:
            if self._text[at] in " \t\n":
                at += 1
            elif self._text[at] == "#" and self._separated(at):
                at = self._text.find("\n", at)
                if at < 0 or at >= end:
                    raise Mismatch("a comment swallows the end of an array")
            else:
                index = _INDEX.match(self._text, at)
                if index and not index[1].isdigit():
                    self._quirks.append("an array index is arithmetic")
                _, stop = read_word(self._text, at, holes)
                if stop == at or stop > end - 1:
                    raise Mismatch("an array is not understood")
                at = stop

    def _scan(self, start: int, holes: dict[int, Hole], arrays: dict[int, int]) -> Scan:
        scan = Scan(self._text, start, holes, arrays, self._bodies, ticked=self._ticked)
        self._quirks += scan.quirks
        return scan

    def _heredoc(self, node: Node) -> None:
        """Check that the body ends where bash ends it, and look into what it expands."""
        parts = {child.type: child for child in node.children}
        opening, closing = parts.get("heredoc_start"), parts.get("heredoc_end")
        if opening is None or closing is None:
            raise Mismatch("a here-document has no end")
        body = parts.get("heredoc_body", closing)
        place = self._span(opening)
        found = read_heredoc(
            self._text, place, self._span(body)[0], self._span(closing), tabs="<<-" in parts
        )
        if not found.quoted:
            holes: dict[int, Hole] = {}
            self._collect(body.children, holes, {})
            check_expansions(self._text, found.start, found.start + len(found.content), holes)
        if found.plain is not None:
            self._bodies[place[0]] = found.plain

    # Expansions

    def _hole(self, node: Node, holes: dict[int, Hole]) -> None:
        start, end = self._span(node)
        text = self._text[start:end]
        kind = node.type
        many = kind != "process_substitution" and "@" in text and not text.startswith(("$(", "`"))
        holes[start] = Hole(end, text, many, kind == "process_substitution")
        if kind in ("command_substitution", "process_substitution"):
            self._substitution(node, text)
        elif kind == "arithmetic_expansion":
            self._arithmetic(node)
            self._inert_children(node)
        elif kind == "expansion":
            if not _PLAIN_EXPANSION.fullmatch(text):
                self._quirks.append(f"{text} is more than a variable")
            assigning = _ASSIGNING.match(text)
            if assigning:
                self._add(Part((), text, start, end, (f"{assigning[1]}=",)))
            self._inert_children(node)

    def _substitution(self, node: Node, text: str) -> None:
        ticked = self._ticked
        if text.startswith("`"):
            if "\\" in text or ticked:
                raise Mismatch("backslashes between backquotes")
            self._ticked = True
        else:
            self._ticked = False
        mark = len(self._quirks)
        for child in node.children:
            if child.type == "file_redirect":
                self._tail(node, self._span(child)[0], [child])
            elif child.is_named:
                self._visit(child)
        children = node.children
        for before, after in pairwise(children):
            gap = self._text[self._span(before)[1] : self._span(after)[0]]
            if not _BLANK.fullmatch(gap):
                raise Mismatch("there is text that belongs to no command")
        self._ticked = ticked
        quirks = self._take_quirks(mark)
        if quirks:
            start, end = self._span(node)
            self._add(Part((), text, start, end, quirks=quirks))

    def _arithmetic(self, node: Node) -> None:
        """Arithmetic evaluates what a variable holds, and an index in it may run a command."""
        if any(n.type in ("variable_name", "word", *_HOLES) for n in _below(node)):
            self._quirks.append("arithmetic may run what a variable holds")

    def _inert_children(self, node: Node) -> None:
        for child in node.children:
            self._inert(child)

    def _inert(self, node: Node) -> None:
        """Text that is only compared or matched: nothing in it may be live but its expansions."""
        kind = node.type
        text = self._source(node)
        if kind in _HOLES:
            self._hole(node, {})
        elif kind in _SIMPLE or kind in _COMPOUND or kind == "redirected_statement":
            self._visit(node)
        elif kind == "comment":
            self._comment(node)
        elif kind == "raw_string":
            if text.count("'") != 2:
                raise Mismatch("a quote is not understood")
        elif kind in ("ansi_c_string", "string"):
            holes: dict[int, Hole] = {}
            self._collect(node.children, holes, {})
            start, end = self._span(node)
            if not _quoted_ends(self._text, start, end, holes):
                raise Mismatch("a quote is not understood")
        elif node.child_count:
            if kind == "binary_expression" and any(
                c.type == "test_operator" and self._source(c) in _ARITHMETIC_TESTS
                for c in node.children
            ):
                self._numbers(node)
            if kind == "unary_expression" and text.startswith("-v"):
                self._quirks.append("a test of a variable may run what its index says")
            self._inert_children(node)
        elif node.is_named and _LIVE.search(re.sub(r"\\.", "", text, flags=re.DOTALL)):
            raise Mismatch(f"{text[:20]!r} is not understood")

    def _numbers(self, node: Node) -> None:
        sides = [c for c in node.children if c.is_named and c.type != "test_operator"]
        if any(not self._source(side).strip("\"'").lstrip("-").isdigit() for side in sides):
            self._quirks.append("arithmetic may run what a variable holds")

    # Parts

    def _take_quirks(self, mark: int) -> tuple[str, ...]:
        taken = tuple(dict.fromkeys(self._quirks[mark:]))
        del self._quirks[mark:]
        return taken

    def _add(self, part: Part) -> int:
        """Add a part and what it wraps; returns how many that were."""
        before = len(self.parts)
        self.parts += self._wrap(part, before)
        if len(self.parts) > MOST_PARTS:
            raise Mismatch(f"it has more than {MOST_PARTS} parts")
        return len(self.parts) - before


def _below(node: Node) -> list[Node]:
    found: list[Node] = []
    queue = list(node.children)
    while queue:
        each = queue.pop()
        found.append(each)
        if each.type not in ("do_group", "compound_statement"):
            queue += each.children
    return found


def _quoted_ends(text: str, start: int, end: int, holes: dict[int, Hole]) -> bool:
    """Whether the quoted string at ``start`` is closed just before ``end``."""
    alone = {at: hole for at, hole in holes.items() if start <= at < end}
    try:
        return read_word(text[:end], start, alone)[1] == end
    except Mismatch:
        return False
