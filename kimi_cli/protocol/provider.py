"""The contract between the loop and a model endpoint.

A provider's ``stream`` never raises: what goes wrong is a :class:`Failed` event with a class.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from kimi_cli.protocol.messages import (
    Message,
    OpaquePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    Usage,
)
from kimi_cli.protocol.tools import ToolSchema


class ErrorClass(StrEnum):
    """What kind of failure a request met; the table in ``model.errors`` says what follows."""

    RATE = "rate"
    OVERLOAD = "overload"
    QUOTA = "quota"
    AUTH = "auth"
    PERMISSION = "permission"
    MODEL_MISSING = "model_missing"
    CONTEXT_TOO_LONG = "context_too_long"
    CONTENT_FILTER = "content_filter"
    REQUEST = "request"
    SERVER = "server"
    PROTOCOL = "protocol"
    STALL = "stall"
    NETWORK = "network"


@dataclass(frozen=True, slots=True)
class ModelError:
    """A failed request. ``message`` is for people; ``status`` the HTTP status, if one came;
    ``retry_after`` seconds, if the server named them; ``window`` the context window in tokens that
    a refusal of a request as too long named."""

    kind: ErrorClass
    message: str
    status: int | None = None
    retry_after: float | None = None
    window: int | None = None


@dataclass(frozen=True, slots=True)
class TextDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ThinkingDelta:
    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of a tool call: ``index`` is its place in the answer, counted from 0."""

    index: int
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class RetryWait:
    """The attempt failed and another starts after ``delay`` seconds; whatever was streamed by
    the failed one is void."""

    error: ModelError
    delay: float
    attempt: int
    attempts: int


@dataclass(frozen=True, slots=True)
class Completed:
    """The whole answer. ``salvaged`` counts tool calls recovered from leaked markers, ``lost``
    those that were cut off and could not be: the model meant to go on."""

    parts: tuple[TextPart | ThinkingPart | ToolCallPart | OpaquePart, ...]
    finish_reason: str
    usage: Usage | None = None
    model: str | None = None
    response_id: str | None = None
    salvaged: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed. ``partial`` is what had arrived when the server itself ended the answer
    (a content filter): it was paid for and may be shown."""

    error: ModelError
    partial: Completed | None = None


ModelEvent = TextDelta | ThinkingDelta | ToolCallDelta | RetryWait | Completed | Failed


@dataclass(frozen=True, slots=True)
class Encoded:
    """One message as bytes of JSON ready to be joined, and what had to be changed to get there."""

    data: bytes
    repairs: tuple[str, ...] = ()


class Encoder(Protocol):
    """Turns messages into an endpoint's JSON, in order, once each. It may carry state from one
    message to the next (the running number in tool call ids), so a new conversation, or another
    model, needs a new one."""

    def encode(self, message: Message) -> Encoded: ...


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One request: already encoded ``messages``, oldest first, and the session's fixed tools.

    ``new_tokens`` estimates the part the server cannot have cached (the first-byte watchdog
    scales with it). ``max_output_tokens`` bounds the answer; None: only the provider's own
    ``output_cap`` does.
    """

    messages: Sequence[bytes]
    tools: Sequence[ToolSchema] = field(default_factory=tuple)
    max_output_tokens: int | None = None
    new_tokens: int = 0


class Provider(Protocol):
    """A model endpoint, or something that stands in for one."""

    @property
    def model(self) -> str: ...

    @property
    def window(self) -> int:
        """The context window in tokens, input and answer together; 0: no limit."""
        ...

    @property
    def output_cap(self) -> int | None:
        """The most tokens of an answer that is asked for unless a request says less; None: none
        is, the server takes what is left of the window."""
        ...

    @property
    def counter(self) -> Callable[[str], int] | None:
        """Counts the tokens of a text exactly, offline; None where the tokenizer is not at hand."""
        ...

    async def count(self, request: ModelRequest) -> int | None:
        """The server's own count of a request's input tokens; None where it can't tell. Never
        raises, other than asyncio.CancelledError."""
        ...

    def encoder(self) -> Encoder: ...

    def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Yield deltas and at the end exactly one Completed or Failed. Never raises, other than
        asyncio.CancelledError when its task is cancelled."""
        ...

    async def close(self) -> None: ...
