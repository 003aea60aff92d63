"""Events as blocks of the scrollback: lines of text in the gutter of two columns."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import counted, money, seconds, tokens_cached
from kimi_cli.frontends.terminal.diff_lines import diff_texts, parse_diff
from kimi_cli.frontends.terminal.endings import figures_of, why_ended
from kimi_cli.frontends.terminal.folds import Folds
from kimi_cli.frontends.terminal.paint import break_points, cells, clip, harmless, one_line, wrap
from kimi_cli.frontends.terminal.tool_words import (
    after_cut,
    call_words,
    outcome_words,
    output_lines,
    size_words,
    time_words,
)
from kimi_cli.protocol.events import (
    Aside,
    QuestionAnswered,
    QuestionAsked,
    ToolResult,
    TurnEnded,
    UserMessage,
)
from kimi_cli.protocol.messages import MediaPart, TextPart, Usage
from kimi_cli.protocol.stops import StopReason

if TYPE_CHECKING:
    from rich.text import Text

    from kimi_cli.frontends.terminal.look import Look

INDENT = 4
"""Columns before what belongs to a call."""
MESSAGE_LINES = 12
MESSAGE_CHARACTERS = 20_000
"""Characters of the user's message that are broken into lines, to show the first and count."""
DIFF_LINES = 12
FAILED_LINES = 6
PASSED_LINES = 3
COUNTED = 8 * 2**20
"""Bytes of an output's file up to which its lines are counted."""

ANSWERS = {
    "once": "allowed once",
    "session": "allowed for this session",
    "project": "always allowed here",
    "no": "no",
}


def text_of(parts: Sequence[object]) -> str:
    return "".join(part.text for part in parts if isinstance(part, TextPart))


def marked(
    glyph: str, style: str, text: Text | str, width: int, text_style: str = ""
) -> list[Text]:
    """Text behind a glyph in the gutter, wrapped, all lines two columns in."""
    from rich.text import Text

    body = Text(text, text_style) if isinstance(text, str) else text
    lines = []
    for number, line in enumerate(wrap(body, max(width - 2, 1))):
        start = Text(glyph.ljust(2), style) if not number else Text("  ")
        lines.append(Text().append_text(start).append_text(line))
    return lines


def note(text: str, width: int, style: str = "dim") -> list[Text]:
    return marked("", "", text, width, style)


class Blocks:
    """Makes the lines of events; ``width`` is that of the terminal in columns. What is shown in
    part only goes to ``folds``."""

    def __init__(self, look: Look, folds: Folds) -> None:
        self._look = look
        self._folds = folds
        self._dot = f" {look.dot} "

    def user(self, event: UserMessage, width: int) -> list[Text]:
        """What the user said. A long message shows its first lines."""
        from rich.text import Text

        look = self._look
        full = harmless(text_of(event.parts)).strip("\n")
        looked_at = full[:MESSAGE_CHARACTERS]
        rows = wrap(Text(looked_at, "bold"), max(width - 2, 1))
        whole = len(rows) <= MESSAGE_LINES + 2 and looked_at == full
        body = Text("\n").join(rows if whole else rows[:MESSAGE_LINES])
        for part in event.parts:
            if isinstance(part, MediaPart):
                name = one_line(part.name or part.kind)
                body.append(f"{' ' if body.plain else ''}[{name}]", "dim not bold")
        if event.origin == "steer":
            body.append(" (steered)", "dim not bold")
        made = marked(look.user, look.accent, body, width)
        if not whole:
            self._folds.add("message", "your message", full)
            rest = len(rows) - MESSAGE_LINES
            if looked_at != full:
                rest = full.count("\n") + 1 - _whole_lines(looked_at, width - 2)
            # Of a single line without end the characters are counted.
            unseen = len(full) - sum(map(len, rows[:MESSAGE_LINES]))
            more = (rest, "more line") if rest > 1 else (unseen, "more character")
            made.append(Text("  ").append_text(self._more(*more)))
        return made

    def program(self, event: UserMessage, width: int) -> list[Text]:
        """What kimi itself told the model, in one line."""
        from rich.text import Text

        first, _, rest = one_line_of(text_of(event.parts))
        text = f"  kimi tells the model: {first}" + f" {self._look.ellipsis}" * bool(rest)
        return [Text(clip(text, width, self._look.ellipsis), "dim")]

    def thought(self, time: float, width: int) -> list[Text]:
        words = f"{thought_words(time)}{self._dot}ctrl-t"
        return marked(self._look.think, "dim", words, width, "dim")

    def tool(self, result: ToolResult, arguments: str, width: int) -> list[Text]:
        """A finished call: one line, and what a person wants to see of its outcome. ``arguments``
        is the JSON the model wrote, "" where it is not known."""
        from rich.text import Text

        look = self._look
        style = {"ok": look.good, "error": look.bad}.get(result.status, look.warn)
        title = call_words(result.name, result.summary, arguments, result.display)
        outcome, time = outcome_words(result), time_words(result)
        end = "".join(self._dot + piece for piece in (outcome, time) if piece)
        room = width - 2 - cells(end)
        head = Text().append(look.tool.ljust(2), style)
        if room >= min(cells(title), max(width // 3, 8)):
            head.append(clip(title, room, look.ellipsis))
            head.append(self._dot * bool(outcome))
            head.append(outcome, "" if result.status == "ok" else style)
            head.append((self._dot + time) * bool(time), "dim")
            lines = [head]
        else:
            tone = "" if result.status == "ok" else style
            body = Text(title).append(self._dot * bool(outcome)).append(outcome, tone)
            body.append((self._dot + time) * bool(time), "dim")
            lines = marked(look.tool, style, body, width)
        return lines + self._indented(self._body(result, title), width)

    def _body(self, result: ToolResult, title: str) -> list[Text]:
        changed = [touch for touch in result.files if touch.action != "read" and touch.diff]
        if changed:
            return self._diffs([(touch.path, touch.diff) for touch in changed], title)
        if result.status == "interrupted" and not result.seconds:
            # Not the tool's own result: its text is for the model.
            return []
        if result.name == "shell" and result.status in ("ok", "error", "interrupted"):
            return self._output(result, title)
        if result.status == "ok" and result.output_path:
            self._folds.add("output", title, text_of(result.parts), result.output_path)
        elif result.status != "denied" and (text := text_of(result.parts).strip()):
            self._folds.add("output", title, text)
        return []

    def _diffs(self, diffs: list[tuple[str, str]], title: str) -> list[Text]:
        from rich.text import Text

        texts: list[Text] = []
        for path, diff in diffs:
            if len(diffs) > 1:
                texts.append(Text(one_line(path), "bold"))
            texts += diff_texts(parse_diff(diff), self._look)
        cut = len(texts) - DIFF_LINES if len(texts) > DIFF_LINES + 2 else 0
        if not cut:
            return texts
        self._folds.add("diff", title, "\n".join(diff for _, diff in diffs))
        return [*texts[:DIFF_LINES], self._more(cut, "more line")]

    def _output(self, result: ToolResult, title: str) -> list[Text]:
        from rich.text import Text

        full = text_of(result.parts)
        lines = output_lines(result, harmless(full))
        failed = result.status == "error"
        most = FAILED_LINES if failed else PASSED_LINES
        end = after_cut(lines, result.output_path)
        count = len(lines) if end is None else _lines_in(result.output_path or "")
        shown = lines if end is None else end
        if end is not None or count > most:
            shown = [line for line in shown if line.strip()][-(most - (not failed)) :]
            self._folds.add("output", title, full, result.output_path)
        texts = [Text(line, "dim") for line in shown]
        if count > len(shown):
            texts.insert(0, self._more(count - len(shown), "line"))
        elif end is not None:
            texts.insert(0, self._end_of(result.output_path or ""))
        return texts

    def _end_of(self, path: str) -> Text:
        from rich.text import Text

        return Text(f"{end_words(path, self._look.ellipsis)}{self._dot}ctrl-o shows all", "dim")

    def _more(self, count: int, what: str) -> Text:
        from rich.text import Text

        return Text(
            f"{self._look.ellipsis} {counted(count, what)}{self._dot}ctrl-o shows all", "dim"
        )

    def _indented(self, texts: list[Text], width: int) -> list[Text]:
        from rich.text import Text

        indent = " " * (INDENT if width >= 30 else 2)
        return [Text(indent).append_text(text) for text in texts]

    def question(
        self, asked: QuestionAsked | None, answered: QuestionAnswered, width: int
    ) -> list[Text]:
        """What was decided, as a record."""
        look = self._look
        what = one_line(asked.text) if asked else ""
        answer = ANSWERS.get(answered.answer, one_line(answered.answer))
        if answered.answer in ("session", "project") and asked and asked.rule:
            what = one_line(asked.rule)
        comment = one_line(answered.comment)
        if answered.by == "policy":
            answer = "not answered"  # the turn was stopped, or nobody was there
        said = comment if answered.answer == "no" and comment else what
        text = f"{answer}: {said}" if said else answer
        return marked(look.needs, look.warn, text, width, "dim")

    def asked_aside(self, event: Aside, width: int) -> list[Text]:
        from rich.text import Text

        body = Text(one_line(event.question), "bold").append(" (aside)", "dim not bold")
        return marked(self._look.user, self._look.accent, body, width)

    def after_aside(self, event: Aside, width: int) -> list[Text]:
        """What an aside took."""
        usage = event.usage or Usage()
        pieces = (
            "cut off" if event.partial else "",
            "the model forgets this",
            tokens_cached(usage),
            money(event.cost, event.currency),
            seconds(event.seconds),
        )
        return note(self._dot.join(piece for piece in pieces if piece), width)

    def ended(
        self, event: TurnEnded, changed: dict[str, tuple[int, int]], width: int
    ) -> list[Text]:
        """The lines under a turn: why it ended, where it was not done; what it changed and took."""
        look, dot = self._look, self._dot
        lines: list[Text] = []
        words, advice, grave = why_ended(event)
        if words:
            style = look.bad if grave else look.warn
            joined = event.reason is StopReason.INTERRUPTED
            lines = note(f"{words}{dot}{advice}" if joined else words, width, style)
            lines += note(advice, width) if advice and not joined else []
        figures = figures_of(event, changed)
        return lines + (note(dot.join(figures), width) if figures else [])


def whole_seconds(time: float) -> str:
    """``6 s``: a duration without tenths where it has whole seconds."""
    return seconds(round(time)).replace(".0 s", " s") if time >= 1 else seconds(time)


def _whole_lines(text: str, width: int) -> int:
    """How many lines of the text are whole in its first MESSAGE_LINES rows of the screen."""
    rows = 0
    for number, line in enumerate(text.split("\n")):
        rows += len(break_points(line, max(width, 1))) + 1
        if rows > MESSAGE_LINES:
            return number
    return text.count("\n")


def thought_words(time: float) -> str:
    """``thought for 6 s``, or just that it thought where that took no time to speak of."""
    taken = whole_seconds(time)
    return f"thought for {taken}" if taken else "thought"


def end_words(path: str, ellipsis: str) -> str:
    """``… the end of 30 MB``: what is shown of an output that lies in a file."""
    try:
        return f"{ellipsis} the end of {size_words(os.stat(path).st_size)}"
    except OSError:
        return f"{ellipsis} the end"


def _lines_in(path: str) -> int:
    """The lines of a file, 0 where it is large or gone."""
    try:
        with open(path, "rb") as file:
            raw = file.read(COUNTED + 1)
    except OSError:
        return 0
    return 0 if len(raw) > COUNTED else raw.rstrip().count(b"\n") + bool(raw.strip())


def one_line_of(text: str) -> tuple[str, str, str]:
    first, newline, rest = text.strip().partition("\n")
    return one_line(first), newline, rest
