"""One object for every limit: steps, tokens, money, wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kimi_cli.agent.stop import StopTurn
from kimi_cli.model.catalogue import Price
from kimi_cli.protocol.messages import Usage
from kimi_cli.protocol.stops import StopReason

Axis = Literal["steps", "tokens", "cost", "seconds"]

STOP_OF_AXIS: dict[Axis, StopReason] = {
    "steps": StopReason.STEP_LIMIT,
    "tokens": StopReason.TOKEN_LIMIT,
    "cost": StopReason.COST_LIMIT,
    "seconds": StopReason.TIME_LIMIT,
}


def cost_of(price: Price, usage: Usage) -> float:
    """What requests with this usage cost, in the price's currency."""
    fresh = max(usage.input_tokens - usage.cached_tokens, 0)
    spent = fresh * price.input + usage.cached_tokens * price.cached_input
    return (spent + usage.output_tokens * price.output) / 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """None means no limit. ``cost`` is in the currency of the model's price."""

    steps: int | None = None
    tokens: int | None = None
    cost: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Warned:
    """An axis has passed the share at which to warn."""

    axis: Axis
    used: float
    limit: float


class Budget:
    """What a run may use and has used. A child's use is its parent's too."""

    def __init__(
        self,
        limits: Limits,
        *,
        warn_at: float = 0.8,
        parent: Budget | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.usage = Usage()
        self.cost = 0.0
        self.steps = 0
        self._warn_at = warn_at
        self._warned: set[Axis] = set()
        self._parent = parent
        self._clock = clock
        self._begun = clock()

    @property
    def seconds(self) -> float:
        return self._clock() - self._begun

    @property
    def seconds_left(self) -> float | None:
        """Until the nearest deadline, own or a parent's; None without one."""
        own = None if self.limits.seconds is None else self.limits.seconds - self.seconds
        inherited = self._parent.seconds_left if self._parent else None
        known = [left for left in (own, inherited) if left is not None]
        return min(known) if known else None

    def start_step(self) -> None:
        self.steps += 1
        if self._parent:
            self._parent.start_step()

    def spend(self, usage: Usage, cost: float | None) -> None:
        """Book what one request used; ``cost`` None when no price is known."""
        self.usage = self.usage + usage
        self.cost += cost or 0.0
        if self._parent:
            self._parent.spend(usage, cost)

    def exceeded(self, next_tokens: int = 0, next_cost: float = 0.0) -> Axis | None:
        """The axis that forbids another request whose input alone would use ``next_tokens`` and
        ``next_cost``; None when it may go out."""
        used = self._used()
        ahead: dict[Axis, float] = {"tokens": next_tokens, "cost": next_cost}
        for axis, limit in self._limits().items():
            if used[axis] >= limit or used[axis] + ahead.get(axis, 0) > limit:
                return axis
        return self._parent.exceeded(next_tokens, next_cost) if self._parent else None

    def guard(self, ahead: Usage, price: Price | None) -> None:
        """Raise StopTurn when there is no room for another request with the input ``ahead``."""
        axis = self.exceeded(ahead.input_tokens, cost_of(price, ahead) if price else 0.0)
        if axis:
            used, limit = self.state(axis)
            over = "is used up" if used >= limit else "would be exceeded by the next request"
            whole = axis in ("steps", "tokens")
            most, so_far = (f"{n:,.0f}" if whole else f"{n:.4g}" for n in (limit, used))
            words = f"the limit of {most} {axis} {over} ({so_far} used)"
            raise StopTurn(STOP_OF_AXIS[axis], words)

    def state(self, axis: Axis) -> tuple[float, float]:
        """What is used of an axis, and its limit: the own one, else that of a parent."""
        limits = self._limits()
        if axis not in limits and self._parent:
            return self._parent.state(axis)
        return self._used()[axis], limits[axis]

    def warnings(self) -> list[Warned]:
        """The axes that have passed the warning share since the last call."""
        used = self._used()
        new = [
            Warned(axis, used[axis], limit)
            for axis, limit in self._limits().items()
            if axis not in self._warned and used[axis] >= self._warn_at * limit
        ]
        self._warned.update(w.axis for w in new)
        return new

    def _limits(self) -> dict[Axis, float]:
        axes: dict[Axis, float | None] = {
            "steps": self.limits.steps,
            "tokens": self.limits.tokens,
            "cost": self.limits.cost,
            "seconds": self.limits.seconds,
        }
        return {axis: limit for axis, limit in axes.items() if limit is not None}

    def _used(self) -> dict[Axis, float]:
        return {
            "steps": self.steps,
            "tokens": self.usage.total_tokens,
            "cost": self.cost,
            "seconds": self.seconds,
        }
