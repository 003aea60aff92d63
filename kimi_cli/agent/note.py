"""Asks the model for the hand-off note of a compaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kimi_cli.agent.beside import ask
from kimi_cli.agent.listener import retry_event
from kimi_cli.agent.record import Record
from kimi_cli.agent.window import answer_room
from kimi_cli.prompts import load
from kimi_cli.protocol.messages import TextPart, Usage
from kimi_cli.protocol.provider import Completed, Failed, ModelError, ModelRequest, Provider
from kimi_cli.protocol.tools import ToolSchema

LEAST_NOTE = 40
LEAST_ROOM = 1_000
AGAIN = (
    "\n\nYour last answer to this had no text in it. Tools are not run now: write the note itself, "
    "as plain text."
)

CUT_OFF = "\n[The note was cut off here by the output limit.]"


@dataclass(frozen=True, slots=True)
class Note:
    """The model's note, or why there is none (the failed request behind it, if it was one);
    ``usage`` is what asking used."""

    text: str = ""
    failure: str = ""
    error: ModelError | None = None
    usage: Usage = field(default_factory=Usage)


class NoteWriter:
    """The request is the conversation as it stands and one instruction, so the server has all but
    the instruction in its prefix cache."""

    def __init__(self, record: Record, provider: Provider, tools: Sequence[ToolSchema]) -> None:
        self._record = record
        self._provider = provider
        self._tools = tools

    async def write(
        self, focus: str, share: int, window: int, book: Callable[[Usage], None]
    ) -> Note:
        """Ask for a note of about ``share`` tokens, a second time when there was no text. Tool
        calls in the answer are ignored. ``book`` gets what each request used."""
        wish = f"\n\nThe user asks to keep above all: {focus}" if focus else ""
        instruction = load("compaction").format(words=max(share // 2, 100), focus=wish)
        used = Usage()

        def count(usage: Usage) -> None:
            nonlocal used
            used = used + usage
            book(usage)

        for text in (instruction, instruction + AGAIN):
            ahead = self._record.meter.total + self._record.size(text)
            room = answer_room(window, ahead) if window else 0
            if window and room < LEAST_ROOM:
                return Note(failure="there was no room left to ask for one", usage=used)
            answer = await self._ask(text, room, count)
            if isinstance(answer, Failed):
                return Note(failure=answer.error.message, error=answer.error, usage=used)
            note = "".join(p.text for p in answer.parts if isinstance(p, TextPart)).strip()
            if len(note) >= LEAST_NOTE:
                return Note(note + CUT_OFF * (answer.finish_reason == "length"), usage=used)
        return Note(failure="the model gave none", usage=used)

    async def _ask(self, text: str, room: int, book: Callable[[Usage], None]) -> Completed | Failed:
        record, provider = self._record, self._provider
        cap = provider.output_cap
        request = ModelRequest(
            (*record.messages, record.projection.encode_user(text)),
            self._tools,
            max_output_tokens=min(cap, room) if cap and room else None,
            new_tokens=record.meter.uncached + record.size(text),
        )
        return await ask(
            record,
            provider,
            request,
            book=book,
            wait=lambda wait: record.show(retry_event(wait)),
        )
