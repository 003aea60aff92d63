"""Which mode the model takes the session to be in, and what it has to be told."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from kimi_cli.prompts import load
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import Compaction, UserMessage
from kimi_cli.protocol.messages import TextPart
from kimi_cli.protocol.modes import Mode


class ModeNews:
    """``mode`` tells the one that holds. Listens to the session's events: what the model was told
    stands in them, and only there."""

    def __init__(self, mode: Callable[[], Mode]) -> None:
        self._mode = mode
        # The tools and the prompt are the same in each mode; only plan mode asks for other work.
        self._first: Mode = "auto" if mode() == "plan" else mode()
        self._known: str = self._first
        self._said = 0

    def restore(self, events: Iterable[Event]) -> None:
        """Begin anew with the events that count."""
        self._known, self._said = self._first, 0
        for event in events:
            self(event)

    def __call__(self, event: Event) -> None:
        if isinstance(event, UserMessage) and event.mode:
            self._known, self._said = event.mode, event.seq
        elif isinstance(event, Compaction) and 0 < self._said <= event.upto and self._plans:
            # Nothing in the context says so any more.
            self._known = "auto"

    @property
    def _plans(self) -> bool:
        return self._known == self._mode() == "plan"

    def take(self) -> UserMessage | None:
        """The message that is due, to be recorded now; None when the model knows."""
        mode = self._mode()
        if mode == self._known:
            return None
        text = load(f"modes/{mode}")
        return UserMessage(origin="program", parts=[TextPart(text=text)], mode=mode)
