"""Setting one value in a settings file, with its comments and layout kept."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kimi_cli.settings.errors import SettingsError
from kimi_cli.settings.files import (
    check_inside,
    project_file,
    read_text,
    user_file,
    write_private,
)
from kimi_cli.settings.keys import Key, dotted, nest, split_key
from kimi_cli.settings.layers import (
    API_KEY,
    API_KEY_ENV,
    Source,
    parse_toml,
    problems,
    value_of,
)
from kimi_cli.settings.load import check_conflicts
from kimi_cli.settings.schema import Settings


def set_value(
    env: Mapping[str, str], root: Path | None, name: str, text: str
) -> tuple[Path, list[str]]:
    """Set the dotted key ``name`` to what ``text`` means, a TOML value or plain text, in the
    user's file, or with ``root`` in that project's; returns the file, and the keys that have to
    be set as well before the settings can be loaded.

    Nothing is written when the file would be wrong afterwards. Raises SettingsError.
    """
    key = split_key(name)
    value = value_of(key, text)
    for wrong, message in problems({key: value}):
        raise SettingsError(f"{dotted(wrong)} {message}")
    path = _file(env, root, key)
    old = read_text(path) or ""
    expected = {**parse_toml(old, path), key: value}
    missing = _check(expected, path)
    new = _edited(old, key, value)
    if new is None or parse_toml(new, path) != expected:
        raise SettingsError(f"{path}: {dotted(key)} can't be set here by a program: edit the file")
    write_private(path, new.encode())
    return path, missing


def _check(values: Mapping[Key, Any], path: Path) -> list[str]:
    """Raise SettingsError for values that can't be loaded; returns the keys that are missing."""
    for wrong, message in problems(values):
        raise SettingsError(f"{path}: {dotted(wrong)} {message}")
    if API_KEY in values and API_KEY_ENV in values:
        raise SettingsError(f"{path}: endpoint.api_key and endpoint.api_key_env: give one of them")
    try:
        settings = Settings.model_validate(nest(values))
    except ValidationError as error:
        return [dotted(tuple(map(str, item["loc"]))) for item in error.errors()]
    check_conflicts(settings, dict.fromkeys(values, Source("user", str(path))))
    return []


def _file(env: Mapping[str, str], root: Path | None, key: Key) -> Path:
    if root is None:
        return user_file(env)
    path = project_file(env, root)
    if path is None:
        raise SettingsError(f"{root} can't have project settings: its .kimi folder is in other use")
    if key == API_KEY:
        raise SettingsError(
            "an API key does not belong into a project's files: leave out --project, or name a "
            "variable with endpoint.api_key_env"
        )
    check_inside(path, root)
    return path


def _edited(text: str, key: Key, value: Any) -> str | None:
    """The text with the value set; None when tomlkit can't."""
    import tomlkit
    from tomlkit.exceptions import TOMLKitError

    try:
        document = tomlkit.parse(text)
        table: Any = document
        for depth, name in enumerate(key[:-1], 1):
            if name not in table:
                table[name] = tomlkit.table(is_super_table=depth < len(key) - 1)
            table = table[name]
        table[key[-1]] = value
        return tomlkit.dumps(document)
    except (TOMLKitError, TypeError, ValueError):
        return None
