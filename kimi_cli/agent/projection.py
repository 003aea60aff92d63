"""Raw history in, a valid request out.

The log keeps what really happened; this is the one place that turns it into messages an endpoint
accepts, and it reports everything it had to mend. It works event by event: what was projected
once is never touched again, so between compactions every request extends the former one byte for
byte and the server's prefix cache can hit. Feeding a fresh :class:`Projection` the whole log
gives the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import NAMESPACE_OID, uuid5

from kimi_cli.agent.arguments import sendable
from kimi_cli.protocol.event import (
    Event,
)
from kimi_cli.protocol.events import (
    AssistantMessage,
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


@dataclass(frozen=True, slots=True)
class Mended:
    """One repair: ``kind`` is a short stable name, ``call_id`` the tool call it concerns."""

    kind: str
    call_id: str | None = None
    detail: str = ""


@dataclass(slots=True)
class _Pending:
    """A call without its result: ``id`` as the log has it, ``call`` as it was sent."""

    id: str
    call: ToolCallPart
    started: bool = False
    result: ToolTurn | None = None


class Projection:
    """An incremental projection of one conversation for one encoder."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._pending: list[_Pending] = []
        self._calls = 0
        self.messages: list[bytes] = []

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
            return self._add(SystemMessage(event.system_prompt))
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
                mended.append(Mended(kind, waiting.call.id))
        return mended + self._emit_resolved()

    def _user(self, event: UserMessage) -> list[Mended]:
        parts = tuple(p for p in event.parts if isinstance(p, MediaPart) or p.text)
        if not parts:
            return [Mended("empty_user_message")]
        return self._add(UserTurn(parts))

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
        mended += self._add(turn)
        self._pending = [
            _Pending(own, call) for own, call in zip(seen, turn.tool_calls, strict=True)
        ]
        return mended

    def _sound(self, call: ToolCallPart, mended: list[Mended]) -> ToolCallPart:
        self._calls += 1
        arguments = sendable(call.arguments)
        if arguments == call.arguments and call.id:
            return call
        if arguments is None or (arguments != call.arguments and call.arguments.strip()):
            mended.append(Mended("malformed_arguments", call.id))
        if not call.id:
            mended.append(Mended("missing_call_id"))
        return ToolCallPart(
            id=call.id or self._new_id(), name=call.name, arguments=arguments or "{}"
        )

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
        parts = tuple(p for p in event.parts if isinstance(p, MediaPart) or p.text)
        waiting.result = ToolTurn(
            waiting.call.id, waiting.call.name, parts or (TextPart(text=NO_OUTPUT),)
        )
        return self._emit_resolved()

    def _emit_resolved(self) -> list[Mended]:
        """Send out results in call order, as far as they are there."""
        mended: list[Mended] = []
        while self._pending and (result := self._pending[0].result) is not None:
            del self._pending[0]
            mended += self._add(result)
        return mended

    def _add(self, message: Message) -> list[Mended]:
        encoded = self._encoder.encode(message)
        self.messages.append(encoded.data)
        return [Mended(kind) for kind in encoded.repairs]
