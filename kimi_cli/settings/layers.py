"""One layer of settings: values of one origin, checked, and where each of them stands."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from kimi_cli.settings.errors import SettingsError
from kimi_cli.settings.files import read_text
from kimi_cli.settings.keys import (
    Key,
    dotted,
    flatten,
    key_lines,
    line_of,
    nearest,
    nest,
    split_key,
)
from kimi_cli.settings.schema import Settings

Kind = Literal["default", "stored", "user", "project", "environment", "flag"]

API_KEY: Key = ("endpoint", "api_key")
API_KEY_ENV: Key = ("endpoint", "api_key_env")
VARIABLES: dict[str, Key] = {
    "KIMI_API_KEY": API_KEY,
    "KIMI_BASE_URL": ("endpoint", "base_url"),
    "KIMI_MODEL": ("model",),
    "KIMI_THINKING": ("thinking",),
}
MAX_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class Source:
    """Where a value comes from: ``detail`` is "FILE:LINE" or the name of a variable. "stored" is
    what `kimi login` keeps."""

    kind: Kind
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.detail}".rstrip()


@dataclass(slots=True)
class Layer:
    """Values of one origin, by whole key; ``place`` says for people where a key stands."""

    kind: Kind
    values: dict[Key, Any] = field(default_factory=dict)
    detail: Callable[[Key], str] = dotted
    place: Callable[[Key], str] = dotted


def problems(values: Mapping[Key, Any]) -> list[tuple[Key, str]]:
    """What is wrong with the values, at most MAX_PROBLEMS of it: key and message, free of
    secrets. Missing values are not a problem: another layer may have them."""
    try:
        Settings.model_validate(nest(values))
    except ValidationError as error:
        found = [item for item in error.errors() if item["type"] != "missing"]
        return [_problem(item) for item in found[:MAX_PROBLEMS]]
    return []


def _problem(item: Any) -> tuple[Key, str]:
    key = tuple(part for part in item["loc"] if isinstance(part, str) and part != "[key]")
    if item["type"] == "extra_forbidden":
        return key, f"is not a setting{nearest(key)}"
    message = re.sub(r"^[A-Za-z ]*? should", "must", item["msg"])
    return key, message.removeprefix("Value error, ")


def require_valid(layer: Layer) -> Layer:
    """The layer itself; raises SettingsError when a value in it is wrong."""
    found = problems(layer.values)
    if found:
        raise SettingsError(
            "\n".join(f"{layer.place(key)}: {dotted(key)} {message}" for key, message in found)
        )
    return layer


def parse_toml(text: str, path: Path) -> dict[Key, Any]:
    """The values of a TOML text, by whole key. Raises SettingsError with line and column."""
    import tomllib

    try:
        return flatten(tomllib.loads(text))
    except RecursionError as error:
        raise SettingsError(f"{path}: is nested too deeply") from error
    except ValueError as error:
        message, _, place = str(error).partition(" (at ")
        if place == "end of document)":
            place = f"line {text.count(chr(10)) + 1}, at its end"
        where = f", {place.rstrip(')')}" if place else ""
        raise SettingsError(f"{path}{where}: {message}") from error


def file_layer(kind: Kind, path: Path) -> Layer | None:
    """The values of a settings file, not yet checked; None when there is no file."""
    text = read_text(path)
    if text is None:
        return None
    values = parse_toml(text, path)
    lines = key_lines(text)
    if API_KEY in values and API_KEY_ENV in values:
        raise SettingsError(
            f"{path}, line {line_of(lines, API_KEY_ENV)}: endpoint.api_key_env conflicts with "
            f"endpoint.api_key in line {line_of(lines, API_KEY)}: give one of them"
        )
    return Layer(
        kind,
        values,
        detail=lambda key: f"{path}:{line_of(lines, key)}",
        place=lambda key: f"{path}, line {line_of(lines, key)}",
    )


def candidates(text: str) -> list[Any]:
    """What a text outside of a file can mean: a TOML value, and failing that the text itself."""
    import tomllib

    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return [text]
    value = parsed.pop("value")
    return [text] if parsed or isinstance(value, dict) else [value, text]


def value_of(key: Key, text: str) -> Any:
    """The first candidate that is right for the key; the first of all when none is."""
    found = candidates(text)
    return next((one for one in found if not problems({key: one})), found[0])


def environment_layer(env: Mapping[str, str]) -> Layer:
    """The values of our own variables; empty ones count as not set."""
    values: dict[Key, Any] = {}
    names: dict[Key, str] = {}
    for name in sorted(env):
        if not name.startswith("KIMI_") or not env[name].strip():
            continue
        if name in VARIABLES:
            key, value = VARIABLES[name], env[name].strip()
        elif "__" in name:
            key = tuple(name.removeprefix("KIMI_").lower().split("__"))
            value = value_of(key, env[name])
        else:
            continue
        if key in names:
            raise SettingsError(f"{name} and {names[key]} set the same: give one of them")
        for wrong, message in problems({key: value}):
            raise SettingsError(f"environment variable {name}: {dotted(wrong)} {message}")
        values[key], names[key] = value, name
    return Layer(
        "environment",
        values,
        detail=lambda key: names[key],
        place=lambda key: f"environment variable {names[key]}",
    )


def flag_layer(flags: Mapping[str, object]) -> Layer:
    """The values given on the command line."""
    values = {split_key(name): value for name, value in flags.items() if value is not None}
    return require_valid(
        Layer("flag", values, detail=lambda key: "", place=lambda key: "command line")
    )
