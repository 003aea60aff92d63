"""Takes in one answer of the model, and what there was of it when it was cut off."""

from __future__ import annotations

import asyncio
import time

from kimi_cli.agent.budget import cost_of
from kimi_cli.agent.host import Host
from kimi_cli.agent.stop import StopTurn
from kimi_cli.protocol.events import AssistantMessage
from kimi_cli.protocol.live import (
    RetryScheduled,
    TextDelta,
    ThinkingDelta,
    ToolCallDelta,
)
from kimi_cli.protocol.messages import TextPart, ThinkingPart, Usage
from kimi_cli.protocol.provider import Completed, Failed, ModelRequest, RetryWait
from kimi_cli.protocol.provider import TextDelta as ModelText
from kimi_cli.protocol.provider import ThinkingDelta as ModelThinking
from kimi_cli.protocol.stops import StopReason


class Listener:
    """Takes in one answer: shows the pieces, keeps them in case it is interrupted."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._begun = time.monotonic()
        self._thought_until: float | None = None
        self.usage = Usage()

    async def listen(self, request: ModelRequest) -> Completed:
        """Record and return the answer; ``usage`` is then what it used. Raises StopTurn when the
        request failed for good."""
        host = self._host
        try:
            async for event in host.provider.stream(request):
                match event:
                    case ModelText(text):
                        self._text.append(text)
                        host.show(TextDelta(text=text))
                    case ModelThinking(text):
                        self._thinking.append(text)
                        self._thought_until = time.monotonic()
                        host.show(ThinkingDelta(text=text))
                    case RetryWait():
                        self._forget()
                        host.show(retry_event(event))
                    case Completed():
                        self.usage = host.usage_of(event)
                        self._record(event)
                        return event
                    case Failed(error, partial):
                        if partial:
                            # Cut off by the server, and paid for all the same.
                            self.usage = host.usage_of(partial)
                            self._keep_partial()
                        raise host.stop_for(error)
                    case _:
                        host.show(
                            ToolCallDelta(
                                index=event.index, name=event.name, arguments=event.arguments
                            )
                        )
        except asyncio.CancelledError:
            if said := self._partial():
                # No usage comes for an answer that was left, but it is billed.
                self.usage = host.usage_of(Completed(tuple(said), ""))
            self._keep_partial()
            raise
        raise StopTurn(StopReason.INTERNAL, "the model's stream ended without an end")

    @property
    def text(self) -> str:
        """What was said so far."""
        return "".join(self._text).strip()

    def _forget(self) -> None:
        self._text.clear()
        self._thinking.clear()
        self._begun = time.monotonic()
        self._thought_until = None

    def _record(self, reply: Completed) -> None:
        price = self._host.price
        self._host.record(
            AssistantMessage(
                parts=list(reply.parts),
                finish_reason=reply.finish_reason,
                usage=reply.usage,
                cost=cost_of(price, self.usage) if price else None,
                model=reply.model,
                response_id=reply.response_id,
                salvaged=reply.salvaged,
                **self._times(),
            )
        )

    def _partial(self) -> list[ThinkingPart | TextPart]:
        thinking, text = "".join(self._thinking), "".join(self._text)
        parts: list[ThinkingPart | TextPart] = []
        if thinking:
            parts.append(ThinkingPart(text=thinking))
        if text:
            parts.append(TextPart(text=text))
        return parts

    def _keep_partial(self) -> None:
        if parts := self._partial():
            price, used = self._host.price, self.usage.total_tokens > 0
            self._host.record(
                AssistantMessage(
                    parts=list(parts),
                    usage=self.usage if used else None,
                    cost=cost_of(price, self.usage) if price and used else None,
                    partial=True,
                    **self._times(),
                )
            )

    def _times(self) -> dict[str, float]:
        thought = self._thought_until - self._begun if self._thought_until else 0.0
        return {
            "seconds": round(time.monotonic() - self._begun, 3),
            "thinking_seconds": round(thought, 3),
        }


def retry_event(wait: RetryWait) -> RetryScheduled:
    """The wait before another attempt, as front ends see it."""
    return RetryScheduled(
        error=wait.error.kind.value,
        message=wait.error.message,
        delay=wait.delay,
        attempt=wait.attempt,
        attempts=wait.attempts,
    )
