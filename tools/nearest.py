"""What to show the model when its text is nowhere, or in more than one place."""

from __future__ import annotations

import difflib
import heapq
import re
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate

# Parts of identifiers count as words, so that a misspelt name still shares some.
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_]")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_LINE_WIDTH = 160
_COMPARED = 3_000
_SHORT = 300
_SHOWN_LINES = 12


def show_lines(lines: Sequence[str], first: int, last: int) -> str:
    """Lines ``first`` to ``last`` (from 0, inclusive), numbered as the read tool does."""
    shown = [f"{n + 1}\t{lines[n][:_LINE_WIDTH]}" for n in range(max(first, 0), last + 1)]
    if len(shown) > _SHOWN_LINES:
        shown = [*shown[:_SHOWN_LINES], "[…]"]
    return "\n".join(shown)


def places(text: str, offsets: Sequence[int], old: str) -> str:
    """The places of an ambiguous text, each with the line before and the line after."""
    lines = text.split("\n")
    parts = []
    for offset in offsets:
        first = text.count("\n", 0, offset)
        last = min(first + min(old.count("\n"), 1), len(lines) - 1)
        parts.append(show_lines(lines, first - 1, min(last + 1, len(lines) - 1)))
    return "\n--\n".join(parts)


def nearest(text: str, old: str, count: int = 2) -> list[tuple[int, int]]:
    """Line ranges (from 0, inclusive) most like ``old``, best first; [] when nothing is.

    Every line scores by the words it shares with ``old``, rare words more; windows as long as
    ``old`` add up their lines. Only the best few are compared closely, so the time grows with the
    length of the text and no faster.
    """
    lines = text.split("\n")
    wanted = old.strip("\n").split("\n")
    height = len(wanted)
    words = set(_WORD.findall(old))
    found = [words.intersection(_WORD.findall(line[:_COMPARED])) for line in lines]
    frequency = Counter(word for line in found for word in line)
    sums = [0.0, *accumulate(sum(1 / frequency[word] for word in line) for line in found)]
    starts = range(max(len(lines) - height + 1, 1))
    scores = [(sums[min(i + height, len(lines))] - sums[i], -i) for i in starts]
    chosen: list[tuple[float, int]] = []
    # Comparing words is much faster, but tells nothing about a text of two or three of them.
    by_character = len(old) <= _SHORT
    sample = _comparable(wanted, by_character)
    matcher: difflib.SequenceMatcher[str] = difflib.SequenceMatcher(None, "", sample, False)
    for score, negative in heapq.nlargest(8 * count, scores):
        start = -negative
        if score <= 0 or any(abs(start - other) < height for _, other in chosen):
            continue
        matcher.set_seq1(_comparable(lines[start : start + height], by_character))
        if (ratio := matcher.ratio()) >= 0.4:
            chosen.append((ratio, start))
    best = sorted(chosen, key=lambda pair: (-pair[0], pair[1]))[:count]
    return [(start, min(start + height, len(lines)) - 1) for _, start in best]


def _comparable(lines: Sequence[str], by_character: bool) -> Sequence[str]:
    text = "\n".join(line.strip()[:_COMPARED] for line in lines)[:_COMPARED]
    return text[: 2 * _SHORT] if by_character else _TOKEN.findall(text)
