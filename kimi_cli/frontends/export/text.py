"""Foreign text made harmless: what a terminal would obey or hide is gone or visible."""

from __future__ import annotations

import re

# Strings for the terminal (titles, links, images) with their end, the other escape sequences, and
# what is left of control characters. A string without its end must not swallow what follows.
_STRING = re.compile(
    r"(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]{0,4096}(?:\x07|\x1b\\|\x9c)"
)
_SEQUENCE = re.compile(r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|\x1b[ -/]*[0-~]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# Embeddings, overrides and isolates reorder what stands behind them (Unicode UAX #9, 2.1-2.5).
_BIDI = re.compile("[\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_BREAKS = re.compile("\r\n?|\u2028|\u2029|\x85")


def harmless(text: str) -> str:
    """The text without terminal sequences and control characters other than newline and tab.
    Returns of the carriage become newlines, characters that reorder text their names, lone
    surrogates U+FFFD."""
    if "\x1b" in text or not text.isascii():
        if _SURROGATE.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        text = _SEQUENCE.sub("", _STRING.sub("", text))
        text = _BIDI.sub(lambda found: f"[U+{ord(found[0]):04X}]", text)
    return _CONTROL.sub("", _BREAKS.sub("\n", text))


def one_line(text: str, limit: int = 0) -> str:
    """The harmless text on one line, cut to ``limit`` characters where that is not 0."""
    line = " ".join(harmless(text).split())
    return line if not limit or len(line) <= limit else line[: limit - 1].rstrip() + "…"


def count(number: int, noun: str) -> str:
    """``1 line``, ``2 lines``, ``1,200 lines``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
