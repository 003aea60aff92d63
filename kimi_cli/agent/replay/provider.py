"""The recorded answers of one turn at a time, given to the real loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from kimi_cli.agent.replay.recording import RecordedAnswer, RecordedTurn
from kimi_cli.protocol.messages import ToolCallPart
from kimi_cli.protocol.provider import (
    ErrorClass,
    Failed,
    ModelError,
    ModelEvent,
    ModelRequest,
)
from kimi_cli.store.replay import RecordedProvider, completed

OVER = "the recorded turn has no more answers"


class TurnProvider(RecordedProvider):
    """``begin`` gives it a turn; it then answers with that turn's answers, and with a failure
    when it is asked once more. ``rewrite`` makes a recorded call ready to run now, ``deliver``
    hears of each answer before it is given."""

    def __init__(
        self,
        model: str,
        rewrite: Callable[[ToolCallPart], ToolCallPart],
        deliver: Callable[[RecordedAnswer], None],
    ) -> None:
        super().__init__(())
        self.model = model
        self.waiting: list[RecordedAnswer] = []
        """The answers of the turn that were not asked for yet."""
        self.asked_for_more = False
        self._rewrite = rewrite
        self._deliver = deliver

    def begin(self, turn: RecordedTurn) -> None:
        self.waiting = list(turn.answers)
        self.asked_for_more = False

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        if not self.waiting:
            self.asked_for_more = True
            yield Failed(ModelError(ErrorClass.PROTOCOL, OVER))
            return
        answer = self.waiting.pop(0)
        self._deliver(answer)
        parts = [
            self._rewrite(p) if isinstance(p, ToolCallPart) else p for p in answer.message.parts
        ]
        yield completed(answer.message.model_copy(update={"parts": parts}))
