"""A question of the policy as lines: what will happen, which part is asked for, the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from kimi_cli.frontends.plain import clean, counted, fit, revealed
from kimi_cli.frontends.terminal.ink import Ink, Style, cells, wrapped
from kimi_cli.frontends.terminal.paint import break_points
from kimi_cli.protocol.events import QuestionAsked

AnswerKind = Literal["once", "session", "project", "no", "why"]
DIGITS: dict[str, AnswerKind] = {
    "1": "once",
    "2": "session",
    "3": "project",
    "4": "no",
    "5": "why",
}
_WORDS: dict[AnswerKind, str] = {
    "once": "once",
    "session": "this session",
    "no": "no",
    "why": "no, and say why…",
}
_SHORT: dict[AnswerKind, str] = {
    "once": "once",
    "session": "session",
    "project": "always",
    "no": "no",
    "why": "why",
}
DIFF = ("---", "@@")
"""How a preview begins that is a diff."""
HEAD_LINES = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """An answer and the digit that gives it."""

    digit: str
    kind: AnswerKind
    words: str


def choices(question: QuestionAsked) -> list[Choice]:
    """The answers that make sense. An answer has the same digit in every question: fingers learn
    it."""
    return [
        Choice(digit, kind, _words(kind, question))
        for digit, kind in DIGITS.items()
        if kind in ("no", "why") or kind in question.choices
    ]


def question_lines(question: QuestionAsked, ink: Ink, width: int, height: int) -> list[str]:
    """The question in at most ``height`` lines. Of a long command or diff a part is shown, with the
    count of the rest; what the decision is about and the answers always are."""
    answers = _answer_lines(choices(question), ink, width, max(height // 2, 1))
    head = _head(question, ink, width, max((height - len(answers)) // 2, 1))
    end = _granted(question, ink, width)
    room = max(height - len(head) - len(end) - len(answers), 1)
    body, about = _body(question, ink, width)
    return [*head, *_cut(body, room, about, ink), *end, *answers]


def _head(question: QuestionAsked, ink: Ink, width: int, height: int) -> list[str]:
    text = clean(_headline(question))
    cuts = [0, *break_points(text, width - 2), len(text)]
    lines = [text[start:end] for start, end in pairwise(cuts)]
    most = min(height, HEAD_LINES)
    if len(lines) > most:
        lines = [*lines[: most - 1], fit("".join(lines[most - 1 :]), width - 2)]
    signs = [ink(f"{ink.look.needs} ", "warn"), *["  "] * (len(lines) - 1)]
    return [sign + ink(line.strip(), "bold") for sign, line in zip(signs, lines, strict=True)]


def _headline(question: QuestionAsked) -> str:
    if question.grant or "needs approval" in question.reason:
        return f"{question.tool}: {question.reason}"
    return f"{question.tool} needs your leave: {question.reason}"


def _granted(question: QuestionAsked, ink: Ink, width: int) -> list[str]:
    if not question.grant or question.preview.startswith(DIFF):
        return []
    return [ink.line([(f"    a yes lets it run {clean(question.grant)}", "dim")], width)]


def is_diff(question: QuestionAsked) -> bool:
    """Whether it is about a change of a file."""
    return question.preview.startswith(DIFF)


def _body(question: QuestionAsked, ink: Ink, width: int) -> tuple[list[str], range]:
    """The lines of a diff or a command, and which of them the decision is about."""
    shown = question.preview or question.text
    if is_diff(question):
        lines, about = _diff(shown, ink, width - 4), range(0)
    else:
        lines, about = _marked(shown, question.marks, ink, width - 4)
    return [f"    {line}" for line in lines], about


def _diff(diff: str, ink: Ink, width: int) -> list[str]:
    styles: dict[str, Style] = {"+": "good", "-": "bad", "@": "dim"}
    lines = []
    for line in map(clean_line, diff.split("\n")):
        if line and not line.startswith(("---", "+++")):
            lines.append(ink.line([(line, styles.get(line[:1], ""))], width))
    return lines


def _marked(
    text: str, marks: Sequence[tuple[int, int]], ink: Ink, width: int
) -> tuple[list[str], range]:
    """The command with the parts that need the decision underlined by a line of their own, as it
    must also be seen where there are no colours; and the first of these parts, as line numbers."""
    lines: list[str] = []
    start = 0
    partial = any(end - begin < len(text.strip()) for begin, end in marks)
    about = range(0)
    for line in text.split("\n"):
        inside = [(max(a - start, 0), min(b - start, len(line))) for a, b in marks]
        inside = [(a, b) for a, b in inside if a < b]
        at, first = 0, len(lines)
        shown = clean_line(line)
        for piece in wrapped(shown, width):
            lines.append(piece)
            if partial and shown == line:
                under = _underline(piece, at, inside, ink.look.rule)
                if under:
                    lines.append(ink(under, "warn"))
            at += len(piece)
        if inside and partial and (not about or about.stop == first):
            about = range(about.start if about else first, len(lines))
        start += len(line) + 1
    return lines, about


def _underline(piece: str, at: int, marks: Sequence[tuple[int, int]], rule: str) -> str:
    out = ""
    for index, char in enumerate(piece, at):
        marked = any(a <= index < b for a, b in marks)
        out += (rule if marked else " ") * cells(char)
    return out.rstrip()


def clean_line(line: str) -> str:
    """A line that is to be approved, with all that is in it."""
    return revealed(line.expandtabs(4))


def _cut(body: Sequence[str], room: int, about: range, ink: Ink) -> list[str]:
    """``room`` of the lines: from the first on, or those that the decision is ``about``."""
    if len(body) <= room:
        return list(body)
    shown = max(room - 1, 1)
    if about.stop <= shown:
        rest = f"    {ink.look.ellipsis} {len(body) - shown} more lines · ctrl-o shows all"
        return [*body[:shown], ink(rest, "dim")][-room:]
    first = about.start
    if len(about) < shown:
        # What comes before says most about it; the rest of the room goes there.
        first = min(about.stop, len(body)) - shown
    before = f"    {ink.look.ellipsis} {counted(first, 'line')} before"
    after = len(body) - first - shown
    before += f", {after} after" * (after > 0) + " · ctrl-o shows all"
    return [ink(before, "dim"), *body[first : first + shown]][-room:]


def _words(kind: AnswerKind, question: QuestionAsked) -> str:
    if kind == "project":
        return f"always here: {clean_line(question.rule.replace(chr(10), ' '))}"
    return _WORDS[kind]


def _answer_lines(given: Sequence[Choice], ink: Ink, width: int, height: int) -> list[str]:
    """The answers side by side as far as they fit, in the order of their digits; in as few words
    as possible where they would take more than ``height`` lines."""
    lines = _beside([(one.digit, one.words) for one in given], ink, width, 4, 3)
    if len(lines) > height:
        lines = _beside([(one.digit, _SHORT[one.kind]) for one in given], ink, width, 2, 1)
    return lines


def _beside(
    pieces: Sequence[tuple[str, str]], ink: Ink, width: int, indent: int, gap: int
) -> list[str]:
    lines: list[str] = []
    line, used = "", 0
    for digit, words in pieces:
        size = cells(f"{digit} {words}")
        if used and indent + used + gap + size > width:
            lines.append(" " * indent + line)
            line, used = "", 0
        between = " " * gap if used else ""
        room = width - indent - used - len(between)
        line += between + ink.line([(digit, "warn"), (f" {words}", "")], room)
        used += len(between) + min(size, room)
    return [*lines, " " * indent + line]
