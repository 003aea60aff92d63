"""What a front end asks of a session; also the lines of ``--input-format stream-json``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from kimi_cli.protocol.messages import ContentPart
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
    """Stop the running turn now."""

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


AnyOperation = Annotated[Say | Steer | Interrupt | Answer | Compact, Field(discriminator="type")]


def operation_adapter() -> TypeAdapter[AnyOperation]:
    """The parser of operations that arrive as JSON."""
    return TypeAdapter(AnyOperation)
