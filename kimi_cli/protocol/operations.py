"""What a front end asks of a session; also the lines of ``--input-format stream-json``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from kimi_cli.protocol.messages import ContentPart
from kimi_cli.protocol.modes import Mode
from kimi_cli.protocol.stops import StopReason


class Operation(BaseModel):
    model_config = ConfigDict(extra="forbid", defer_build=True)


class Say(Operation):
    """A user message. While a turn runs it waits for the end of it. ``text`` and ``parts`` may
    be given together; the text comes first."""

    type: Literal["user_message"] = "user_message"
    text: str = ""
    parts: list[ContentPart] = []


class Steer(Operation):
    """A message for the running turn: delivered after its current step."""

    type: Literal["steer"] = "steer"
    text: str


class Interrupt(Operation):
    """Stop the running turn now; where none runs, the user's own commands."""

    type: Literal["interrupt"] = "interrupt"
    reason: Literal[StopReason.INTERRUPTED, StopReason.TERMINATED] = StopReason.INTERRUPTED


class Answer(Operation):
    """The answer to an open question."""

    type: Literal["answer"] = "answer"
    question_id: str
    answer: str
    comment: str = ""


class Compact(Operation):
    """Compact the context: now, or after the running step. ``focus`` tells the model what to keep
    above all."""

    type: Literal["compact"] = "compact"
    focus: str = ""


class SetMode(Operation):
    """Work in another mode from now on, also while a turn runs."""

    type: Literal["set_mode"] = "set_mode"
    mode: Mode


class SetModel(Operation):
    """Go on with another model, or another way of thinking; None leaves it as it is. A running
    turn ends with what it began with."""

    type: Literal["set_model"] = "set_model"
    model: str | None = Field(None, min_length=1)
    thinking: str | None = None


class Background(Operation):
    """Let the commands that the turn waits for run on in the background."""

    type: Literal["background"] = "background"


class Undo(Operation):
    """Take the last turn back, between turns. ``force`` writes over files that somebody else has
    changed since."""

    type: Literal["undo"] = "undo"
    force: bool = False


class Redo(Operation):
    """Bring back what was taken back last, between turns."""

    type: Literal["redo"] = "redo"
    force: bool = False


class Rename(Operation):
    """Give the session a title."""

    type: Literal["rename"] = "rename"
    text: str


BetweenTurns = SetModel | Undo | Redo
"""What waits for the running turn, and for the messages that came before it."""

AnyOperation = Annotated[
    Say
    | Steer
    | Interrupt
    | Answer
    | Compact
    | SetMode
    | SetModel
    | Background
    | Undo
    | Redo
    | Rename,
    Field(discriminator="type"),
]


def operation_adapter() -> TypeAdapter[AnyOperation]:
    """The parser of operations that arrive as JSON."""
    return TypeAdapter(AnyOperation)
