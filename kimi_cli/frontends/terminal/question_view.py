"""A question of the policy as lines: what will happen, which part is asked for, the answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from kimi_cli.frontends.plain import clean, clean_block
from kimi_cli.frontends.terminal.ink import Ink, Style, cells, wrapped
from kimi_cli.protocol.events import QuestionAsked

AnswerKind = Literal["once", "session", "project", "no", "why"]
_WORDS: dict[AnswerKind, str] = {
    "once": "once",
    "session": "this session",
    "no": "no",
    "why": "no, and say why…",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """An answer and the digit that gives it."""

    digit: str
    kind: AnswerKind
    words: str


def choices(question: QuestionAsked) -> list[Choice]:
    """The answers that make sense, yes before no."""
    kinds: list[AnswerKind] = [
        kind for kind in ("once", "session", "project") if kind in question.choices
    ]
    kinds += ["no", "why"]
    return [
        Choice(str(number), kind, _words(kind, question)) for number, kind in enumerate(kinds, 1)
    ]


def question_lines(
    question: QuestionAsked, ink: Ink, width: int, height: int, scroll: int = 0
) -> list[str]:
    """The question in at most ``height`` lines; a long command or diff is cut in the middle of it,
    from ``scroll`` on, with the count of what is not shown."""
    look = ink.look
    head = ink.line([(f"{look.needs} ", "warn"), (clean(_headline(question)), "bold")], width)
    answers = _answer_lines(choices(question), ink, width)
    room = max(height - 1 - len(answers), 1)
    body = _body(question, ink, width - 4)
    return [head, *_cut(body, room, scroll, ink), *answers]


def _headline(question: QuestionAsked) -> str:
    if question.grant:
        return f"{question.tool}: {question.reason}"
    return f"{question.tool} needs your leave: {question.reason}"


def _body(question: QuestionAsked, ink: Ink, width: int) -> list[str]:
    shown = question.preview or question.text
    if question.preview.startswith(("---", "@@")):
        return [f"    {line}" for line in _diff(clean_block(shown), ink, width)]
    lines = _marked(shown, question.marks, ink, width)
    if question.grant:
        lines.append(ink.line([(f"a yes lets it run {clean(question.grant)}", "dim")], width))
    return [f"    {line}" for line in lines]


def _diff(diff: str, ink: Ink, width: int) -> list[str]:
    styles: dict[str, Style] = {"+": "good", "-": "bad", "@": "dim"}
    lines = []
    for line in diff.expandtabs(4).splitlines():
        if not line.startswith(("---", "+++")):
            lines.append(ink.line([(line, styles.get(line[:1], ""))], width))
    return lines


def _marked(text: str, marks: Sequence[tuple[int, int]], ink: Ink, width: int) -> list[str]:
    """The command with the parts that need the decision underlined by a line of their own, as it
    must also be seen where there are no colours."""
    lines: list[str] = []
    start = 0
    partial = any(end - begin < len(text.strip()) for begin, end in marks)
    for line in text.split("\n"):
        inside = [(max(a - start, 0), min(b - start, len(line))) for a, b in marks]
        inside = [(a, b) for a, b in inside if a < b]
        at = 0
        shown = clean_line(line)
        for piece in wrapped(shown, width):
            lines.append(piece)
            if partial and shown == line:
                under = _underline(piece, at, inside, ink.look.rule)
                if under:
                    lines.append(ink(under, "warn"))
            at += len(piece)
        start += len(line) + 1
    return lines


def _underline(piece: str, at: int, marks: Sequence[tuple[int, int]], rule: str) -> str:
    out = ""
    for index, char in enumerate(piece, at):
        marked = any(a <= index < b for a, b in marks)
        out += (rule if marked else " ") * cells(char)
    return out.rstrip()


def clean_line(line: str) -> str:
    """A line of a command, without what a terminal would obey."""
    return clean(line.expandtabs(4))


def _cut(body: Sequence[str], room: int, scroll: int, ink: Ink) -> list[str]:
    if len(body) <= room:
        return list(body)
    room = max(room - 1, 1)
    first = min(scroll, len(body) - room)
    rest = len(body) - room
    more = f"    {ink.look.ellipsis} {rest} more lines · ctrl-o shows all"
    return [*body[first : first + room], ink(more, "dim")]


def _words(kind: AnswerKind, question: QuestionAsked) -> str:
    if kind == "project":
        return f"always here: {clean(question.rule)}"
    return _WORDS[kind]


def _answer_lines(given: Sequence[Choice], ink: Ink, width: int) -> list[str]:
    """The answers side by side as far as they fit, in the order of their digits."""
    lines: list[str] = []
    line, used = "", 0
    for choice in given:
        piece = f"{choice.digit} {choice.words}"
        if used and 4 + used + 3 + cells(piece) > width:
            lines.append(f"    {line}")
            line, used = "", 0
        gap = "   " if used else ""
        room = width - 4 - used - len(gap)
        shown = ink.line([(choice.digit, "warn"), (f" {choice.words}", "")], room)
        line += gap + shown
        used += len(gap) + min(cells(piece), room)
    return [*lines, f"    {line}"]
