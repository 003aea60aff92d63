"""Turns a session's events into lines for the scrollback, and what streams into a tail."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

from kimi_cli.frontends.terminal.blocks import Blocks, note, thought_words
from kimi_cli.frontends.terminal.folds import Folds
from kimi_cli.frontends.terminal.markdown import MarkdownLines
from kimi_cli.frontends.terminal.markdown_stream import Block, MarkdownStream, closed
from kimi_cli.frontends.terminal.paint import Painter, harmless
from kimi_cli.frontends.terminal.remarks import Remarks, Retries
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Aside,
    AssistantMessage,
    QuestionAnswered,
    QuestionAsked,
    ToolResult,
    ToolStarted,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.live import (
    RetryScheduled,
    StepStarted,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)
from kimi_cli.protocol.messages import TextPart, ThinkingPart, ToolCallPart

if TYPE_CHECKING:
    from rich.text import Text

    from kimi_cli.frontends.terminal.look import Look

Kind = Literal["start", "user", "thought", "prose", "tool", "note", "summary"]
THINKING_LINES = 4
THINKING_KEPT = 2_000
"""Characters at the end of streaming thinking that are looked at for its last lines."""
WORTH_SAYING = 2.0
"""Seconds of thinking that get a line of their own where no text of the model follows."""
NARROWEST = 20


class Scribe:
    """Writes down a session, live or stored: the same turn gives the same lines.

    ``width`` tells the columns of the terminal now; ``now`` is a clock in seconds for events that
    bear no time. Lines are ANSI, each at most as wide as the terminal, and no two empty ones follow
    each other."""

    def __init__(
        self, look: Look, width: Callable[[], int], now: Callable[[], float] = time.time
    ) -> None:
        self.folds = Folds()
        self._look = look
        self._columns = width
        self._now = now
        self._painter = Painter(look)
        self._markdown = MarkdownLines(look)
        self._blocks = Blocks(look, self.folds)
        self._last: Kind = "start"
        self._blank = False
        self._changed: dict[str, tuple[int, int]] = {}
        self._arguments: dict[str, str] = {}
        self._summaries: dict[str, str] = {}
        self._questions: dict[str, QuestionAsked] = {}
        self._remarks = Remarks(look)
        self._retries = Retries(look)
        self._step_began = 0.0
        self._forget()

    def _forget(self) -> None:
        """Nothing streams."""
        self._stream = MarkdownStream()
        self._said: list[str] = []
        self._written: list[Block] = []
        self._thinking: list[str] = []
        self._thought_from = self._thought_until = 0.0
        self._thinks = self._thought_told = False
        self._version = 0
        self._cached: tuple[object, list[str]] | None = None

    @property
    def _width(self) -> int:
        return max(self._columns(), NARROWEST)

    def feed(self, event: Event) -> list[str]:
        """The lines that are finished with this event."""
        match event:
            case TextDelta():
                return self._text(event)
            case ToolCallDelta():
                self._thinks = False
                return []
            case ThinkingDelta():
                self._think(event)
                return []
            case StepStarted():
                self._step_began = event.time or self._now()
                return []
            case AssistantMessage():
                return self._answered(event)
            case UserMessage():
                return self._flushed(event) + self._user(event)
            case ToolStarted():
                self._summaries[event.call_id] = event.summary
                return []
            case ToolResult():
                return self._tool(event)
            case RetryScheduled():
                return self._retry(event)
            case QuestionAsked():
                self._questions[event.question_id] = event
                self._summaries[event.call_id] = event.text.removeprefix(f"{event.tool} ")
                return []
            case QuestionAnswered():
                asked = self._questions.pop(event.question_id, None)
                return self._put("tool", self._blocks.question(asked, event, self._width))
            case TurnStarted():
                self._remarks.currency = event.currency
                self._changed.clear()
                self._arguments.clear()
                self._summaries.clear()
                return []
            case TurnEnded():
                return self._ended(event)
            case Aside():
                return self._aside(event)
            case _:
                return self.notice(*self._remarks(event))

    def notice(self, text: str, style: str = "dim") -> list[str]:
        """Lines of our own for the scrollback, in the gutter; none for an empty text. ``style`` is
        rich's, or the look's "warn", "bad", "good" or "accent"."""
        text = harmless(text).strip("\n")
        return self._put("note", note(text, self._width, self._style(style))) if text else []

    def _style(self, name: str) -> str:
        look = self._look
        named = {"warn": look.warn, "bad": look.bad, "good": look.good, "accent": look.accent}
        return named.get(name, name)

    def own(self, lines: Sequence[str], kind: Kind = "tool") -> list[str]:
        """A block of finished lines that somebody else made, with the air that goes before it."""
        if not lines:
            return []
        air = kind != "tool" or self._last == "prose" or self._gap(kind)
        gap = [""] * (air and not self._blank and self._last != "start")
        self._last, self._blank = kind, not lines[-1]
        return [*gap, *lines]

    def tail(self, height: int) -> list[str]:
        """At most ``height`` lines: what streams now and is not finished, as it will look."""
        thinking = self._thinks and not self._said
        taken = int(self._now() - self._thought_from) if thinking else 0
        key = (self._version, self._width, height, taken)
        if self._cached is None or self._cached[0] != key:
            made = self._thinking_tail(taken) if thinking else self._text_tail(height)
            self._cached = (key, made)
        lines = self._cached[1]
        if thinking and len(lines) > height:
            return lines[:1] + lines[len(lines) - height + 1 :] if height > 1 else lines[:height]
        return lines[max(len(lines) - height, 0) :]

    def _text_tail(self, height: int) -> list[str]:
        blocks = self._stream.pending() if self._said else []
        if not blocks:
            return []
        texts = self._prose([*blocks[:-1], closed(blocks[-1])], passing=True)
        if self._gap("prose", blocks[0].gap or not self._written):
            texts.insert(0, None)
        shown = texts[max(len(texts) - height, 0) :]
        return [self._painter.line(text, self._width) if text else "" for text in shown]

    def _thinking_tail(self, taken: int) -> list[str]:
        from rich.text import Text

        look = self._look
        head = f"thinking {look.dot} {taken} s" if taken else "thinking"
        text = harmless("".join(self._thinking[-200:])[-THINKING_KEPT:]).strip()
        lines = [line for line in note(text, self._width, "dim") if line.plain.strip()]
        lines = lines[-THINKING_LINES:]
        mark = Text().append(look.think.ljust(2), look.accent).append(head, "dim")
        return [self._painter.line(line, self._width) for line in (mark, *lines)]

    def _think(self, event: ThinkingDelta) -> None:
        moment = event.time or self._now()
        if not self._thinking:
            self._thought_from = self._step_began or moment
        self._thought_until = moment
        self._thinks = True
        self._thinking.append(event.text)
        self._version += 1

    def _text(self, event: TextDelta) -> list[str]:
        self._version += 1
        if not self._said and not event.text.strip():
            # The indent of what follows may be in it.
            self._stream.feed(event.text)
            return []
        lines: list[str] = []
        if not self._said:
            if self._thinking:
                lines = self.notice(self._retries.over())
            lines += self._tell_thought(self._thought_until - self._thought_from, prose=True)
        self._said.append(event.text)
        return lines + self._write(self._stream.feed(event.text))

    def _tell_thought(self, taken: float, *, prose: bool) -> list[str]:
        """The line that says that the model thought, once."""
        thinking = "".join(self._thinking).strip()
        if self._thought_told or not thinking:
            return []
        self._thought_told = True
        self.folds.add("thinking", thought_words(taken), thinking)
        if not prose and taken < WORTH_SAYING:
            return []
        gap = prose and self._last in ("tool", "note")
        return self._put("thought", self._blocks.thought(taken, self._width), gap=gap)

    def _write(self, blocks: Sequence[Block]) -> list[str]:
        lines = self.notice(self._retries.over()) if blocks else []
        for block in blocks:
            gap = self._gap("prose", block.gap or not self._written)
            self._written.append(block)
            made = [text or _empty() for text in self._prose([block])]
            lines += self._put("prose", made, gap=gap)
        return lines

    def _prose(
        self, blocks: Sequence[Block], markdown: MarkdownLines | None = None, passing: bool = False
    ) -> list[Text | None]:
        """The lines of blocks in the gutter, None for an empty one."""
        from rich.text import Text

        markdown = markdown or self._markdown
        made: list[Text | None] = []
        for number, block in enumerate(blocks):
            if number and block.gap:
                made.append(None)
            for line in markdown.lines(block, self._width - 2, passing=passing):
                made.append(Text("  ").append_text(line) if line.plain.strip() else None)
        return made

    def _answered(self, event: AssistantMessage) -> list[str]:
        """The model's message is whole: what of it is not written yet."""
        thinking = "".join(p.text for p in event.parts if isinstance(p, ThinkingPart))
        text = "".join(p.text for p in event.parts if isinstance(p, TextPart))
        for part in event.parts:
            if isinstance(part, ToolCallPart):
                self._arguments[part.id] = part.arguments
        self._thinking = [thinking]
        said = bool(text.strip())
        lines = [] if event.partial else self.notice(self._retries.over())
        lines += self._tell_thought(event.thinking_seconds, prose=said)
        if text.strip() == "".join(self._said).strip():
            lines += self._write(self._stream.end())
        elif said:
            # What streamed is not what counts: calls that the model wrote as text were taken out.
            stream, written = MarkdownStream(), self._written
            blocks = [*stream.feed(text), *stream.end()]
            same = next(
                (n for n, (a, b) in enumerate(zip(blocks, written, strict=False)) if a != b),
                min(len(blocks), len(written)),
            )
            lines += self._write(blocks[same:])
        if event.partial and said:
            lines += self._put("prose", note(f"{self._look.ellipsis} cut off here", self._width))
        self._forget()
        return lines

    def _flushed(self, event: Event) -> list[str]:
        """What streamed and never became a message."""
        lines = self._write(self._stream.end()) if self._said else []
        self._forget()
        return lines

    def _user(self, event: UserMessage) -> list[str]:
        if event.origin == "program":
            if event.mode:
                return []  # the change of mode has its own line
            return self._put("note", self._blocks.program(event, self._width))
        return self._put("user", self._blocks.user(event, self._width))

    def _tool(self, event: ToolResult) -> list[str]:
        for touch in event.files:
            if touch.action != "read":
                added, removed = self._changed.get(touch.path, (0, 0))
                self._changed[touch.path] = (added + touch.added, removed + touch.removed)
        arguments = self._arguments.pop(event.call_id, "")
        summary = self._summaries.pop(event.call_id, "")
        if not event.summary:
            event = event.model_copy(update={"summary": summary})
        return self._put("tool", self._blocks.tool(event, arguments, self._width))

    def _retry(self, event: RetryScheduled) -> list[str]:
        void = bool(self._written)
        self._forget()
        return self.notice(self._retries.failed(event.message, void))

    def _ended(self, event: TurnEnded) -> list[str]:
        lines = self._flushed(event)
        # A turn that failed says itself why.
        lines += self.notice(self._retries.over(told=bool(event.detail)))
        lines += self._put("summary", self._blocks.ended(event, self._changed, self._width))
        self._changed.clear()
        self._questions.clear()
        return lines

    def _aside(self, event: Aside) -> list[str]:
        """A question beside the work; the answer may come between two blocks of another one."""
        stream, markdown = MarkdownStream(), MarkdownLines(self._look)
        lines = self._put("user", self._blocks.asked_aside(event, self._width))
        for block in [*stream.feed(event.answer), *stream.end()]:
            made = [text or _empty() for text in self._prose([block], markdown)]
            lines += self._put("prose", made, gap=self._gap("prose", block.gap))
        return lines + self._put("summary", self._blocks.after_aside(event, self._width))

    def _gap(self, kind: Kind, wanted: bool = False) -> bool:
        """Whether an empty line stands before a block of this kind."""
        if self._blank:
            return False
        last = self._last
        match kind:
            case "user" | "summary":
                return True
            case "prose":
                return last in ("user", "tool", "note", "summary") or (wanted and last == "prose")
            case "note":
                return last not in ("start", "note", "tool")
            case "tool" | "thought":
                return last in ("user", "summary")
            case _:
                return False

    def _put(self, kind: Kind, texts: Iterable[Text], gap: bool = False) -> list[str]:
        width = self._width
        made = [self._painter.line(text, width) for text in texts]
        if not made:
            return []
        lines: list[str] = []
        if (gap and not self._blank) or self._gap(kind):
            made.insert(0, "")
        for line in made:
            if line or not self._blank:
                lines.append(line)
            self._blank = not line
        self._last = kind
        return lines


def _empty() -> Text:
    from rich.text import Text

    return Text()
