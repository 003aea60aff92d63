"""Big pastes folded into a placeholder in the input box, and back when the message goes out."""

from __future__ import annotations

import re

from kimi_cli.frontends.export.text import count, harmless

MANY_LINES = 6
MANY_CHARACTERS = 1000
LONGEST_HISTORY = 64 * 1024
"""Characters of a message that go into the history with its pastes."""

_PLACEHOLDER = re.compile(r"\[paste (\d+): [^\[\]\n]*\]")


def clean(text: str) -> str:
    """Pasted text as the input box takes it: newlines are LF; sequences for the terminal and
    control characters other than newline and tab are gone."""
    return harmless(text)


class Pastes:
    """The pastes of one run of the program. Contents stay to its end, so that a message recalled
    from the history is whole."""

    def __init__(self) -> None:
        self._contents: dict[str, str] = {}

    def fold(self, text: str) -> str:
        """What to insert for a paste: the cleaned text, or a placeholder for a big one."""
        text = clean(text)
        lines = text.removesuffix("\n").count("\n") + 1
        if lines < MANY_LINES and len(text) < MANY_CHARACTERS:
            return text
        size = count(lines, "line") if lines > 1 else count(len(text), "character")
        placeholder = f"[paste {len(self._contents) + 1}: {size}]"
        self._contents[placeholder] = text
        return placeholder

    def expand(self, text: str) -> str:
        """The text with the contents of all placeholders that still stand whole. Contents are not
        looked at again: a paste may hold the likes of a placeholder."""
        return _PLACEHOLDER.sub(lambda found: self._contents.get(found[0], found[0]), text)

    def for_history(self, text: str) -> str:
        """The text as another run of the program can use it: with its pastes, or, where that is
        too much, with placeholders that say so and mean nothing any more."""
        whole = self.expand(text)
        if len(whole) <= LONGEST_HISTORY:
            return whole
        return _PLACEHOLDER.sub(
            lambda found: found[0][:-1] + ", not kept]" if found[0] in self._contents else found[0],
            text,
        )

    def placeholder_before(self, text: str, cursor: int) -> int:
        """Characters of the placeholder that ends at the cursor; 0 when none does."""
        begin = text.rfind("[", 0, cursor)
        known = begin >= 0 and text[begin:cursor] in self._contents
        return cursor - begin if known else 0
