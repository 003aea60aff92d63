"""One word of a shell command: quoting taken off by bash's rules, braces expanded.

The rules are those of the bash manual, "Quoting" and "Shell Expansions". The syntax tree says where
words lie; here they are read a second time, character by character, so that a place where the tree
and bash disagree is found instead of believed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product


class Mismatch(Exception):
    """The text does not read as the syntax tree says; the message says why, for people."""


@dataclass(frozen=True, slots=True)
class Hole:
    """What only the running shell knows: an expansion or a substitution, from ``start`` to ``end``.

    ``many`` says that it can become several words even between double quotes (``"$@"``).
    """

    end: int
    text: str
    many: bool = False
    path: bool = False


@dataclass(frozen=True, slots=True)
class Word:
    """A word as a program gets it.

    ``text`` has no quotes left; what is not known stands there as it was written. ``known`` says
    that the program gets exactly ``text``. ``loose`` says that there could be an option instead,
    ``splits`` that the value of a variable decides how many words there are.
    """

    text: str
    known: bool = True
    loose: bool = False
    splits: bool = False


@dataclass(frozen=True, slots=True)
class _Atom:
    """A piece of a word; braces, globs and splitting happen only where ``quoted`` is false."""

    text: str
    quoted: bool
    hole: Hole | None = None


_DELIMITERS = frozenset(" \t\n;&|()<>")
_VARIABLE = re.compile(r"\$(?:[A-Za-z_][A-Za-z_0-9]*|[0-9@*#?$!-])")
_PLAIN = re.compile(r"[A-Za-z0-9_./:=@%+~^-]+")
_SIMPLE = {
    "a": 7,
    "b": 8,
    "e": 27,
    "E": 27,
    "f": 12,
    "n": 10,
    "r": 13,
    "t": 9,
    "v": 11,
    "\\": 92,
    "'": 39,
    '"': 34,
    "?": 63,
}
_BLANKS = frozenset({"$IFS", "${IFS}"})
_NUMBERS = frozenset({"$#", "$?", "$$", "$!"})
MOST_WORDS = 512
"""More words than this out of one pair of braces are not looked at."""


def read_word(source: str, start: int, holes: Mapping[int, Hole]) -> tuple[list[Word], int]:
    """The words that the one at ``start`` becomes (several after braces or ``$IFS``), and its end.

    ``holes`` are the expansions of the source by their start. Raises Mismatch for a quote that is
    not closed, or for an expansion that ``holes`` does not know.
    """
    atoms, end = _atoms(source, start, holes)
    words: list[Word] = []
    for expanded in _braces(atoms):
        # Braces can leave nothing, which is no word; quotes around nothing are one.
        words += _split(expanded) if expanded else []
    return words, end


def unquote(text: str) -> str | None:
    """``text`` without its quotes when it is one word that needs no shell to be known."""
    try:
        words, end = read_word(text, 0, {})
    except Mismatch:
        return None
    return words[0].text if end == len(text) and len(words) == 1 and words[0].known else None


def _atoms(source: str, at: int, holes: Mapping[int, Hole]) -> tuple[list[_Atom], int]:
    atoms: list[_Atom] = []
    end = len(source)
    while at < end:
        char = source[at]
        following = source[at + 1] if at + 1 < end else ""
        plain = _PLAIN.match(source, at)
        if plain:
            atoms.append(_Atom(plain[0], False))
            at = plain.end()
        elif at in holes:
            hole = holes[at]
            atoms.append(_Atom(hole.text, False, hole))
            at = hole.end
        elif char == "\\":
            if not following:
                raise Mismatch("a backslash ends the text")
            if following != "\n":
                atoms.append(_Atom(following, True))
            at += 2
        elif char == "'":
            close = source.find("'", at + 1)
            if close < 0:
                raise Mismatch("a single quote is not closed")
            atoms.append(_Atom(source[at + 1 : close], True))
            at = close + 1
        elif char == '"':
            at = _double(source, at + 1, holes, atoms)
        elif char == "$" and following == "'":
            at = _ansi(source, at + 2, atoms)
        elif char == "$" and following == '"':
            close = _double(source, at + 2, holes, [])
            # A message catalogue may put another text in its place.
            atoms.append(_Atom(source[at:close], True, Hole(close, source[at:close])))
            at = close
        elif char in _DELIMITERS or char == "`":
            break
        elif char == "$":
            at = _dollar(source, at, False, atoms)
        else:
            atoms.append(_Atom(char, False))
            at += 1
    return atoms, at


def _double(source: str, at: int, holes: Mapping[int, Hole], atoms: list[_Atom]) -> int:
    """Read on to the closing double quote; returns the place behind it."""
    text: list[str] = []
    end = len(source)

    def flush() -> None:
        atoms.append(_Atom("".join(text), True))
        text.clear()

    while at < end:
        char = source[at]
        following = source[at + 1] if at + 1 < end else ""
        if at in holes:
            flush()
            hole = holes[at]
            atoms.append(_Atom(hole.text, True, hole))
            at = hole.end
        elif char == '"':
            flush()
            return at + 1
        elif char == "\\" and following and following in '$`"\\\n':
            if following != "\n":
                text.append(following)
            at += 2
        elif char == "$":
            flush()
            at = _dollar(source, at, True, atoms)
        elif char == "`":
            raise Mismatch(f"{source[at : at + 9]!r} is not plain text")
        else:
            text.append(char)
            at += 1
    raise Mismatch("a double quote is not closed")


def _dollar(source: str, at: int, quoted: bool, atoms: list[_Atom]) -> int:
    """A variable, or a dollar that is just that; returns the place behind it."""
    variable = _VARIABLE.match(source, at)
    if variable:
        text = variable[0]
        atoms.append(_Atom(text, quoted, Hole(variable.end(), text, text == "$@")))
        return variable.end()
    if source[at + 1 : at + 2] in ("{", "(", "["):
        raise Mismatch(f"{source[at : at + 9]!r} is not plain text")
    atoms.append(_Atom("$", quoted))
    return at + 1


def _ansi(source: str, at: int, atoms: list[_Atom]) -> int:
    """Read ``$'...'`` on from behind its opening quote; returns the place behind the last."""
    out = bytearray()
    cut = False
    end = len(source)
    while at < end and source[at] != "'":
        if source[at] != "\\":
            value, at = source[at].encode("utf-8", "surrogatepass"), at + 1
        else:
            value, at = _escape(source, at + 1, end)
        # A NUL ends the string, though its text goes on to the quote.
        cut = cut or value == b"\0"
        if not cut:
            out += value
    if at >= end:
        raise Mismatch("a single quote is not closed")
    atoms.append(_Atom(out.decode("utf-8", "surrogateescape"), True))
    return at + 1


def _escape(source: str, at: int, end: int) -> tuple[bytes, int]:
    """The bytes of the escape whose letter is at ``at``, and the place behind it."""
    if at >= end:
        raise Mismatch("a backslash ends the word")
    char = source[at]
    if char in _SIMPLE:
        return bytes([_SIMPLE[char]]), at + 1
    if char in "01234567":
        digits = _run(source, at, min(end, at + 3), "01234567")
        return bytes([int(digits, 8) & 255]), at + len(digits)
    if char in "xuU":
        most = {"x": 2, "u": 4, "U": 8}[char]
        digits = _run(source, at + 1, min(end, at + 1 + most), "0123456789abcdefABCDEF")
        if char == "x" and source[at + 1 : at + 2] == "{":
            raise Mismatch("an escape that shells read in different ways")
        if not digits:
            return b"\\" + char.encode(), at + 1
        code = int(digits, 16)
        if char == "x":
            return bytes([code]), at + 1 + len(digits)
        if 0xD800 <= code < 0xE000 or code > 0x10FFFF:
            raise Mismatch("an escape that is no character")
        return chr(code).encode(), at + 1 + len(digits)
    if char == "c":
        raise Mismatch("a control character in quotes")
    return b"\\" + char.encode("utf-8", "surrogatepass"), at + 1


def _run(source: str, start: int, end: int, allowed: str) -> str:
    stop = start
    while stop < end and source[stop] in allowed:
        stop += 1
    return source[start:stop]


def _braces(atoms: list[_Atom]) -> list[list[_Atom]]:
    """Brace expansion, the first thing that bash does with a word."""
    if not any(a.text == "{" and not a.quoted for a in atoms):
        return [atoms]
    depth_opens = [i for i, atom in enumerate(atoms) if atom.text == "{" and not atom.quoted]
    for opening in depth_opens:
        closing = _closing(atoms, opening)
        if closing is None:
            continue
        choices = _choices(atoms[opening + 1 : closing])
        if choices is None:
            continue
        before, tails = atoms[:opening], _braces(atoms[closing + 1 :])
        if len(choices) * len(tails) > MOST_WORDS:
            raise Mismatch("braces that make too many words")
        return [[*before, *choice, *tail] for choice, tail in product(choices, tails)]
    return [atoms]


def _closing(atoms: list[_Atom], opening: int) -> int | None:
    depth = 0
    for i in range(opening, len(atoms)):
        if atoms[i].quoted or atoms[i].hole:
            continue
        depth += {"{": 1, "}": -1}.get(atoms[i].text, 0)
        if depth == 0:
            return i
    return None


def _choices(inner: list[_Atom]) -> list[list[_Atom]] | None:
    """What stands between the commas, or the sequence; None when these are no braces to expand."""
    parts: list[list[_Atom]] = [[]]
    depth = 0
    for atom in inner:
        if not atom.quoted and not atom.hole:
            depth += {"{": 1, "}": -1}.get(atom.text, 0)
            if atom.text == "," and depth == 0:
                parts.append([])
                continue
        parts[-1].append(atom)
    if len(parts) > 1:
        return [choice for part in parts for choice in _braces(part)]
    if any(atom.quoted or atom.hole for atom in inner):
        return None
    sequence = _sequence("".join(atom.text for atom in inner))
    return None if sequence is None else [[_Atom(text, True)] for text in sequence]


def _sequence(text: str) -> list[str] | None:
    first, _, rest = text.partition("..")
    last, _, step = rest.partition("..")
    numbers = [first, last, *([step] if step else [])]
    if not first or not last or (rest.count("..") > 0 and not step):
        return None
    if all(n.removeprefix("-").isascii() and n.removeprefix("-").isdigit() for n in numbers):
        low, high = int(first), int(last)
        width = 0
        if any(n.lstrip("-").startswith("0") and len(n.lstrip("-")) > 1 for n in (first, last)):
            width = max(len(first), len(last))
        steps = abs(int(step or 1)) or 1
        if abs(high - low) // steps > MOST_WORDS:
            raise Mismatch("braces that make too many words")
        values = range(low, high + 1, steps) if low <= high else range(low, high - 1, -steps)
        return [f"{value:0{width}d}" for value in values]
    if len(first) == len(last) == 1 and (first + last).isascii() and (first + last).isalpha():
        if first.islower() != last.islower() or step:
            raise Mismatch("braces over characters that are no letters")
        low, high = ord(first), ord(last)
        letters = range(low, high + 1) if low <= high else range(low, high - 1, -1)
        return [chr(letter) for letter in letters]
    return None


def _split(atoms: list[_Atom]) -> list[Word]:
    """Cut at an unquoted ``$IFS``, whose value every shell sets to blanks when it starts."""
    groups: list[list[_Atom]] = [[]]
    for atom in atoms:
        if atom.hole and not atom.quoted and atom.text in _BLANKS:
            groups.append([])
        else:
            groups[-1].append(atom)
    if len(groups) == 1:
        return [_word(atoms)]
    return [_word(group) for group in groups if group]


def _word(atoms: list[_Atom]) -> Word:
    known, loose, splits, text = True, False, False, ""
    last_bracket = max(
        (i for i, a in enumerate(atoms) if a.text == "]" and not a.quoted), default=-1
    )
    for i, atom in enumerate(atoms):
        option = text.startswith("-") and "=" not in text
        hole = atom.hole
        if hole and hole.text in _NUMBERS:
            known = False
        elif hole:
            known = False
            free = not (atom.quoted or hole.path)
            splits = splits or free or hole.many
            loose = loose or splits or not text or option
        elif not atom.quoted and (
            atom.text in ("*", "?") or (atom.text == "[" and last_bracket > i)
        ):
            known = False
            loose = loose or not text or option
        text += atom.text
    return Word(text, known, loose, splits)
