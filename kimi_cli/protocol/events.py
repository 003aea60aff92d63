"""The closed list of events: what happened in a session, in order.

Durable events are whole facts; they are stored first and then published. Front ends render them,
``stream-json`` prints them, tests assert on them, replay feeds them back. Live events, pieces for
the eye that are never stored, are in ``live.py``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kimi_cli.protocol.event import Event
from kimi_cli.protocol.messages import AssistantPart, ContentPart, Usage
from kimi_cli.protocol.sandbox import SandboxMode, Way
from kimi_cli.protocol.stops import StopReason
from kimi_cli.protocol.workspace import FileTouch

ToolStatus = Literal["ok", "error", "denied", "interrupted"]
Origin = Literal["user", "steer", "program"]
CompactionReason = Literal["window", "server", "manual"]
CheckpointMoment = Literal["turn_start", "turn_end", "before_undo", "after_undo"]
RewindKind = Literal["undo", "redo", "rewind"]


class SessionStarted(Event):
    """The first event: everything that is fixed for the session, as sent to the model.

    ``dialect`` and ``window`` (tokens, 0: not known) are those of the endpoint at that time.
    ``root`` is the top of the project that holds ``cwd``; "": ``cwd`` itself, or not known."""

    type: Literal["session_started"] = "session_started"
    program: str
    cwd: str
    root: str = ""
    model: str
    thinking: str
    system_prompt: str
    tools: list[dict[str, Any]]
    forked_from: str | None = None
    dialect: str = ""
    window: int = 0


class InstructionFile(BaseModel):
    """An AGENTS.md as the model got it; ``digest`` is the SHA-256 of the file, ``clipped`` says
    that not all of it fitted."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    path: str
    digest: str
    clipped: bool = False
    trusted: bool = True


class Instructions(Event):
    """The instructions for the place of work, merged from their files: a message to the model.
    A later one, of files that changed, takes the place of the former at the next compaction."""

    type: Literal["instructions"] = "instructions"
    files: list[InstructionFile]
    text: str


class SessionResumed(Event):
    """Another process went on with the session."""

    type: Literal["session_resumed"] = "session_resumed"
    program: str
    cwd: str
    dialect: str = ""
    window: int = 0


class UserMessage(Event):
    """A message to the model. ``origin`` "steer" was typed while the model worked, "program" was
    written by `kimi` itself (a reminder, the output of a failed check). ``mode`` is the one that
    the message tells the model of, "" where it is about something else."""

    type: Literal["user_message"] = "user_message"
    origin: Origin = "user"
    parts: list[ContentPart]
    mode: str = ""


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
    files: list[FileTouch] = Field(default_factory=list)
    data: dict[str, Any] = Field(default_factory=dict)
    output_path: str | None = None


class QuestionAsked(Event):
    """The policy wants a decision. ``choices`` are the answers that make sense: "once", "no", and
    where ``rule`` names what would be written, "session" and "project" (from now on without
    asking). ``marks`` are the character ranges of the command that need the decision; ``grant``
    says in words what a yes lets the call do beyond the sandbox. ``preview`` is exactly what will
    happen: the whole command, which the marks are ranges of, or a unified diff."""

    type: Literal["question_asked"] = "question_asked"
    question_id: str
    call_id: str
    tool: str
    text: str
    reason: str
    choices: list[str]
    rule: str = ""
    grant: str = ""
    marks: list[tuple[int, int]] = Field(default_factory=list)
    preview: str = ""


class QuestionAnswered(Event):
    type: Literal["question_answered"] = "question_answered"
    question_id: str
    answer: str
    comment: str = ""
    by: Literal["user", "policy"] = "user"


class ModelChanged(Event):
    """Model or thinking changed; the prefix cache is lost from here. ``window`` (tokens, 0: not
    known) and ``dialect`` are those of the model from here."""

    type: Literal["model_changed"] = "model_changed"
    model: str
    thinking: str
    window: int = 0
    dialect: str = ""


class Confined(Event):
    """What holds for the commands of a session from here: the sandbox's ``mode``, the ``way`` it is
    enforced, whether commands reach the ``network``, and in words what this machine ``lacks`` to
    hold all of it."""

    type: Literal["confined"] = "confined"
    mode: SandboxMode
    way: Way
    network: bool = False
    lacks: list[str] = Field(default_factory=list)


class ModeChanged(Event):
    """The session works in another mode (see ``protocol.modes``) from here. The model hears of it
    by a message of its own."""

    type: Literal["mode_changed"] = "mode_changed"
    mode: str


class Checkpoint(Event):
    """A state of the workspace's files that can be brought back.

    A turn that changes files has one before its first change and one at its end; a rewind that
    restores files has one before and one after. ``snapshot`` "" could not be made: ``failure``
    says why. ``folders`` are those it covers, ``left_out`` names files in them that it does not
    (the first of ``left_out_count``)."""

    type: Literal["checkpoint"] = "checkpoint"
    snapshot: str
    moment: CheckpointMoment = "turn_start"
    folders: list[str] = Field(default_factory=list)
    left_out: list[str] = Field(default_factory=list)
    left_out_count: int = 0
    failure: str = ""


class Kept(BaseModel):
    """What a compaction kept, in numbers. ``spilled`` are the files that hold what was too long."""

    model_config = ConfigDict(frozen=True, defer_build=True)

    user_messages: int = 0
    clipped_messages: int = 0
    todos: int = 0
    files_changed: int = 0
    files_read: int = 0
    recent_steps: int = 0
    dropped_steps: int = 0
    spilled: list[str] = []


class Compaction(Event):
    """The history up to ``upto`` (a seq) is represented by ``pinned``, one user message, from
    here.

    ``pinned`` holds what was kept word for word and the hand-off ``note``, which is the model's
    own, or made of the record (``mechanical``, and ``failure`` then says why). ``reason``: the
    window was nearly full, the server refused the request as too long, or somebody asked for it,
    with ``focus``. ``window`` is the limit in tokens that held then, ``usage`` and ``cost`` are
    those of the request for the note."""

    type: Literal["compaction"] = "compaction"
    upto: int
    note: str
    pinned: list[ContentPart] = Field(default_factory=list)
    mechanical: bool = False
    failure: str = ""
    reason: CompactionReason = "window"
    focus: str = ""
    kept: Kept = Kept()
    tokens_before: int = 0
    tokens_after: int = 0
    window: int = 0
    usage: Usage | None = None
    cost: float | None = None
    seconds: float = 0.0


class Aside(Event):
    """A question beside the work and the model's answer: neither is in the context. ``partial``:
    the answer was cut off. Usage and cost are those of the question alone, also within a turn,
    whose own do not hold them."""

    type: Literal["aside"] = "aside"
    question: str
    answer: str
    usage: Usage | None = None
    cost: float | None = None
    currency: str | None = None
    seconds: float = 0.0
    partial: bool = False


class Shrink(Event):
    """Results of tools up to ``upto`` (a seq) are sent cut to ``limit`` bytes from here, and media
    larger than that left out, because the server refused the request as too long. ``window`` is the
    limit that the server is now taken to have."""

    type: Literal["shrink"] = "shrink"
    upto: int
    limit: int
    tokens_before: int = 0
    tokens_after: int = 0
    window: int = 0


class Repair(Event):
    """Something in the history had to be mended to make a valid request."""

    type: Literal["repair"] = "repair"
    kind: str
    call_id: str | None = None
    detail: str = ""


class RewindStarted(Event):
    """Files are about to be restored, which takes many steps. Where no Rewind follows, it was cut
    short and is completed first of all when the session is opened again. The fields are those of
    the Rewind to come; ``before`` is the snapshot of the files as they were."""

    type: Literal["rewind_started"] = "rewind_started"
    what: RewindKind
    target: int = 0
    to: int = 0
    conversation: bool = True
    checkpoint: int = 0
    undoes: int | None = None
    before: str = ""
    forced: bool = False


class Rewind(Event):
    """The conversation goes on as it was after event ``to`` (a seq), later events stay in the
    file; or files were restored to the state of the event ``checkpoint`` (a seq); or both.

    ``to`` may lie on a branch that was taken back before: that brings it back. ``target`` is the
    turn before which it goes back, 0 where that is not said. ``undoes`` is the seq of the Rewind
    that a "redo" reverses. ``restored`` counts the files."""

    type: Literal["rewind"] = "rewind"
    to: int
    what: RewindKind = "rewind"
    target: int = 0
    conversation: bool = True
    files: bool = False
    checkpoint: int = 0
    undoes: int | None = None
    restored: int = 0


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
    """``currency`` is that of all costs from here, None: no price known. A turn that is killed has
    no end to say it."""

    type: Literal["turn_started"] = "turn_started"
    currency: str | None = None


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


DURABLE = (
    SessionStarted,
    SessionResumed,
    Instructions,
    UserMessage,
    AssistantMessage,
    ToolStarted,
    ToolResult,
    QuestionAsked,
    QuestionAnswered,
    ModelChanged,
    Confined,
    ModeChanged,
    Checkpoint,
    Compaction,
    Aside,
    Shrink,
    Repair,
    RewindStarted,
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
    | Instructions
    | UserMessage
    | AssistantMessage
    | ToolStarted
    | ToolResult
    | QuestionAsked
    | QuestionAnswered
    | ModelChanged
    | Confined
    | ModeChanged
    | Checkpoint
    | Compaction
    | Aside
    | Shrink
    | Repair
    | RewindStarted
    | Rewind
    | BudgetWarning
    | Notice
    | Title
    | TurnStarted
    | TurnEnded,
    Field(discriminator="type"),
]
