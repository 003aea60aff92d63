"""Messages as the conversation means them, before any endpoint's wire format.

Parts are pydantic models because they are stored in events; the message classes are plain
dataclasses because they live only between the projection and a codec.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Part(BaseModel):
    """Base of all parts: immutable, unknown keys kept so that newer sessions survive a read."""

    model_config = ConfigDict(frozen=True, extra="allow", defer_build=True)


class TextPart(Part):
    """Text of the user, the model or a tool."""

    type: Literal["text"] = "text"
    text: str


class ThinkingPart(Part):
    """The model's reasoning, verbatim."""

    type: Literal["thinking"] = "thinking"
    text: str


class ToolCallPart(Part):
    """One call of a tool, exactly as the model wrote it.

    ``arguments`` is the raw JSON text and may be malformed; ``id`` is the model's own, verbatim.
    """

    type: Literal["tool_call"] = "tool_call"
    id: str
    name: str
    arguments: str


class MediaPart(Part):
    """An image or a video; ``url`` is a ``data:`` URL or an ``ms://`` file id
    (platform.moonshot.ai, "Vision")."""

    type: Literal["media"] = "media"
    kind: Literal["image", "video"]
    url: str
    name: str | None = None


class OpaquePart(Part):
    """Provider data that must go back as it came and means nothing to us."""

    type: Literal["opaque"] = "opaque"
    provider: str
    data: Any


AssistantPart = Annotated[
    TextPart | ThinkingPart | ToolCallPart | OpaquePart, Field(discriminator="type")
]
ContentPart = Annotated[TextPart | MediaPart, Field(discriminator="type")]


class Usage(Part):
    """Tokens of one or more requests. ``cached_tokens`` is the part of ``input_tokens`` that the
    server took from its prefix cache."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


def added(one: float | None, other: float | None) -> float | None:
    """A sum of costs; None, for not known, counts only beside another None."""
    return one if other is None else (one or 0.0) + other


@dataclass(frozen=True, slots=True)
class SystemMessage:
    text: str


@dataclass(frozen=True, slots=True)
class UserTurn:
    """A user message as the model is to see it."""

    parts: tuple[TextPart | MediaPart, ...]


@dataclass(frozen=True, slots=True)
class AssistantTurn:
    """An answer of the model as it is to be sent back. Every tool call in it has a result in the
    messages that follow, and arguments that parse to a JSON object: the projection sees to both."""

    parts: tuple[TextPart | ThinkingPart | ToolCallPart | OpaquePart, ...]

    @property
    def tool_calls(self) -> tuple[ToolCallPart, ...]:
        return tuple(p for p in self.parts if isinstance(p, ToolCallPart))


@dataclass(frozen=True, slots=True)
class ToolTurn:
    """The result of one tool call."""

    call_id: str
    name: str
    parts: tuple[TextPart | MediaPart, ...]


Message = SystemMessage | UserTurn | AssistantTurn | ToolTurn
