"""What a model meant by the name of a tool."""

from __future__ import annotations

import re
from collections.abc import Collection

_INDEX = re.compile(r"[:_]\d+$")
_PREFIXES = ("functions.", "functions_", "function.", "tools.")


def normalise_tool_name(name: str, known: Collection[str] = ()) -> str:
    """The tool that ``name`` means: ``functions.X:3``, ``functions_X``, ``functions.X``,
    ``X<|...`` and other cases of its letters are all X.

    A name in ``known`` is never changed; where several readings are possible the one in
    ``known`` wins, and without one only the certain parts are cut off."""
    if name in known:
        return name
    bare = name.partition("<|")[0].strip()
    candidates = [bare, _INDEX.sub("", bare)]
    for prefix in _PREFIXES:
        if bare.startswith(prefix):
            rest = bare[len(prefix) :]
            candidates += [rest, _INDEX.sub("", rest)]
    for candidate in (*candidates, *map(str.lower, candidates)):
        if candidate in known:
            return candidate
    # ":3" can't be part of a name (names are [A-Za-z0-9_-]), "_3" can.
    certain = re.sub(r":\d+$", "", bare)
    for prefix in ("functions.", "functions_"):
        certain = certain.removeprefix(prefix)
    return certain or name
