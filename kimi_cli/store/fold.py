"""What a session's log adds up to, line by line, so that a longer log is read from where the
shorter one ended.

The end of a turn says what the turn used, which no sum of its answers does: an endpoint may give no
usage, and an answer that was cut off has none. Answers count only while their turn has no end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from kimi_cli.protocol.event import SCHEMA_VERSION
from kimi_cli.store.events_file import parse_object, whole
from kimi_cli.store.titles import one_line, title_of

TAIL = 64
LARGEST = 1e15
# How our own lines begin; one in another form is parsed whole.
_OURS = tuple(b'{"v":%d,"session":"' % version for version in range(1, SCHEMA_VERSION + 1))
_TYPE = b'"type":"'
_NOT_COUNTED = frozenset(
    {
        *(b"tool_started", b"tool_result", b"instructions", b"repair"),
        *(b"question_asked", b"question_answered", b"mode_changed", b"checkpoint", b"shrink"),
        *(b"rewind_started", b"budget_warning", b"notice"),
    }
)


@dataclass(slots=True)
class Fold:
    """The sum of the first ``offset`` bytes of a log; ``tail`` are the last of them, in hex, by
    which a log is known again. ``said`` is the title that the first message gives, ``said_at`` its
    number; ``unsaid``: it was taken back, and the next one counts. ``title`` is the one that
    somebody gave. ``spoken``: there is a message of the user. ``before``: ``spent`` as it was when
    the running turn began, None while none runs."""

    offset: int = 0
    tail: str = ""
    begun: bool = False
    spoken: bool = False
    version: int = 0
    cwd: str = ""
    model: str = ""
    forked_from: str | None = None
    created: float = 0.0
    said: str = ""
    said_at: int = 0
    unsaid: bool = False
    title: str = ""
    turns: int = 0
    steps: int = 0
    compactions: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = None
    currency: str | None = None
    last_reason: str = ""
    before: Sequence[Any] | None = None

    def continues(self, file: BinaryIO, size: int) -> bool:
        """Whether the open log of ``size`` bytes starts with what was summed up."""
        if not 0 < self.offset <= size:
            return False
        file.seek(max(self.offset - TAIL, 0))
        return file.read(min(TAIL, self.offset)).hex() == self.tail

    def read(self, file: BinaryIO, size: int) -> None:
        """Go on with the open log up to ``size`` bytes; an unfinished last line is left."""
        start = self.offset
        file.seek(start)
        for line in file:
            if not line.endswith(b"\n") or self.offset + len(line) > size:
                break
            self._add(line)
            self.offset += len(line)
        if self.offset > start:
            file.seek(max(self.offset - TAIL, 0))
            self.tail = file.read(min(TAIL, self.offset)).hex()

    def _add(self, line: bytes) -> None:
        if line.startswith(_OURS):
            self.version = max(self.version, line[5] - ord("0"))
            start = line.find(_TYPE) + len(_TYPE)
            if line[start : line.find(b'"', start)] in _NOT_COUNTED:
                return
        event = parse_object(line)
        if event is None:
            return
        self.version = max(self.version, whole(event, "v"))
        match event.get("type"):
            case "session_started":
                self._begin(event)
            case "model_changed":
                self.model = _text(event.get("model"))
            case "user_message":
                if event.get("origin", "user") == "user":
                    self._hear(event.get("parts"), whole(event, "seq"))
            case "assistant_message":
                self.steps += event.get("partial") is not True
                self._spend(event)
            case "compaction":
                self.compactions += 1
                self._spend(event)
            case "aside":
                self._spend(event)
                if self.before is not None:
                    self.before = self._with(self.before, event)
            case "title":
                self.title = one_line(_text(event.get("text")))[:500]
            case "turn_started":
                self.turns += 1
                self.last_reason = ""
                self.currency = _text(event.get("currency")) or self.currency
                self.before = self.spent
            case "rewind":
                if event.get("conversation") is not False:
                    self.unsaid = whole(event, "to") < self.said_at
            case "session_resumed":
                # A turn that was not ended will not be any more.
                self.before = None
            case "turn_ended":
                self.last_reason = _text(event.get("reason"))
                self.currency = _text(event.get("currency")) or self.currency
                self._settle(event)

    def _begin(self, event: dict[str, Any]) -> None:
        if self.begun:
            return
        self.begun = True
        self.cwd = _text(event.get("cwd"))
        self.model = _text(event.get("model"))
        self.forked_from = _text(event.get("forked_from")) or None
        self.created = _number(event.get("time"))

    def _hear(self, parts: object, seq: int) -> None:
        self.spoken = True
        if (self.said and not self.unsaid) or not isinstance(parts, list):
            return
        known = [part for part in parts if isinstance(part, dict)]
        titles = (title_of(_text(part.get("text"))) for part in known)
        media = (f"[{one_line(_text(p.get('kind')))}]" for p in known if p.get("type") == "media")
        self.said = next(filter(None, titles), "") or next(media, "")
        self.said_at, self.unsaid = seq, False

    @property
    def spent(self) -> tuple[int, int, int, int, float | None]:
        used = (self.input_tokens, self.output_tokens, self.cached_tokens)
        return (self.steps, *used, self.cost)

    def _settle(self, event: dict[str, Any]) -> None:
        """Take the end's word for what the turn used."""
        if self.before is not None and isinstance(event.get("usage"), dict):
            self.steps, self.input_tokens, self.output_tokens, self.cached_tokens, self.cost = (
                self.before
            )
            self.steps += whole(event, "steps")
            self._spend(event)
        self.before = None

    def _with(self, spent: Sequence[Any], event: dict[str, Any]) -> Sequence[Any]:
        """What was spent, and what the event did beside it."""
        other = Fold()
        other.steps, other.input_tokens, other.output_tokens, other.cached_tokens, other.cost = (
            spent
        )
        other._spend(event)
        return other.spent

    def _spend(self, event: dict[str, Any]) -> None:
        usage = event.get("usage")
        if isinstance(usage, dict):
            self.input_tokens += whole(usage, "input_tokens")
            self.output_tokens += whole(usage, "output_tokens")
            self.cached_tokens += whole(usage, "cached_tokens")
        cost = event.get("cost")
        if cost is not None:
            self.cost = (self.cost or 0.0) + _number(cost)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float:
    # Neither NaN nor what no float holds: one damaged line must not spoil the list.
    if isinstance(value, int | float) and -LARGEST < value < LARGEST:
        return float(value)
    return 0.0
