"""Events without the secrets that were seen in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kimi_cli.protocol.events import DurableEvent


def masked(events: Sequence[DurableEvent], mask: Callable[[str], str]) -> list[DurableEvent]:
    """The events with ``mask`` applied to every text in them."""
    return [_event(event, mask) for event in events]


def _event(event: DurableEvent, mask: Callable[[str], str]) -> DurableEvent:
    former = event.model_dump()
    values = {name: _value(value, mask) for name, value in former.items() if name != "type"}
    if all(values[name] == former[name] for name in values):
        return event
    return type(event).model_validate({"type": former["type"], **values})


def _value(value: Any, mask: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, dict):
        return {key: _value(one, mask) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_value(one, mask) for one in value]
    return value
