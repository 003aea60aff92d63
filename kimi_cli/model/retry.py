"""Tries a request again when that can help."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace

from kimi_cli.model.errors import REMEDIES
from kimi_cli.protocol.provider import (
    Encoder,
    ErrorClass,
    Failed,
    ModelError,
    ModelEvent,
    ModelRequest,
    Provider,
    RetryWait,
)


@dataclass(frozen=True, slots=True)
class Schedule:
    """``attempts`` in all, with waits of ``base`` seconds doubling up to ``cap`` between them."""

    attempts: int
    base: float
    cap: float


@dataclass(frozen=True, slots=True)
class Policy:
    """When to try again.

    The patient schedule lasts some twenty minutes, the brief one a minute and a half. A stall
    has cost minutes by itself and is tried less often. ``jitter`` is the share of a wait that is
    left to chance. A server that asks for more than ``longest_wait`` seconds gets no other try.
    ``scale`` multiplies every wait. ``gone`` says that the endpoint is known to be no more: then
    nothing is tried again.
    """

    patient: Schedule = Schedule(attempts=25, base=2, cap=60)
    brief: Schedule = Schedule(attempts=8, base=1, cap=30)
    overrides: Mapping[ErrorClass, Schedule] = field(
        default_factory=lambda: {ErrorClass.STALL: Schedule(attempts=4, base=1, cap=10)}
    )
    jitter: float = 0.25
    longest_wait: float = 1200
    scale: float = 1
    gone: Callable[[], bool] = lambda: False

    def schedule(self, kind: ErrorClass) -> Schedule | None:
        """The schedule of a class of failure; None: trying again can't help."""
        remedy = REMEDIES[kind]
        if remedy.retry == "none":
            return None
        standard = self.patient if remedy.retry == "patient" else self.brief
        return self.overrides.get(kind, standard)


def delay(policy: Policy, error: ModelError, failures: int, chance: float) -> float | None:
    """Seconds to wait before the next try, or None to give up.

    ``failures`` counts those of this schedule, this one included; ``chance`` is a number from 0
    to 1. A wait named by the server is never shortened.
    """
    schedule = policy.schedule(error.kind)
    if schedule is None or failures >= schedule.attempts:
        return None
    if error.retry_after is not None and error.retry_after > policy.longest_wait:
        return None
    # The exponent is bounded because a float's is.
    backoff = min(schedule.cap, schedule.base * 2.0 ** min(failures - 1, 60))
    backoff *= 1 - policy.jitter + policy.jitter * chance
    return max(backoff, error.retry_after or 0) * policy.scale


class Retrying:
    """A provider that tries again: what another streams, with a RetryWait where an attempt
    failed and everything it streamed is void."""

    def __init__(
        self,
        provider: Provider,
        policy: Policy | None = None,
        *,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._provider = provider
        self._policy = policy or Policy()
        self._chance = chance

    @property
    def model(self) -> str:
        return self._provider.model

    @property
    def window(self) -> int:
        return self._provider.window

    @property
    def output_cap(self) -> int | None:
        return self._provider.output_cap

    @property
    def counter(self) -> Callable[[str], int] | None:
        return self._provider.counter

    async def count(self, request: ModelRequest) -> int | None:
        return await self._provider.count(request)

    def encoder(self) -> Encoder:
        return self._provider.encoder()

    async def close(self) -> None:
        await self._provider.close()

    async def stream(self, request: ModelRequest) -> AsyncIterator[ModelEvent]:
        """Yield deltas, RetryWaits, and one Completed or Failed; see Provider."""
        failures: dict[Schedule | None, int] = {}
        while True:
            failed: Failed | None = None
            events = self._provider.stream(request)
            try:
                async for event in events:
                    if isinstance(event, Failed):
                        failed = event
                        break
                    yield event
            finally:
                # A generator left in the middle must close its connection now, not some day.
                if isinstance(events, AsyncGenerator):
                    await events.aclose()
            if failed is None:
                return
            schedule = self._policy.schedule(failed.error.kind)
            count = failures[schedule] = failures.get(schedule, 0) + 1
            wait = delay(self._policy, failed.error, count, self._chance())
            if wait is None or schedule is None or self._policy.gone():
                yield failed if count == 1 else Failed(_tired(failed.error, count))
                return
            yield RetryWait(failed.error, wait, count, schedule.attempts)
            await asyncio.sleep(wait)


def _tired(error: ModelError, attempts: int) -> ModelError:
    return replace(error, message=f"{error.message} (after {attempts} attempts)")
