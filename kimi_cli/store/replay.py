"""A recorded session that stands in for a model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any, assert_never

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    SessionStarted,
)
from kimi_cli.protocol.messages import (
    AssistantTurn,
    MediaPart,
    Message,
    SystemMessage,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolTurn,
    UserTurn,
)
from kimi_cli.protocol.provider import (
    Completed,
    Encoded,
    ErrorClass,
    Failed,
    ModelError,
    ModelEvent,
    ModelRequest,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)

PIECE = 16


class RecordedProvider:
    """Answers every request with the next whole answer of a recording, whatever is asked.

    ``events`` are those of a session, in order; answers that were interrupted are left out.
    ``pace`` is the seconds to wait before each piece of the stream. ``model`` is the one that the
    session started with.
    """

    def __init__(self, events: Iterable[Event], pace: float = 0.0) -> None:
        self.model = ""
        self._answers: list[AssistantMessage] = []
        self._next = 0
        self._pace = pace
        for event in events:
            if isinstance(event, SessionStarted):
                self.model = self.model or event.model
            elif isinstance(event, AssistantMessage) and not event.partial:
                self._answers.append(event)

    @property
    def window(self) -> int:
        """A recording answers whatever it is asked, however long."""
        return 0

    @property
    def output_cap(self) -> int | None:
        return None

    @property
    def counter(self) -> Callable[[str], int] | None:
        return None

    async def count(self, request: ModelRequest) -> int | None:
        return None

    def encoder(self) -> RecordedEncoder:
        return RecordedEncoder()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """The next recorded answer in small pieces, then as a whole."""
        if self._next >= len(self._answers):
            yield Failed(
                ModelError(
                    ErrorClass.PROTOCOL,
                    f"the recording has no more answers after {len(self._answers)}",
                )
            )
            return
        answer = self._answers[self._next]
        self._next += 1
        for piece in pieces(answer):
            if self._pace:
                await asyncio.sleep(self._pace)
            yield piece
        yield completed(answer)

    async def close(self) -> None:
        pass


def completed(answer: AssistantMessage) -> Completed:
    """A recorded answer as a provider gives it."""
    return Completed(
        parts=tuple(answer.parts),
        finish_reason=answer.finish_reason,
        usage=answer.usage,
        model=answer.model,
        response_id=answer.response_id,
        salvaged=answer.salvaged,
    )


def pieces(answer: AssistantMessage) -> Iterator[ThinkingDelta | TextDelta | ToolCallDelta]:
    """A recorded answer as it may have streamed in: a few characters at a time."""
    calls = 0
    for part in answer.parts:
        if isinstance(part, ThinkingPart):
            yield from (ThinkingDelta(text) for text in _cut(part.text))
        elif isinstance(part, TextPart):
            yield from (TextDelta(text) for text in _cut(part.text))
        elif isinstance(part, ToolCallPart):
            for text in _cut(part.arguments) or [""]:
                yield ToolCallDelta(calls, part.name, text)
            calls += 1


def _cut(text: str) -> list[str]:
    return [text[start : start + PIECE] for start in range(0, len(text), PIECE)]


class RecordedEncoder:
    """Messages in the plain form of chat completions; nobody but the projection reads them."""

    def encode(self, message: Message) -> Encoded:
        return Encoded(json.dumps(_plain(message)).encode())


def _plain(message: Message) -> dict[str, Any]:
    match message:
        case SystemMessage(text):
            return {"role": "system", "content": text}
        case UserTurn(parts):
            return {"role": "user", "content": _content(parts)}
        case ToolTurn(call_id, _, parts):
            return {"role": "tool", "tool_call_id": call_id, "content": _content(parts)}
        case AssistantTurn(parts):
            texts = [part.text for part in parts if isinstance(part, TextPart)]
            thinking = [part.text for part in parts if isinstance(part, ThinkingPart)]
            calls = [
                {
                    "id": call.id,
                    "type": "function",
                    "function": {"name": call.name, "arguments": call.arguments},
                }
                for call in message.tool_calls
            ]
            plain: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None}
            if thinking:
                plain["reasoning_content"] = "".join(thinking)
            if calls:
                plain["tool_calls"] = calls
            return plain
    assert_never(message)


def _content(parts: Iterable[TextPart | MediaPart]) -> list[dict[str, Any]]:
    return [part.model_dump(mode="json") for part in parts]
