"""Budgets: every axis, children, warnings."""

import pytest

from kimi_cli.agent.budget import Budget, Limits, cost_of
from kimi_cli.model.catalogue import Price
from kimi_cli.protocol.messages import Usage


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("limits", "axis"),
    [
        (Limits(steps=2), "steps"),
        (Limits(tokens=30), "tokens"),
        (Limits(cost=0.5), "cost"),
        (Limits(seconds=10), "seconds"),
    ],
)
def test_each_axis_stops(limits: Limits, axis: str) -> None:
    clock = Clock()
    budget = Budget(limits, clock=clock)
    assert budget.exceeded() is None
    for _ in range(2):
        budget.start_step()
        budget.spend(Usage(input_tokens=10, output_tokens=5), 0.25)
        clock.now += 5
    assert budget.exceeded() == axis
    assert [w.axis for w in budget.warnings()] == [axis]
    assert budget.warnings() == []


def test_a_request_that_would_go_over_is_not_sent() -> None:
    budget = Budget(Limits(tokens=100, cost=1.0))
    budget.spend(Usage(input_tokens=50), 0.5)
    assert budget.exceeded(next_tokens=50, next_cost=0.5) is None
    assert budget.exceeded(next_tokens=51) == "tokens"
    assert budget.exceeded(next_cost=0.51) == "cost"


def test_a_child_draws_on_its_parent() -> None:
    clock = Clock()
    parent = Budget(Limits(steps=3, seconds=60), clock=clock)
    child = Budget(Limits(steps=10, seconds=100), parent=parent, clock=clock)
    for _ in range(3):
        child.start_step()
    assert parent.steps == 3
    assert child.exceeded() == "steps"
    clock.now += 45
    assert child.seconds_left == 15


def test_price_counts_cached_input_apart() -> None:
    price = Price("USD", input=2.0, cached_input=0.5, output=10.0, source="test", date="2026-11-01")
    usage = Usage(input_tokens=1_000_000, cached_tokens=400_000, output_tokens=100_000)
    assert cost_of(price, usage) == pytest.approx(0.6 * 2.0 + 0.4 * 0.5 + 0.1 * 10.0)
