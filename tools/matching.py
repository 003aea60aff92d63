"""Where the text the model wants replaced stands in a file.

Pure functions over text whose line ends are all ``\\n``. First the exact text is looked for. Only
when it is nowhere, ever looser readings of it are tried, and the first that occurs decides: the
caller replaces one place or none. All searches take time in proportion to the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate, islice
from typing import NamedTuple

MANY = 6
"""Places after which the counting stops; any number above one is refused."""

# A reading that fits more places than this without any being right is given up.
_CANDIDATES = 1_000
_BLANKS = " \t"
# Typographic characters and the ones a keyboard has, one for one so that offsets stay the same.
_PLAIN = str.maketrans("‘’‚‛“”„‟′″‐‑‒–—―−\u00a0\u2007\u202f\u3000", "''''\"\"\"\"'\"-------    ")
_NUMBERED = re.compile(r"\s*(\d+)(?:\t|:|→)")
_ESCAPE = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "'": "'", "\\": "\\"}


class Found(NamedTuple):
    """Text ``start:end`` is to be replaced. ``old`` and ``new`` are what was asked for under the
    reading that found the place; ``old`` has as many lines as the place. ``placed`` is ``new``
    indented as the place is. ``how`` says what had to be overlooked, "" for an exact match."""

    start: int
    end: int
    old: str
    new: str
    placed: str
    how: str = ""


def search(text: str, old: str, new: str) -> list[Found]:
    """The places of ``old`` under the strictest reading that has any; at most ``MANY``."""
    lines: list[str] = []
    for reading_old, reading_new, label in _readings(text, old, new):
        exact = _exact(text, reading_old, reading_new, label)
        if found := list(islice(exact, MANY)):
            return found
        lines = lines or text.split("\n")
        for find, overlooked in (
            (partial(_by_line_key, key=_end_blanks_cut), "trailing blanks"),
            (partial(_by_line_key, key=plain_characters), "typographic characters"),
            (_shifted, "indentation"),
        ):
            how = " and ".join(filter(None, (label, overlooked)))
            if found := list(islice(find(lines, reading_old, reading_new, how), MANY)):
                return found
    return _at_end(text, old, new)


def every(text: str, old: str, new: str) -> list[Found]:
    """All exact places, left to right, not overlapping."""
    return list(_exact(text, old, new, "", len(old)))


def _exact(text: str, old: str, new: str, how: str, step: int = 1) -> Iterator[Found]:
    for at in _positions(text, old, step):
        yield Found(at, at + len(old), old, new, new, how)


def _end_blanks_cut(line: str) -> str:
    return line.rstrip(_BLANKS)


def plain_characters(line: str) -> str:
    """The line as a keyboard would write it, without blanks at its end."""
    return line.translate(_PLAIN).rstrip(_BLANKS)


def _bare(line: str) -> str:
    return line.translate(_PLAIN).strip(_BLANKS)


def _positions(text: str, part: str, step: int = 1) -> Iterator[int]:
    at = text.find(part) if part else -1
    while at >= 0:
        yield at
        at = text.find(part, at + step)


def _readings(text: str, old: str, new: str) -> Iterator[tuple[str, str, str]]:
    yield old, new, ""
    if (bare := _unnumbered(old)) is not None:
        yield bare, _drop_numbers(new), "copied line numbers"
    if kinds := _escapes_in(old):
        yield _unescape(old, kinds), _unescape(new, kinds), "surplus backslashes"


def _unnumbered(old: str) -> str | None:
    """``old`` without the line numbers ``read`` (or ``grep``: a colon) shows; None when they don't
    count up by one."""
    lines = old.split("\n")
    body = lines[:-1] if lines[-1] == "" else lines
    numbers = [_NUMBERED.match(line) for line in body]
    values = [int(number[1]) if number else -1 for number in numbers]
    if not values or values[0] < 0 or values != list(range(values[0], values[0] + len(values))):
        return None
    # One line such as ``8080: http`` may well be the text itself.
    if len(body) == 1 and ":" in (numbers[0] or [""])[0]:
        return None
    return _drop_numbers(old)


def _drop_numbers(text: str) -> str:
    return "\n".join(_NUMBERED.sub("", line, count=1) for line in text.split("\n"))


def _escapes_in(old: str) -> frozenset[str]:
    kinds = {m[1] for m in _ESCAPE.finditer(old)} & _ESCAPES.keys()
    # A text of several real lines was not escaped as a whole: its \n belongs to the code.
    return frozenset(kinds - {"n"} if "\n" in old else kinds)


def _unescape(text: str, kinds: frozenset[str]) -> str:
    return _ESCAPE.sub(lambda m: _ESCAPES[m[1]] if m[1] in kinds else m[0], text)


def _by_line_key(
    lines: Sequence[str], old: str, new: str, how: str, key: Callable[[str], str]
) -> Iterator[Found]:
    """Places that are equal when every line is seen through ``key``, which may only cut the end
    of a line and swap characters, so that columns stay the same."""
    old_lines = old.split("\n")
    old_keys = [key(line) for line in old_lines]
    if not any(old_keys):
        return
    starts = _starts(lines)
    for i, column, j, end_column, key_length in _key_places(lines, old_keys, key):
        if old_keys[0] == "" != old_lines[0] and column:
            continue  # a line of blanks stands for a line of blanks, not for the end of another
        at_end = end_column == key_length
        if len(old_keys[-1]) != len(old_lines[-1]) and not at_end:
            continue  # blanks were cut there: only the end of a line has none to compare
        end = starts[j] + (len(lines[j]) if at_end else end_column)
        yield Found(starts[i] + column, end, old, new, new, how)


def _shifted(lines: Sequence[str], old: str, new: str, how: str) -> Iterator[Found]:
    """Whole lines that are equal but for an indentation that differs in the same way on all."""
    old_lines = old.split("\n")
    old_keys = [_bare(line) for line in old_lines]
    if not any(old_keys):
        return
    starts = _starts(lines)
    for i, column, j, end_column, key_length in _key_places(lines, old_keys, _bare):
        leading_end = old_lines[0] == "" and column and column == len(_bare(lines[i]))
        if column and not leading_end:
            continue
        if end_column != key_length and not (old_lines[-1] == "" and end_column == 0):
            continue
        pairs = [
            (_indent(theirs), _indent(ours))
            for theirs, ours, key in zip(old_lines, lines[i : j + 1], old_keys, strict=False)
            if key
        ]
        placed = _reindent(new, pairs)
        if placed is None:
            continue
        start = starts[i] + (len(lines[i]) if leading_end else 0)
        end = starts[j] + (0 if old_lines[-1] == "" else len(lines[j]))
        yield Found(start, end, old, new, placed, how)


def _key_places(
    lines: Sequence[str], old_keys: Sequence[str], key: Callable[[str], str]
) -> Iterator[tuple[int, int, int, int, int]]:
    """(line, column) of start and end of each place of the keys, and the last line's length;
    nothing at all when there are too many to judge, never only some of them."""
    keys = [key(line) for line in lines]
    starts = _starts(keys)
    text, part = "\n".join(keys), "\n".join(old_keys)
    places = list(islice(_positions(text, part), _CANDIDATES + 1))
    if len(places) > _CANDIDATES:
        return
    for at in places:
        i = bisect_right(starts, at) - 1
        j = bisect_right(starts, at + len(part)) - 1
        yield i, at - starts[i], j, at + len(part) - starts[j], len(keys[j])


def _starts(lines: Sequence[str]) -> list[int]:
    return [0, *accumulate(len(line) + 1 for line in lines)][:-1]


def _indent(line: str) -> str:
    return line[: len(line) - len(line.lstrip(_BLANKS))]


def _reindent(new: str, pairs: Sequence[tuple[str, str]]) -> str | None:
    """``new`` moved as the lines of ``pairs`` (indentation given, indentation found) were; None
    when no single rule explains them all."""
    for change in _rules(pairs):
        lines = [change(line) if line.strip(_BLANKS) else line for line in new.split("\n")]
        if all(line is not None for line in lines):
            return "\n".join(line for line in lines if line is not None)
    return None


def _rules(pairs: Sequence[tuple[str, str]]) -> Iterator[Callable[[str], str | None]]:
    given, found = pairs[0]
    if found.endswith(given):
        more = found[: len(found) - len(given)]
        if all(f == more + g for g, f in pairs):
            yield lambda line: more + line
    if given.endswith(found):
        less = given[: len(given) - len(found)]
        if all(g == less + f for g, f in pairs):
            yield lambda line: line[len(less) :] if line.startswith(less) else None
    for width in (4, 2, 8, 3):
        if all(g == " " * width * len(f) and f == "\t" * len(f) for g, f in pairs):
            yield partial(_retab, blank=" ", width=width)
        if all(f == " " * width * len(g) and g == "\t" * len(g) for g, f in pairs):
            yield partial(_retab, blank="\t", width=width)
    if all(pair == pairs[0] for pair in pairs):
        yield lambda line: found + line[len(given) :] if line.startswith(given) else None


def _retab(line: str, blank: str, width: int) -> str | None:
    """Indentation in ``blank`` rewritten in the other kind; None when it has both."""
    indent = _indent(line)
    if indent.strip(blank):
        return None
    if blank == "\t":
        return " " * width * len(indent) + line[len(indent) :]
    whole, rest = divmod(len(indent), width)
    return "\t" * whole + " " * rest + line[len(indent) :]


def _at_end(text: str, old: str, new: str) -> list[Found]:
    """``old`` as the end of a text that has no newline there."""
    body = old.rstrip("\n")
    if body == old or not body or not text.endswith(body):
        return []
    how = "the newline missing at the end of the file"
    replacement = new.rstrip("\n")
    return [Found(len(text) - len(body), len(text), body, replacement, replacement, how)]
