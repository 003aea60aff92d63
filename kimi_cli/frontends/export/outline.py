"""A session as people read it: turns, and in them blocks in the order in which they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from kimi_cli.frontends.export.text import one_line
from kimi_cli.protocol.events import (
    Compaction,
    DurableEvent,
    Instructions,
    Origin,
    QuestionAnswered,
    QuestionAsked,
    SessionStarted,
    ToolResult,
    ToolStarted,
    TurnEnded,
)
from kimi_cli.protocol.messages import ContentPart, TextPart, Usage


@dataclass(slots=True, kw_only=True)
class Block:
    """``gone``: a later rewind took it back."""

    gone: bool = False


@dataclass(slots=True)
class Said(Block):
    """A message to the model."""

    origin: Origin
    parts: Sequence[ContentPart]


@dataclass(slots=True)
class Thought(Block):
    text: str
    seconds: float


@dataclass(slots=True)
class Answer(Block):
    text: str


@dataclass(slots=True)
class Cut(Block):
    """The answer was interrupted here."""


@dataclass(slots=True)
class Question:
    asked: QuestionAsked
    answered: QuestionAnswered | None = None


@dataclass(slots=True)
class Call(Block):
    """A tool call. ``arguments`` is None where only the result is recorded; ``cut``: the answer
    was interrupted while it was written."""

    id: str
    name: str
    arguments: str | None
    cut: bool = False
    started: ToolStarted | None = None
    result: ToolResult | None = None
    questions: list[Question] = field(default_factory=list)


@dataclass(slots=True)
class Told(Block):
    """The instructions of the place of work."""

    event: Instructions


@dataclass(slots=True)
class Compacted(Block):
    event: Compaction


@dataclass(slots=True)
class Remark(Block):
    """Any other event that people want to see."""

    event: DurableEvent


@dataclass(slots=True)
class Ended(Block):
    """The end of a turn; ``changed`` has lines added and removed by path."""

    event: TurnEnded
    changed: dict[str, tuple[int, int]]


@dataclass(slots=True)
class Turn:
    """``number`` counts from 1; ``begun`` is in seconds since the epoch. Usage, cost and steps
    are those of its end, or without one what was recorded until then."""

    number: int
    begun: float
    blocks: list[Block] = field(default_factory=list)
    end: TurnEnded | None = None
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    steps: int = 0
    changed: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def request(self) -> str:
        """The user's words, on one line."""
        texts = [
            part.text
            for block in self.blocks
            if isinstance(block, Said) and block.origin == "user"
            for part in block.parts
            if isinstance(part, TextPart)
        ]
        return one_line(" ".join(texts)[:2000], 200)

    @property
    def gone(self) -> bool:
        return bool(self.blocks) and self.blocks[0].gone


@dataclass(slots=True)
class Outline:
    """``models`` in the order of their use; ``first`` and ``last`` are times of events in seconds
    since the epoch; ``before`` is what came before the first turn."""

    session: str
    title: str = ""
    start: SessionStarted | None = None
    models: list[str] = field(default_factory=list)
    tools: list[dict[str, Any]] = field(default_factory=list)
    first: float = 0.0
    last: float = 0.0
    before: list[Block] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    cost: float | None = None
    currency: str | None = None
    steps: int = 0
