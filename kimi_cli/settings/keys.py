"""Dotted names of settings, and where in a TOML text they stand.

A key is a tuple of names: ("prices", "kimi-k2.5", "input") is ``prices."kimi-k2.5".input``.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args, get_origin

from kimi_cli.settings.errors import SettingsError
from kimi_cli.settings.schema import Section, Settings

Key = tuple[str, ...]
ANY_NAME = "NAME"

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PART = r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[A-Za-z0-9_-]+)"""
_DOTTED = rf"{_PART}(?:[ \t]*\.[ \t]*{_PART})*"
_HEAD = re.compile(rf"(?P<bracket>\[[ \t]*)(?P<table>{_DOTTED})[ \t]*\]|(?P<name>{_DOTTED})[ \t]*=")
_TOKEN = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")|'
    r"'''.*?'{3,5}(?!')|"
    r'"(?:[^"\\\n]|\\.)*"|'
    r"'[^'\n]*'|#[^\n]*|\n|[\[\]{}]|[^\S\n]+|[^\s\"'#\[\]{}]+|.",
    re.DOTALL,
)


def dotted(key: Key) -> str:
    """The key as it is written in TOML, safe to print on a terminal."""
    return ".".join(part if _BARE.fullmatch(part) else _quoted(part[:60]) for part in key)


def _quoted(part: str) -> str:
    return '"' + "".join(map(_escaped, part)) + '"'


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    return char if char.isprintable() else f"\\U{ord(char):08x}"


def split_key(text: str) -> Key:
    """The key that ``text`` writes; raises SettingsError when it is none."""
    if not re.fullmatch(_DOTTED, text):
        raise SettingsError(f'{text!r} is not a key (names with a dot are quoted: a."b.c".d)')
    return _parts(text)


def _parts(text: str) -> Key:
    return tuple(_unquoted(part) for part in re.findall(_PART, text))


def _unquoted(part: str) -> str:
    if part.startswith("'"):
        return part[1:-1]
    if not part.startswith('"'):
        return part
    if "\\" not in part:
        return part[1:-1]
    import tomllib

    try:
        return str(tomllib.loads(f"k = {part}")["k"])
    except ValueError as error:
        raise SettingsError(f"{part} is not a key: {error}") from error


def key_lines(text: str) -> dict[Key, int]:
    """The line, from 1, on which each key and each table of a valid TOML text stands. Keys inside
    inline tables are not listed: the table's own line is theirs."""
    lines: dict[Key, int] = {}
    table: Key = ()
    line, depth, fresh = 1, 0, True
    for match in _TOKEN.finditer(text):
        token = match.group()
        if fresh and not token.isspace() and not token.startswith("#"):
            fresh = False
            head = _HEAD.match(text, match.start())
            if head and head["table"]:
                table = _parts(head["table"])
                lines.setdefault(table, line)
            elif head:
                lines[table + _parts(head["name"])] = line
        if token == "\n":
            fresh = fresh or depth == 0
        elif token in "[{":
            depth += 1
        elif token in "]}":
            depth -= 1
        line += token.count("\n")
    return lines


def line_of(lines: Mapping[Key, int], key: Key) -> int:
    """The line of the key, or of the table nearest around it."""
    for length in range(len(key), 0, -1):
        if key[:length] in lines:
            return lines[key[:length]]
    inside = [number for known, number in lines.items() if known[: len(key)] == key]
    return min(inside, default=1)


def flatten(table: Mapping[str, Any], prefix: Key = ()) -> dict[Key, Any]:
    """The values of nested tables, each under its whole key."""
    flat: dict[Key, Any] = {}
    for name, value in table.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, (*prefix, name)))
        else:
            flat[*prefix, name] = value
    return flat


def nest(flat: Mapping[Key, Any]) -> dict[str, Any]:
    """The inverse of ``flatten``."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        table = nested
        for name in key[:-1]:
            table = table.setdefault(name, {})
        table[key[-1]] = value
    return nested


def known_keys(section: type[Section] = Settings, prefix: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every key that can be set, with its default; ``NAME`` stands for a name of one's own."""
    for name, field in section.model_fields.items():
        key = (*prefix, name)
        kind = field.annotation
        if get_origin(kind) is dict:
            kind = get_args(kind)[1]
            key = (*key, ANY_NAME)
        if isinstance(kind, type) and issubclass(kind, Section):
            yield from known_keys(kind, key)
        else:
            yield key, None if field.is_required() else field.default


def nearest(key: Key) -> str:
    """The known key most like an unknown one as " (did you mean …?)", or "" when none is near."""
    from difflib import get_close_matches

    known = [
        tuple(
            key[place] if name == ANY_NAME and place < len(key) else name
            for place, name in enumerate(path)
        )
        for path, _ in known_keys()
    ]
    names = sorted({dotted(path[: len(key)]) for path in known})
    elsewhere = [dotted(path) for path in known if path[-1] == key[-1]]
    found = get_close_matches(dotted(key), names, n=1) or elsewhere[:1]
    return f" (did you mean {found[0]}?)" if found else ""
