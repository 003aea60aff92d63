"""Estimates and measurements of tokens."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.model.tokens import TokenMeter, estimate
from kimi_cli.protocol.messages import Usage


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0, 0),
        ("The quick brown fox jumps over the lazy dog. " * 20, 180, 300),
        ("敏捷的棕色狐狸跳过了那只懒狗。" * 20, 150, 300),
        ("x = {'a': 1}\n" * 50, 120, 350),
    ],
)
def test_estimates_are_of_the_right_size(text: str, least: int, most: int) -> None:
    assert least <= estimate(text) <= most
    assert estimate(text.encode()) == estimate(text)


@given(st.binary(max_size=100))
def test_any_bytes_can_be_estimated(data: bytes) -> None:
    assert estimate(data) >= 0


def test_the_measurement_is_the_truth_and_teaches() -> None:
    meter = TokenMeter()
    meter.add("word " * 1000)
    guess = meter.total
    assert meter.new == guess
    meter.measure(Usage(input_tokens=guess * 2, output_tokens=50))
    assert meter.total == guess * 2 + 50
    assert meter.new == 0
    meter.add("word " * 1000)
    assert meter.new == pytest.approx(guess * 2, rel=0.01)


def test_a_request_without_usage_changes_nothing() -> None:
    meter = TokenMeter()
    meter.add("word " * 100)
    before = meter.total
    meter.measure(Usage())
    assert meter.total == before


def test_absurd_usage_does_not_run_away() -> None:
    meter = TokenMeter()
    meter.add("word " * 100)
    meter.measure(Usage(input_tokens=10_000_000))
    meter.add("word " * 100)
    assert meter.new <= 3 * estimate("word " * 100)


def test_reset_forgets_the_conversation_but_not_the_lesson() -> None:
    meter = TokenMeter()
    meter.add("word " * 1000)
    guess = meter.total
    meter.measure(Usage(input_tokens=guess * 2))
    meter.reset()
    assert meter.total == 0
    meter.add("word " * 1000)
    assert meter.total == pytest.approx(guess * 2, rel=0.01)
