"""What a setting can be set to, and what is wrong with a value that it can't, in the user's
words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from kimi_cli.settings import SettingsError
from kimi_cli.settings.keys import Key, dotted, split_key
from kimi_cli.settings.layers import problems, value_of
from kimi_cli.settings.schema import PRINTABLE, Settings

SECRET = {("endpoint", name) for name in ("api_key", "api_key_env", "headers")}
CHECKED = {("endpoint", name) for name in ("api_key", "base_url")}
"""Settings whose own checks say what a text must be."""
SHOWN = 60
_TYPES = {
    "integer": "a whole number",
    "number": "a number",
    "string": "a text",
    "boolean": "true or false",
    "object": "a table",
}
_PATTERNS = {
    PRINTABLE: "without control characters",
    r"^[a-z0-9_-]*$": "of a-z, 0-9, _ and - only",
    r"^[A-Za-z_][A-Za-z0-9_]*$|^$": "that can be the name of a variable",
}


def value_problem(name: str, text: str) -> str:
    """What is wrong with a text as the value of the dotted key ``name``; "" when nothing is, or
    when ``name`` is no key."""
    try:
        key = split_key(name)
    except SettingsError:
        return ""
    return "\n".join(value_problems(key, value_of(key, text), name))


def accepted(key: Key) -> str:
    """What the key can be set to, "" where there is no such key with a value of its own."""
    schema = Settings.model_json_schema()
    place: dict[str, Any] = schema
    for name in key:
        inside = _resolved(place, schema)
        # A table with names of one's own has one kind of values.
        own: dict[str, Any] = next(iter(inside.get("patternProperties", {}).values()), {})
        place = inside.get("properties", {}).get(name, own)
    return _words(_resolved(place, schema), schema)


def value_problems(key: Key, value: object, name: str) -> Iterator[str]:
    """What is wrong with the value of a key that the user knows by ``name``."""
    for wrong, message in problems({key: value}):
        wanted = accepted(key) if wrong == key else ""
        if not wanted:
            yield f"{name if wrong == key else dotted(wrong)} {message}"
        elif key[:2] in CHECKED and isinstance(value, str):
            yield f"{name}{_shown(key, value)} {message}"
        else:
            yield f"{name}{_shown(key, value)} must be {wanted}"


def _shown(key: Key, value: object) -> str:
    # A key may have been put into the wrong place, a password into a URL.
    if key[:2] in SECRET or (key == ("endpoint", "base_url") and "@" in str(value)):
        return ""
    text = ascii(str(value))[1:-1] or '""'
    return f" {text[:SHOWN]}{'…' * (len(text) > SHOWN)}:"


def _resolved(place: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema at a place without references, and without the null of what may be unset."""
    for one in place.get("anyOf", ()):
        if one.get("type") != "null":
            return _resolved(one, schema)
    if "$ref" in place:
        found: dict[str, Any] = schema["$defs"][place["$ref"].rsplit("/", 1)[1]]
        return found
    return dict(place)


def _words(place: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    if "enum" in place:
        return " or ".join(map(str, place["enum"]))
    if place.get("type") == "array":
        return f"a list, each {_words(_resolved(place['items'], schema), schema)}"
    words = _TYPES.get(str(place.get("type")), "")
    if not words:
        return ""
    low, above, high = (place.get(n) for n in ("minimum", "exclusiveMinimum", "maximum"))
    bounds = [
        f"at least {low:g}" if low is not None else "",
        f"above {above:g}" if above is not None else "",
        f"at most {high:g}" if high is not None else "",
    ]
    limits = " and ".join(filter(None, bounds))
    least = "not empty" if place.get("minLength") else ""
    most = f"at most {place['maxLength']} characters" if "maxLength" in place else ""
    pattern = _PATTERNS.get(place.get("pattern", ""), "")
    return ", ".join(filter(None, (f"{words} {pattern}".strip(), limits, least, most)))
