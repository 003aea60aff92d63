"""How the context window is shared out. Everything is in tokens."""

from __future__ import annotations

from dataclasses import dataclass

ANSWER_ROOM = 16_384
"""What a model that thinks needs for one answer (platform.moonshot.ai: at least 16,000)."""
INSTRUCTION_ROOM = 2_048
LEAST_ANSWER = 256
NEARLY_FULL = 0.85


@dataclass(frozen=True, slots=True)
class Shares:
    """What each part of a compacted context may take. ``said`` is for all messages of the user,
    ``message`` for one of them, ``media`` for the media in them, ``files`` for the lists of files,
    ``recent`` for the newest steps."""

    said: int
    message: int
    media: int
    note: int
    todos: int
    files: int
    recent: int


def trigger(window: int, share: float) -> int:
    """The size at which a context is compacted: ``share`` of the window, and before an answer and
    the request for the note would have too little room. A small window keeps a third free."""
    reserve = min(ANSWER_ROOM + INSTRUCTION_ROOM, window // 3)
    return min(int(window * share), window - reserve)


def shares(window: int, fixed: int, recent: int, squeeze: float = 1.0) -> Shares:
    """The shares in a window of which ``fixed`` (the prompt, tools, instructions) is taken anyway.
    ``recent`` is the most for the newest steps; ``squeeze`` below 1 makes all of it smaller."""
    free = max(int((window - fixed) * squeeze), 0)
    return Shares(
        said=free // 8,
        message=free // 16,
        media=free // 8,
        note=min(free // 8, 8_000),
        todos=free // 16,
        files=free // 16,
        recent=min(recent, free // 4),
    )


class Filling:
    """Says once when a window that nobody makes room in is nearly full, and once when it is full;
    again only after there was room in between."""

    def __init__(self) -> None:
        self._said = 0

    def news(self, window: int, used: int) -> str:
        """A warning for people when ``used`` has come to a mark since the last call, else ""."""
        full = answer_room(window, used) <= LEAST_ANSWER
        level = 2 if full else int(used >= window * NEARLY_FULL)
        before, self._said = self._said, level
        if level <= before:
            return ""
        state = "full" if full else f"{used / window:.0%} full".replace("%", " %")
        return (
            f"the context window is {state} ({used:,} of {window:,} tokens) and auto_compact is "
            "off: `kimi compact` makes room"
        )


def answer_room(window: int, used: int) -> int:
    """What is left for an answer; ``used`` is an estimate and gets some room for its error."""
    return max(window - used - used // 50 - LEAST_ANSWER, LEAST_ANSWER)
