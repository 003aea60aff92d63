"""A simple command read by bash's own rules: its words, assignments and redirections."""

from __future__ import annotations

import re
from collections.abc import Mapping

from kimi_cli.safety.shell_words import Hole, Mismatch, Word, read_word

_INLINE = re.compile(r"(?:[ \t]|\\\n)*")
_REDIRECT = re.compile(r"(\d*)(<<<|<<-|<<|<>|<&|>&|>>|>\||<|>)|(&>>|&>)")
_ASSIGNS = re.compile(r"([A-Za-z_][A-Za-z_0-9]*)(\[[^\]\s]*\])?(\+?=)")
_DECLARING = frozenset({"export", "declare", "typeset", "local", "readonly"})
_NO_FILES = frozenset({"/dev/null", "/dev/stdout", "/dev/stderr"})


class Scan:
    """The simple command that begins at ``start``; ``end`` is the place behind its last word.

    ``holes`` are the expansions in the text by their start, ``arrays`` the ends of array literals
    by theirs, ``bodies`` what is known of here-documents by the place of their delimiters.
    ``ticked`` says that a backquote ends it. Raises Mismatch.
    """

    def __init__(
        self,
        text: str,
        start: int,
        holes: Mapping[int, Hole],
        arrays: Mapping[int, int],
        bodies: Mapping[int, str],
        *,
        ticked: bool,
    ) -> None:
        self.words: list[Word] = []
        self.assignments: list[str] = []
        self.writes: list[str] = []
        self.reads: list[str] = []
        self.quirks: list[str] = []
        self.stdin: str | None = None
        self.end = start
        self._text = text
        self._holes = holes
        self._arrays = arrays
        self._bodies = bodies
        self._ticked = ticked
        self._read(start)

    def _read(self, at: int) -> None:
        text = self._text
        while True:
            blank = _INLINE.match(text, at)
            assert blank is not None
            at = blank.end()
            if at >= len(text):
                break
            redirect = None if at in self._holes else _REDIRECT.match(text, at)
            if redirect:
                at = self._redirect(redirect)
            elif at not in self._holes and text[at] in ";&|()\n<>`#":
                break
            else:
                at = self._word(at)
            self.end = at

    def _word(self, at: int) -> int:
        text = self._text
        assigns = _ASSIGNS.match(text, at)
        declares = bool(self.words) and self.words[0].text in _DECLARING
        if assigns and (not self.words or declares):
            name, subscript = assigns[1], assigns[2]
            if subscript and not subscript[1:-1].isdigit():
                self.quirks.append("an array index is arithmetic")
            value = assigns.end()
            if value in self._arrays:
                self.assignments.append(f"{name}={text[value : self._arrays[value]]}")
                return self._arrays[value]
            words, end = read_word(text, value, self._holes)
            if end == value:
                words = []
            if end < len(text) and text[end] == "`" and not self._ticked:
                raise Mismatch("a backquote is not understood")
            # An assignment is neither split nor expanded by braces.
            shown = words[0].text if len(words) == 1 else text[value:end]
            self.assignments.append(f"{name}={shown}")
            return end
        words, end = read_word(text, at, self._holes)
        if end == at or (end < len(text) and text[end] == "`" and not self._ticked):
            raise Mismatch(f"{text[at : at + 9]!r} is not understood")
        if text[end : end + 1] in ("<", ">") and re.fullmatch(r"\{\w+\}", text[at:end]):
            raise Mismatch("a redirection to a variable")
        if text[end : end + 1] == "(":
            raise Mismatch("a bracket in a command")
        self.words += words
        return end

    def _redirect(self, match: re.Match[str]) -> int:
        operator = match[2] or match[3]
        blank = _INLINE.match(self._text, match.end())
        assert blank is not None
        start = blank.end()
        words, end = read_word(self._text, start, self._holes)
        if end == start:
            raise Mismatch("a redirection leads nowhere")
        target = words[0].text if len(words) == 1 else self._text[start:end]
        if operator in ("<<", "<<-"):
            self.stdin = self._bodies.get(start)
        elif operator == "<<<":
            self.stdin = target if len(words) == 1 and words[0].known else None
        elif operator in ("<&", ">&") and re.fullmatch(r"\d*-?", target):
            pass
        elif operator in ("<", "<&"):
            self.reads.append(target)
        elif target not in _NO_FILES:
            self.writes.append(target)
        return end
