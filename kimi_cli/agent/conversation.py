"""One conversation as messages for an endpoint, made event by event.

The log keeps what really happened; this is the one place that turns it into messages an endpoint
accepts, and it reports everything it had to mend. What was made once is never touched again, so
every request extends the former one byte for byte and the server's prefix cache can hit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import NAMESPACE_OID, uuid5

from kimi_cli.agent.arguments import sendable
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    AssistantMessage,
    Instructions,
    SessionStarted,
    ToolResult,
    ToolStarted,
    UserMessage,
)
from kimi_cli.protocol.messages import (
    AssistantTurn,
    MediaPart,
    Message,
    OpaquePart,
    SystemMessage,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolTurn,
    UserTurn,
)
from kimi_cli.protocol.provider import Encoder

INTERRUPTED_MARK = "[interrupted here]"
UNKNOWN_RESULT = (
    "interrupted: the program ended while this call was running. It is unknown whether it ran, "
    "wholly or in part: check before you repeat it."
)
NEVER_RAN = "interrupted: the program ended before this call was run."
NO_OUTPUT = "(no output)"


def named(part: MediaPart) -> str:
    """A medium in words, for where it can't be itself."""
    return f"{part.kind} {part.name}" if part.name else part.kind


@dataclass(frozen=True, slots=True)
class Mended:
    """One repair: ``kind`` is a short stable name, ``call_id`` the tool call it concerns."""

    kind: str
    call_id: str | None = None
    detail: str = ""


Kind = Literal["system", "instructions", "pinned", "user", "steer", "program", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a message comes from: its ``kind``, the number of its event, and for a tool's result
    the tool and what it worked on."""

    kind: Kind
    seq: int
    name: str = ""


@dataclass(slots=True)
class _Pending:
    """A call without its result: ``id`` as the log has it, ``call`` as it was sent."""

    id: str
    call: ToolCallPart
    started: bool = False
    result: ToolTurn | None = None
    source: Source = Source("tool", 0)


class Conversation:
    """The messages of one conversation for one encoder; ``sources`` says of each what it is.

    ``clip`` cuts tool results: it gets the event's number and a text, or the URL of a medium,
    which is left out when it would have to be cut."""

    def __init__(self, encoder: Encoder, clip: Callable[[int, str], str] | None = None) -> None:
        self._encoder = encoder
        self._clip = clip
        self._pending: list[_Pending] = []
        self._opened = 0
        self._calls = 0
        self._used: set[str] = set()
        self.messages: list[bytes] = []
        self.sources: list[Source] = []

    @property
    def settled(self) -> list[bytes]:
        """The messages without a last step that still waits for results: a request of them is
        valid at any time."""
        return self.messages[: self._opened] if self._pending else self.messages

    def encode(self, message: Message) -> bytes:
        """A message for the end of a request that is not going to be a part of the conversation."""
        return self._encoder.encode(message).data

    def put(self, message: Message, source: Source) -> list[Mended]:
        """Append a message that no event stands for as it is."""
        return self.close_calls() + self._add(message, source)

    def feed(self, event: Event) -> list[Mended]:
        """Take the next durable event; returns the repairs it needed."""
        if isinstance(event, ToolStarted):
            for waiting in self._pending:
                if waiting.id == event.call_id:
                    waiting.started = True
            return []
        if isinstance(event, ToolResult):
            return self._result(event)
        if isinstance(event, AssistantMessage):
            return self.close_calls() + self._assistant(event)
        if isinstance(event, UserMessage):
            return self.close_calls() + self._user(event)
        if isinstance(event, SessionStarted):
            return self._add(SystemMessage(event.system_prompt), Source("system", event.seq))
        if isinstance(event, Instructions):
            words = UserTurn((TextPart(text=event.text),))
            return self.put(words, Source("instructions", event.seq))
        return []

    def close_calls(self) -> list[Mended]:
        """Give every call that still waits a result that says so; a request may go out now."""
        mended = []
        for waiting in self._pending:
            if waiting.result is None:
                kind = "unknown_result" if waiting.started else "call_never_ran"
                text = UNKNOWN_RESULT if waiting.started else NEVER_RAN
                waiting.result = ToolTurn(
                    waiting.call.id, waiting.call.name, (TextPart(text=text),)
                )
                waiting.source = Source("tool", 0, waiting.call.name)
                mended.append(Mended(kind, waiting.call.id))
        return mended + self._emit_resolved()

    def _user(self, event: UserMessage) -> list[Mended]:
        parts = tuple(p for p in event.parts if isinstance(p, MediaPart) or p.text)
        if not parts:
            return [Mended("empty_user_message")]
        return self._add(UserTurn(parts), Source(event.origin, event.seq))

    def _assistant(self, event: AssistantMessage) -> list[Mended]:
        mended: list[Mended] = []
        parts: list[TextPart | ThinkingPart | ToolCallPart | OpaquePart] = []
        seen: list[str] = []
        for part in event.parts:
            if isinstance(part, ToolCallPart):
                if event.partial:
                    mended.append(Mended("unfinished_call", part.id))
                elif part.id in seen:
                    mended.append(Mended("duplicate_call", part.id))
                else:
                    seen.append(part.id)
                    parts.append(self._sound(part, mended))
            elif isinstance(part, TextPart) and not part.text:
                continue
            else:
                parts.append(part)
        says = any(isinstance(p, TextPart | ToolCallPart) for p in parts)
        if not says:
            return [*mended, Mended("empty_answer")]
        if event.partial:
            parts.append(TextPart(text=INTERRUPTED_MARK))
        turn = AssistantTurn(tuple(parts))
        self._opened = len(self.messages)
        mended += self._add(turn, Source("assistant", event.seq))
        self._pending = [
            _Pending(own, call) for own, call in zip(seen, turn.tool_calls, strict=True)
        ]
        return mended

    def _sound(self, call: ToolCallPart, mended: list[Mended]) -> ToolCallPart:
        self._calls += 1
        arguments = sendable(call.arguments)
        identity = call.id
        if identity in self._used:
            # After a compaction a model may count from the start again, into the kept steps.
            mended.append(Mended("reused_call_id", call.id))
            identity = ""
        elif arguments == call.arguments and identity:
            self._used.add(identity)
            return call
        if arguments is None or (arguments != call.arguments and call.arguments.strip()):
            mended.append(Mended("malformed_arguments", call.id))
        if not call.id:
            mended.append(Mended("missing_call_id"))
        identity = identity or self._new_id()
        self._used.add(identity)
        return ToolCallPart(id=identity, name=call.name, arguments=arguments or "{}")

    def _new_id(self) -> str:
        """An id for a call without one; a UUID, so that no other call's can be the same, made of
        the call's number, so that it is the same each time."""
        return f"call_{uuid5(NAMESPACE_OID, str(self._calls)).hex[:24]}"

    def _result(self, event: ToolResult) -> list[Mended]:
        for waiting in self._pending:
            if waiting.id == event.call_id:
                break
        else:
            return [Mended("orphan_result", event.call_id)]
        if waiting.result is not None:
            return [Mended("duplicate_result", event.call_id)]
        parts = tuple(
            self._cut(event, p) for p in event.parts if isinstance(p, MediaPart) or p.text
        )
        waiting.result = ToolTurn(
            waiting.call.id, waiting.call.name, parts or (TextPart(text=NO_OUTPUT),)
        )
        waiting.source = Source("tool", event.seq, f"{event.name} {event.summary}".strip())
        return self._emit_resolved()

    def _cut(self, event: ToolResult, part: TextPart | MediaPart) -> TextPart | MediaPart:
        if self._clip is None:
            return part
        whole = part.url if isinstance(part, MediaPart) else part.text
        text = self._clip(event.seq, whole)
        if text is whole:
            return part
        if isinstance(part, MediaPart):
            text = f"[{named(part)}: dropped to save context]"
        return TextPart(text=text)

    def _emit_resolved(self) -> list[Mended]:
        """Send out results in call order, as far as they are there."""
        mended: list[Mended] = []
        while self._pending and (result := self._pending[0].result) is not None:
            done = self._pending.pop(0)
            mended += self._add(result, done.source)
        return mended

    def _add(self, message: Message, source: Source) -> list[Mended]:
        encoded = self._encoder.encode(message)
        self.messages.append(encoded.data)
        self.sources.append(source)
        return [Mended(kind) for kind in encoded.repairs]
