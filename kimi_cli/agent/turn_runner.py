"""Runs turns, one piece of work at a time, from their first event to their last."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from kimi_cli.agent.attended import Attended
from kimi_cli.agent.budget import cost_of
from kimi_cli.agent.compactor import NoteRefused
from kimi_cli.agent.loop import Check, Turn
from kimi_cli.agent.stop import StopTurn
from kimi_cli.agent.turn_host import Parts, TurnHost
from kimi_cli.protocol.events import Compaction, TurnEnded, TurnStarted, UserMessage
from kimi_cli.protocol.messages import ContentPart, TextPart, Usage
from kimi_cli.protocol.operations import Say
from kimi_cli.protocol.provider import Provider
from kimi_cli.protocol.stops import StopReason
from kimi_cli.store.errors import StoreError

if TYPE_CHECKING:
    from kimi_cli.agent.serving import Served
    from kimi_cli.agent.setup import Place

log = logging.getLogger(__name__)

T = TypeVar("T")


class TurnRunner(TurnHost):
    """The part of a session that turns and compactions run in."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts)
        self._work = Attended()
        self._next: Served | None = None
        self._find_model = parts.find_model
        self._former: list[Provider] = []
        """No longer in use, and not closed yet."""

    @property
    def busy(self) -> bool:
        """Whether a turn is running."""
        return self._work.busy

    async def run_turn(self, message: Say | str, checks: Sequence[Check] = ()) -> TurnEnded:
        """Run one turn to its end, whatever that is; only cancellation raises.

        ``checks`` judge the final answer; what they say goes back to the model.
        """
        say = Say(text=message) if isinstance(message, str) else message
        return await self._attend(self._turn(say, checks))

    async def compact(self, focus: str = "") -> Compaction | None:
        """Compact the context now, between turns; None when there is nothing to compact, or when
        it was interrupted. Raises StopTurn when the endpoint or the budget is in the way,
        StoreError."""
        return await self._attend(self._compact(focus))

    async def switch_model(
        self, model: str | None = None, thinking: str | None = None, place: Place | None = None
    ) -> bool:
        """Go on with another model, another way of thinking, or the model of another place; None
        leaves it as it is. False when that holds only as soon as the running turn has ended.
        Raises SetupError and SettingsError, with words for people, and StoreError; nothing has
        changed then."""
        found = await self._find_model(model, thinking, self._next or self._served, place)
        if self.busy:
            if self._next:
                self._former.append(self._next.provider)
            self._next = found
            return False
        self._switch(found)
        return True

    async def _turn(self, say: Say, checks: Sequence[Check]) -> TurnEnded:
        begun = time.monotonic()
        self._record.at.turn += 1
        self._record.at.step = 0
        turn = Turn(self, checks)
        reason, detail = StopReason.DONE, ""
        try:
            self._work.begin()
            self.record(TurnStarted(currency=self.currency))
            self.record(UserMessage(parts=_parts(say)))
            self._work.check()
            if self._checkpoints:
                self._checkpoints.begin()
            async with asyncio.timeout(self.budget.seconds_left):
                await turn.run()
                await self._compactor.if_asked(turn.spend)
        except StopTurn as stop:
            reason, detail = stop.reason, stop.detail
        except NoteRefused as refused:
            ending = self.stop_for(refused.error)
            reason, detail = ending.reason, ending.detail
        except TimeoutError:
            reason, detail = StopReason.TIME_LIMIT, "the time limit is reached"
        except asyncio.CancelledError:
            reason = self._work.stopped or StopReason.INTERRUPTED
        except StoreError as error:
            reason, detail = StopReason.STORE_FAILED, str(error)
        except Exception as error:
            log.exception("the turn failed")
            reason, detail = StopReason.INTERNAL, f"{type(error).__name__}: {error}"
        if self._checkpoints:
            with contextlib.suppress(StoreError):
                await self._checkpoints.end(hurry=self._work.stopped is not None)
        with contextlib.suppress(StoreError):
            self._record_offers()
        self._work.end()
        ended = TurnEnded(
            reason=reason,
            detail=detail,
            answer=turn.answer,
            usage=turn.usage,
            cost=turn.cost,
            currency=self.currency,
            steps=turn.steps,
            seconds=round(time.monotonic() - begun, 3),
        )
        await self._end(ended)
        return ended

    async def _compact(self, focus: str) -> Compaction | None:
        self._work.begin()
        try:
            self._work.check()
            async with asyncio.timeout(self.budget.seconds_left):
                return await self._compactor.compact("manual", self._book, focus)
        except TimeoutError:
            raise StopTurn(StopReason.TIME_LIMIT, "the time limit is reached") from None
        except NoteRefused as refused:
            raise self.stop_for(refused.error) from None
        except asyncio.CancelledError:
            return None
        finally:
            self._work.end()

    async def _end(self, ended: TurnEnded) -> None:
        """Record the end; when even that can't be written, it is at least shown, and a turn that
        was done is not."""
        try:
            self.record(ended)
            await self._log.sync()
        except StoreError as error:
            if ended.reason is StopReason.DONE:
                ended.reason, ended.detail = StopReason.STORE_FAILED, str(error)
            self.show(ended)

    def _book(self, usage: Usage) -> None:
        self.budget.spend(usage, cost_of(self.price, usage) if self.price else None)

    async def _attend(self, work: Coroutine[Any, Any, T]) -> T:
        """Do a piece of work, and what had to wait for its end."""
        try:
            return await self._work.run(work)
        finally:
            found, self._next = self._next, None
            if found:
                # What can't be stored, does not happen: everything else says so.
                with contextlib.suppress(StoreError):
                    self._switch(found)

    def _switch(self, found: Served) -> None:
        former = self.provider
        try:
            self._go_on_with(found)
        except StoreError:
            self._former.append(found.provider)
            raise
        # Somebody may still ask it something.
        self._former.append(former)


def _parts(say: Say) -> list[ContentPart]:
    text: list[ContentPart] = [TextPart(text=say.text)] if say.text else []
    return text + list(say.parts)
