"""The closed list of events: what happened in a session, in order.

Durable events are whole facts; they are stored first and then published. Live events are pieces
for the eye and are never stored. Front ends render them, ``stream-json`` prints them, tests
assert on them, replay feeds them back.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from kimi_cli.protocol.messages import AssistantPart, ContentPart, Usage
from kimi_cli.protocol.stops import StopReason
from kimi_cli.protocol.workspace import FileTouch

SCHEMA_VERSION = 1

ToolStatus = Literal["ok", "error", "denied", "interrupted"]
Origin = Literal["user", "steer", "program"]


class Event(BaseModel):
    """What every event carries.

    ``seq`` numbers the durable events of one session from 1 (live events repeat the last one);
    ``parent`` is the seq this one follows, so that a fork or a rewind is a new parent and not a
    rewrite. ``turn`` and ``step`` count from 1, 0 is "before the first". ``time`` is seconds
    since the epoch.
    """

    # JSON has no infinity: as null such a number would make the stored event unreadable.
    model_config = ConfigDict(extra="allow", defer_build=True, ser_json_inf_nan="strings")

    v: int = SCHEMA_VERSION
    session: str = ""
    agent: str = "main"
    turn: int = 0
    step: int = 0
    seq: int = 0
    parent: int = 0
    time: float = 0.0


class SessionStarted(Event):
    """The first event: everything that is fixed for the session, as sent to the model."""

    type: Literal["session_started"] = "session_started"
    program: str
    cwd: str
    model: str
    thinking: str
    system_prompt: str
    tools: list[dict[str, Any]]
    forked_from: str | None = None


class SessionResumed(Event):
    """Another process went on with the session."""

    type: Literal["session_resumed"] = "session_resumed"
    program: str
    cwd: str


class UserMessage(Event):
    """A message to the model. ``origin`` "steer" was typed while the model worked, "program" was
    written by `kimi` itself (a reminder, the output of a failed check)."""

    type: Literal["user_message"] = "user_message"
    origin: Origin = "user"
    parts: list[ContentPart]


class AssistantMessage(Event):
    """A whole answer of the model, or what had arrived of one when it was interrupted
    (``partial``)."""

    type: Literal["assistant_message"] = "assistant_message"
    parts: list[AssistantPart]
    finish_reason: str = ""
    usage: Usage | None = None
    cost: float | None = None
    model: str | None = None
    response_id: str | None = None
    partial: bool = False
    salvaged: int = 0
    seconds: float = 0.0
    thinking_seconds: float = 0.0


class ToolStarted(Event):
    """Stored before the tool runs: after a crash it says that the call may have had effects."""

    type: Literal["tool_started"] = "tool_started"
    call_id: str
    name: str
    summary: str = ""


class ToolResult(Event):
    """The end of every tool call, also of one that was refused, failed or was interrupted."""

    type: Literal["tool_result"] = "tool_result"
    call_id: str
    name: str
    status: ToolStatus
    parts: list[ContentPart]
    summary: str = ""
    display: str = ""
    seconds: float = 0.0
    files: list[FileTouch] = []
    data: dict[str, Any] = {}
    output_path: str | None = None


class QuestionAsked(Event):
    """The policy wants a decision. ``choices`` are the answers that make sense."""

    type: Literal["question_asked"] = "question_asked"
    question_id: str
    call_id: str
    tool: str
    text: str
    reason: str
    choices: list[str]


class QuestionAnswered(Event):
    type: Literal["question_answered"] = "question_answered"
    question_id: str
    answer: str
    comment: str = ""
    by: Literal["user", "policy"] = "user"


class ModelChanged(Event):
    """Model or thinking changed; the prefix cache is lost from here."""

    type: Literal["model_changed"] = "model_changed"
    model: str
    thinking: str


class ModeChanged(Event):
    type: Literal["mode_changed"] = "mode_changed"
    mode: str


class Checkpoint(Event):
    """A state of the work tree that can be brought back."""

    type: Literal["checkpoint"] = "checkpoint"
    snapshot: str


class Compaction(Event):
    """The history up to ``upto`` (a seq) is represented by ``note`` and ``pinned`` from here."""

    type: Literal["compaction"] = "compaction"
    upto: int
    note: str
    pinned: list[ContentPart] = []
    mechanical: bool = False
    tokens_before: int = 0
    tokens_after: int = 0


class Repair(Event):
    """Something in the history had to be mended to make a valid request."""

    type: Literal["repair"] = "repair"
    kind: str
    call_id: str | None = None
    detail: str = ""


class Rewind(Event):
    """The conversation goes on from ``to`` (a seq); later events stay in the file."""

    type: Literal["rewind"] = "rewind"
    to: int


class BudgetWarning(Event):
    type: Literal["budget_warning"] = "budget_warning"
    axis: Literal["steps", "tokens", "cost", "seconds"]
    used: float
    limit: float


class Notice(Event):
    """A message for people that is part of the record (a setting ignored, a task left behind)."""

    type: Literal["notice"] = "notice"
    level: Literal["info", "warning", "error"] = "info"
    text: str


class Title(Event):
    type: Literal["title"] = "title"
    text: str


class TurnStarted(Event):
    type: Literal["turn_started"] = "turn_started"


class TurnEnded(Event):
    """The end of every turn; ``answer`` is the model's last text, ``detail`` says more about the
    reason. Usage and cost are the turn's own; ``cost`` None: no price known."""

    type: Literal["turn_ended"] = "turn_ended"
    reason: StopReason
    detail: str = ""
    answer: str = ""
    usage: Usage = Usage()
    cost: float | None = None
    currency: str | None = None
    steps: int = 0
    seconds: float = 0.0


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


DURABLE = (
    SessionStarted,
    SessionResumed,
    UserMessage,
    AssistantMessage,
    ToolStarted,
    ToolResult,
    QuestionAsked,
    QuestionAnswered,
    ModelChanged,
    ModeChanged,
    Checkpoint,
    Compaction,
    Repair,
    Rewind,
    BudgetWarning,
    Notice,
    Title,
    TurnStarted,
    TurnEnded,
)

DurableEvent = Annotated[
    SessionStarted
    | SessionResumed
    | UserMessage
    | AssistantMessage
    | ToolStarted
    | ToolResult
    | QuestionAsked
    | QuestionAnswered
    | ModelChanged
    | ModeChanged
    | Checkpoint
    | Compaction
    | Repair
    | Rewind
    | BudgetWarning
    | Notice
    | Title
    | TurnStarted
    | TurnEnded,
    Field(discriminator="type"),
]

LiveEvent = (
    TextDelta | ThinkingDelta | ToolCallDelta | ToolOutputDelta | StepStarted | RetryScheduled
)


def durable_adapter() -> TypeAdapter[DurableEvent]:
    """The parser of stored events. Building it is costly (tens of ms): only who reads a session
    needs it, and keeps it."""
    return TypeAdapter(DurableEvent)
