"""Events that are neither said nor done by anybody, each in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import compacted, confinement, counted, moment, share, shrunk
from kimi_cli.frontends.terminal.paint import one_line
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    BudgetWarning,
    Checkpoint,
    Compaction,
    Confined,
    Instructions,
    ModeChanged,
    ModelChanged,
    Notice,
    Rewind,
    SessionResumed,
    Shrink,
)

if TYPE_CHECKING:
    from kimi_cli.frontends.terminal.look import Look


class Remarks:
    """Called with an event it gives a sentence and its style; an empty one for what people need
    not know. ``currency`` is that of costs."""

    def __init__(self, look: Look) -> None:
        self.currency: str | None = None
        self._dot = f" {look.dot} "
        self._confined = ""

    def __call__(self, event: Event) -> tuple[str, str]:
        match event:
            case Compaction():
                return compacted(event, self.currency), "dim"
            case Shrink():
                return shrunk(event), "dim"
            case Notice():
                return event.text, {"warning": "warn", "error": "bad"}.get(event.level, "dim")
            case BudgetWarning():
                return (
                    f"{share(event.used, event.limit)} of the limit of {event.axis} is used",
                    "warn",
                )
            case Instructions():
                cut = sum(file.clipped for file in event.files)
                files = counted(len(event.files), "file") + f", {cut} cut" * bool(cut)
                return f"AGENTS.md: {files}", "dim"
            case Confined():
                return self._confinement(event)
            case ModeChanged():
                return f"mode {one_line(event.mode)}", "dim"
            case ModelChanged():
                thinking = f"{self._dot}thinking {one_line(event.thinking)}" * bool(event.thinking)
                return f"model {one_line(event.model)}{thinking}", "dim"
            case Checkpoint() if event.failure:
                return f"no way back from here: {one_line(event.failure)}", "warn"
            case Rewind():
                return _rewound(event), "dim"
            case SessionResumed():
                return f"resumed {moment(event.time)}".rstrip(), "dim"
            case _:
                return "", ""

    def _confinement(self, event: Confined) -> tuple[str, str]:
        """What holds for commands, where it is not what the first words of the screen say."""
        said, before = confinement(event), self._confined
        self._confined = said
        if said == before or not (before or event.lacks):
            return "", ""
        return said, "warn" if event.lacks else "dim"


class Retries:
    """What the scrollback says of a row of failures: while it lasts, the live region tells of it,
    so there is one line at its end."""

    def __init__(self, look: Look) -> None:
        self._dot = f" {look.dot} "
        self._why = ""
        self._count = 0
        self._told = False

    def failed(self, message: str, void: bool) -> str:
        """A request failed. What to say at once: where lines of its answer are in the scrollback
        (``void``), that they don't count; else "" ."""
        self._count += 1
        self._why = one_line(message)
        if not void:
            return ""
        words = "the answer begins again"
        words = words if self._told else f"{self._why}{self._dot}{words}"
        self._told = True
        return words

    def over(self, told: bool = False) -> str:
        """The row is over. What there is to say: why, and how often; "" where it was ``told``."""
        told = told or self._told
        tries = f"{self._count} tries" if self._count > 1 else "one try"
        words = f"{self._why}{self._dot}{tries} failed" if self._count and not told else ""
        self._why, self._count, self._told = "", 0, False
        return words


def _rewound(event: Rewind) -> str:
    """What an undo, a redo or a rewind did, in one line."""
    done = {"undo": "undone", "redo": "redone"}.get(event.what, "went back")
    files = f"{counted(event.restored, 'file')} restored" if event.files else ""
    talk = "the conversation goes on from there" if event.conversation else "the conversation stays"
    return ", ".join(piece for piece in (f"{done}: {files or 'no file changed'}", talk) if piece)
