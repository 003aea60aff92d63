"""What a command line is taken apart into."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from kimi_cli.safety.shell_words import Word


@dataclass(frozen=True)
class Part:
    """One program (or builtin) that a command line would start.

    ``argv`` are its words with the quotes off, ``raw`` is its source, from ``start`` to ``end`` in
    characters of the whole command; a part that stands in a string (``sh -c '...'``) has the place
    of that string's command. A part without words only assigns or redirects.

    ``writes`` and ``reads`` are the files it is redirected to and from. ``opaque`` says why it
    can't be known what runs; ``code`` is then the program text, when that is known. ``via`` are the
    wrappers it came through, the outermost first. ``quirks`` say why it is more than its words
    tell. ``more`` says that words will be added that nobody knows yet (xargs). ``moved`` says that
    the folder may be another one. ``transparent`` marks a wrapper that does nothing but run the
    parts it wraps. ``outer`` and ``at`` say where its words stand in the wrapper's: the index of
    the wrapper's part and of the word, -1 when they don't.
    """

    argv: tuple[Word, ...]
    raw: str
    start: int
    end: int
    assignments: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    opaque: str = ""
    code: str | None = None
    via: tuple[str, ...] = ()
    quirks: tuple[str, ...] = ()
    more: bool = False
    moved: bool = False
    transparent: bool = False
    outer: int = -1
    at: int = -1
    stdin: str | None = None

    @cached_property
    def words(self) -> tuple[str, ...]:
        """The words as rules see them: the program by its base name."""
        return (self.name, *(word.text for word in self.argv[1:])) if self.argv else ()

    @cached_property
    def name(self) -> str:
        """The program's base name, empty where there is none."""
        path = self.path
        return path.rsplit("/", 1)[-1] or path if "/" in path else path

    @property
    def path(self) -> str:
        """The program as it was written, without quotes."""
        return self.argv[0].text if self.argv else ""


@dataclass(frozen=True, slots=True)
class Parsed:
    """``trouble`` says why the command can't be parsed; there are no parts then."""

    parts: tuple[Part, ...]
    trouble: str = ""
