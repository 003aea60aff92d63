"""Finding paths by some of their letters.

Pure functions. The letters must occur in the path in their order; what counts is where: at the
start of words, in a row, in the last part of the path. A query without capitals does not look at
case. The order of the results depends on the query and the set of paths alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice

CHUNK = 20_000
"""Paths that are searched at a time: between chunks a search can be given up."""
CANDIDATES = 500
"""Paths of a kind that are looked at more closely, the shortest of them first."""

_WORD_START = re.compile(r"(?<![^/_\-. ])[^/_\-. ]|(?<=[a-z0-9])[A-Z]")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEPARATORS = "/_-. "
_TO_BLANKS = str.maketrans(dict.fromkeys(_SEPARATORS, " "))

CONSECUTIVE = 8
START_OF_WORD = 8
END_OF_WORD = 4
IN_NAME = 3
START_OF_NAME = 10
LONGEST_GAP = 5


def fold(text: str) -> str:
    """Small letters, each in the place of the letter it stands for."""
    small = text.lower()
    if len(small) == len(text):
        return small
    return "".join(low if len(low := char.lower()) == 1 else char for char in text)


def score(query: str, path: str) -> int | None:
    """How well the query fits, more is better; None when its letters are not all in the path, in
    their order. An empty query fits everything equally."""
    if not query:
        return 0
    text = path if query != fold(query) else fold(path)
    name = path.rfind("/", 0, len(path) - 1) + 1
    starts = {found.start() for found in _WORD_START.finditer(path)}
    ways = _alignments(query, text, starts, name)
    return max((_points(way, text, starts, name) for way in ways), default=None)


def _alignments(query: str, text: str, starts: set[int], name: int) -> Iterator[list[int]]:
    """Some ways, the likely best among them, in which the letters lie in the text."""
    for begin in {0, name}:
        at = text.find(query, begin)
        if at >= 0:
            yield list(range(at, at + len(query)))
        tight = _tight(query, text, begin)
        if tight:
            yield tight
            yield _by_words(query, text, begin, starts) or tight


def _tight(query: str, text: str, begin: int) -> list[int] | None:
    """The letters from the first place where all of them are, drawn together towards the last."""
    at = begin - 1
    for letter in query:
        at = text.find(letter, at + 1)
        if at < 0:
            return None
    places = [at]
    for letter in reversed(query[:-1]):
        at = text.rfind(letter, begin, at)
        places.append(at)
    return places[::-1]


def _by_words(query: str, text: str, begin: int, starts: set[int]) -> list[int] | None:
    """The letters at the next start of a word each, where they don't go on in a row."""
    places: list[int] = []
    at = begin - 1
    for letter in query:
        following = at + 1
        if not (places and text[following : following + 1] == letter):
            first = following = text.find(letter, following)
            while following >= 0 and following not in starts:
                following = text.find(letter, following + 1)
            if following < 0:
                following = first
        if following < 0:
            return None
        places.append(following)
        at = following
    return places


def _points(places: Sequence[int], text: str, starts: set[int], name: int) -> int:
    points, last = 0, -2
    for place in places:
        if place == last + 1:
            points += CONSECUTIVE
        elif last >= 0:
            points -= min(place - last - 1, LONGEST_GAP)
        points += START_OF_WORD * (place in starts) + IN_NAME * (place >= name)
        last = place
    points += START_OF_NAME * (places[0] == name)
    return points + END_OF_WORD * (text[last + 1 : last + 2] in _SEPARATORS)


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Paths, the shorter ones first, and the same as lines of a text, which is searched faster:
    as they are, folded (every letter in the same place), and the first letters of their words."""

    paths: list[str]
    exact: str
    folded: str
    initials: str

    @classmethod
    def of(cls, paths: list[str]) -> _Chunk:
        exact = "\n" + "\n".join(paths) + "\n"
        initials = "\n".join(map(_initials, paths))
        return cls(paths, exact, fold(exact), f"\n{fold(initials)}\n")


def _initials(path: str) -> str:
    words = path if path.islower() else _HUMP.sub(" ", path)
    return "".join([word[0] for word in words.translate(_TO_BLANKS).split()])


_Search = Callable[[_Chunk], Iterator[str]]


class Corpus:
    """Many paths, ready to be searched."""

    def __init__(self, paths: Iterable[str]) -> None:
        """``paths`` are distinct and have no newlines; folders end with ``/``."""
        # Not one sort of all: that is a call of many milliseconds, in which nothing else runs.
        by_length: dict[int, list[str]] = defaultdict(list)
        for path in paths:
            by_length[len(path)].append(path)
        ordered: list[str] = []
        for length in sorted(by_length):
            ordered += sorted(by_length[length])
        self._size = len(ordered)
        self._top = sorted(path for path in ordered if "/" not in path[:-1])
        begins = range(0, len(ordered), CHUNK)
        self._chunks = [_Chunk.of(ordered[begin : begin + CHUNK]) for begin in begins]

    def __len__(self) -> int:
        return self._size

    def search(
        self, query: str, limit: int = 50, stop: Callable[[], bool] = lambda: False
    ) -> list[str]:
        """The paths that fit best, best first; what lies at the top for an empty query. ``stop``
        is asked now and then, and True ends the search without a result."""
        if not query:
            return self._top[:limit]
        if "\n" in query:
            return []
        exact = query != fold(query)
        together, scattered = _searches(query, exact)
        found: dict[str, None] = {}
        for look in together:
            self._collect(look, found, stop)
        # What has the letters scattered comes last anyway, and takes longest to find.
        if len(found) < limit:
            self._collect(scattered, found, stop)
        if stop():
            return []
        scored = [(-(score(query, path) or 0), len(path), path) for path in found]
        return [path for _, _, path in sorted(scored)[:limit]]

    def _collect(self, look: _Search, found: dict[str, None], stop: Callable[[], bool]) -> None:
        room = CANDIDATES
        for chunk in self._chunks:
            if stop() or not room:
                return
            for path in islice(look(chunk), room):
                found[path] = None
                room -= 1


def _searches(query: str, exact: bool) -> tuple[list[_Search], _Search]:
    """Ways to look for paths, each finds the shortest ones first: those for letters that stand
    together, and the one for letters that need not."""
    letters = [re.escape(letter) for letter in query]
    whole = "".join(letters)
    together: list[_Search] = [partial(_in_lines, re.compile(whole + r"[^\n]*"), exact)]
    if "/" not in query[:-1]:
        in_name = re.compile(whole + r"(?=[^/\n]*/?\n)[^\n]*")
        together.append(partial(_in_lines, in_name, exact))
    if len(query) > 1 and not exact:
        together.append(partial(_in_initials, re.compile(whole + r"[^\n]*")))
    apart = (rf"[^\n{letter}]*{letter}" for letter in letters[1:])
    scattered = re.compile(letters[0] + "".join(apart) + r"[^\n]*")
    return together, partial(_in_lines, scattered, exact)


def _in_lines(pattern: re.Pattern[str], exact: bool, chunk: _Chunk) -> Iterator[str]:
    """The paths with a match; the pattern takes a line to its end, so that it counts once."""
    text = chunk.exact if exact else chunk.folded
    for match in pattern.finditer(text):
        yield chunk.exact[text.rfind("\n", 0, match.start()) + 1 : match.end()]


def _in_initials(pattern: re.Pattern[str], chunk: _Chunk) -> Iterator[str]:
    number, last = -1, 0
    for match in pattern.finditer(chunk.initials):
        number += chunk.initials.count("\n", last, match.start())
        last = match.start()
        yield chunk.paths[number]
