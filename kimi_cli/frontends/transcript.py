"""Prints a session's events as lines that stay: what a person reads in the scrollback."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from kimi_cli.frontends.plain import (
    clean,
    clean_block,
    compacted,
    compacting,
    counted,
    seconds,
    shrunk,
    spent,
)
from kimi_cli.frontends.wrap import StreamWrap
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    Compaction,
    Notice,
    Shrink,
    ToolResult,
    TurnEnded,
    TurnStarted,
    UserMessage,
)
from kimi_cli.protocol.live import (
    CompactionStarted,
    RetryScheduled,
    TextDelta,
    ThinkingDelta,
)
from kimi_cli.protocol.messages import TextPart

OUTPUT_LINES = 8
HEADS = ("---", "+++", "diff ", "index ", "new file ")
STYLES = {"thinking": "dim italic"}
DIFF_LINES = 40


class Transcript:
    """A listener for a session. Thinking and text appear as they stream, two columns in."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._streaming: str | None = None
        self._wrap = StreamWrap(console.width, "  ")
        utf8 = (console.encoding or "").lower().startswith("utf")
        self._user, self._call, self._think = ("›", "●", "✻") if utf8 else (">", "*", "~")
        self._changed: dict[str, tuple[int, int]] = {}
        self._currency: str | None = None

    def __call__(self, event: Event) -> None:
        match event:
            case ThinkingDelta():
                self._stream("thinking", event.text)
            case TextDelta():
                self._stream("text", event.text)
            case UserMessage():
                text = "".join(p.text for p in event.parts if isinstance(p, TextPart))
                self._line(f"{self._user} {text}", "bold")
            case AssistantMessage():
                self._end_stream()
            case ToolResult():
                self._tool(event)
            case RetryScheduled():
                self._end_stream()
                self._line(f"  {event.message} · next try in {seconds(event.delay)}", "yellow")
            case CompactionStarted():
                self._line(f"  {compacting(event)}", "dim")
            case TurnStarted():
                self._currency = event.currency
            case Compaction():
                self._line(f"  {compacted(event, self._currency)}", "dim")
            case Shrink():
                self._line(f"  {shrunk(event)}", "dim")
            case Notice():
                self._line(f"  {event.text}", "dim")
            case TurnEnded():
                self._end_stream()
                self._summary(event)

    def _stream(self, kind: str, text: str) -> None:
        if self._streaming != kind:
            self._end_stream()
            self._console.print()
            text = text.lstrip("\n")
            first = f"{self._think} " if kind == "thinking" else ""
            self._wrap = StreamWrap(self._console.width, "  ", first)
        self._streaming = kind
        self._write(self._wrap.feed(clean_block(text)))

    def _end_stream(self) -> None:
        if self._streaming:
            self._write(self._wrap.end() + "\n")
            self._streaming = None

    def _write(self, text: str) -> None:
        style = STYLES.get(self._streaming or "", "")
        self._console.print(Text(text, style), end="", soft_wrap=True)

    def _tool(self, event: ToolResult) -> None:
        pieces = [f"{event.name} {event.summary}".strip(), event.display]
        pieces.append("" if event.status == "ok" or event.display else event.status)
        pieces.append(seconds(event.seconds))
        outcome = clean(" · ".join(dict.fromkeys(p for p in pieces if p)))
        style = {"ok": "green", "error": "red"}.get(event.status, "yellow")
        self._console.print(Text(f"{self._call} ", style).append(outcome, "default"))
        for touch in event.files:
            if touch.action != "read":
                added, removed = self._changed.get(touch.path, (0, 0))
                self._changed[touch.path] = (added + touch.added, removed + touch.removed)
                self.diff(touch.diff)
        if event.name == "shell" or event.status != "ok":
            text = "".join(p.text for p in event.parts if isinstance(p, TextPart))
            self._tail(text)

    def diff(self, diff: str) -> None:
        """Print the hunks of a unified diff, green and red, cut to a few lines."""
        lines = [line for line in clean_block(diff).splitlines() if not line.startswith(HEADS)]
        for line in lines[:DIFF_LINES]:
            style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
            self._line(f"    {line}", style)
        if len(lines) > DIFF_LINES:
            self._line(f"    … {len(lines) - DIFF_LINES} more lines", "dim")

    def _tail(self, text: str) -> None:
        lines = clean_block(text).strip("\n").splitlines()
        if len(lines) > OUTPUT_LINES:
            self._line(f"    … {len(lines) - OUTPUT_LINES} lines", "dim")
        for line in lines[-OUTPUT_LINES:]:
            self._line(f"    {line}", "dim")

    def _summary(self, event: TurnEnded) -> None:
        added = sum(a for a, _ in self._changed.values())
        removed = sum(r for _, r in self._changed.values())
        count = len(self._changed)
        pieces = [
            f"{counted(count, 'file')} +{added} -{removed}" if count else "",
            spent(event.steps, event.usage, event.cost, event.currency, event.seconds),
        ]
        self._console.print()
        self._line("  " + " · ".join(p for p in pieces if p), "dim")

    def _line(self, text: str, style: str = "") -> None:
        self._end_stream()
        self._console.print(Text(clean_block(text), style), soft_wrap=True)
