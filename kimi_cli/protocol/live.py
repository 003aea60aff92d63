"""Live events: pieces for the eye, never stored."""

from __future__ import annotations

from typing import Literal

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import CompactionReason


class TextDelta(Event):
    type: Literal["text_delta"] = "text_delta"
    text: str


class ThinkingDelta(Event):
    type: Literal["thinking_delta"] = "thinking_delta"
    text: str


class ToolCallDelta(Event):
    type: Literal["tool_call_delta"] = "tool_call_delta"
    index: int
    name: str
    arguments: str


class ToolOutputDelta(Event):
    type: Literal["tool_output_delta"] = "tool_output_delta"
    call_id: str
    text: str


class StepStarted(Event):
    """A request is about to go out."""

    type: Literal["step_started"] = "step_started"


class RetryScheduled(Event):
    """The request failed and is tried again in ``delay`` seconds; text streamed so far is void."""

    type: Literal["retry_scheduled"] = "retry_scheduled"
    error: str
    message: str
    delay: float
    attempt: int
    attempts: int


class CompactionStarted(Event):
    """The model is asked for a hand-off note; ``tokens`` is how full the window is."""

    type: Literal["compaction_started"] = "compaction_started"
    reason: CompactionReason
    tokens: int
    window: int
