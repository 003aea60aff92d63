"""Notices when the model makes the same call with the same outcome again and again."""

from __future__ import annotations

import hashlib
from collections import Counter, deque

WINDOW = 30
"""Calls looked back on: a loop of a few alternating calls is a loop too."""

REMINDERS = {
    3: "Note: this is the third time you make this call with the same result.",
    4: "You have made this very call four times and the result does not change. Do something "
    "else: look at the problem from another side, or say what blocks you.",
    5: "Last warning: the same call, the same result, five times. One more repetition ends the "
    "turn. Change your approach, or finish with what you have.",
}
STOP_AT = 6


class RepeatGuard:
    """Counts identical (call, result) pairs among the last calls."""

    def __init__(self) -> None:
        self._recent: deque[bytes] = deque(maxlen=WINDOW)

    def seen(self, name: str, arguments: str, result: str) -> int:
        """Note a finished call; returns how often it came with this result lately, now included."""
        digest = hashlib.blake2b(digest_size=16)
        for text in (name, arguments, result):
            digest.update(text.encode("utf-8", "surrogatepass"))
            digest.update(b"\0")
        key = digest.digest()
        self._recent.append(key)
        return Counter(self._recent)[key]
