"""Loading: layers of settings, from the defaults up to the flags, into one model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from kimi_cli.settings.errors import SettingsError
from kimi_cli.settings.files import (
    check_inside,
    expand,
    kimi_home,
    project_file,
    user_file,
    user_home,
)
from kimi_cli.settings.keys import Key, dotted, flatten, nest
from kimi_cli.settings.layers import (
    API_KEY,
    API_KEY_ENV,
    Layer,
    Source,
    environment_layer,
    file_layer,
    flag_layer,
    problems,
    require_valid,
)
from kimi_cli.settings.schema import Budget, Endpoint, Settings

BASE_URL: Key = ("endpoint", "base_url")
HEADERS: Key = ("endpoint", "headers")
ADD_DIRS: Key = ("workspace", "add_dirs")
SHARED_KEY_VARIABLE = "MOONSHOT_API_KEY"
RULES: tuple[Key, ...] = (("policy", "allow"), ("policy", "ask"), ("policy", "deny"))
ADDED_UP: tuple[Key, ...] = (*RULES, ("secrets", "files"), ("secrets", "tokens"))
"""Lists that every source adds to: a later one must not lift what an earlier one forbids."""
HARMLESS: frozenset[Key] = frozenset(
    {
        ("policy", "ask"),
        ("policy", "deny"),
        ("model",),
        ("thinking",),
        ("headless", "heartbeat"),
        *(("budget", name) for name in Budget.model_fields),
    }
)
MAX_WARNINGS = 10


@dataclass(frozen=True, slots=True)
class Loaded:
    """``sources`` has every key of ``settings``, dotted as TOML writes it; ``rules`` are those of
    the policy as (verdict, rule, source); ``key_variables`` are those that any source names for a
    key, also where another key is used."""

    settings: Settings
    sources: dict[str, Source]
    warnings: list[str]
    rules: list[tuple[str, str, Source]] = field(default_factory=list)
    key_variables: frozenset[str] = frozenset()


def load_settings(
    *,
    env: Mapping[str, str],
    project_root: Path | None,
    flags: Mapping[str, object],
    trusted: bool,
) -> Loaded:
    """Load the settings in force.

    ``flags`` are the values given on the command line, by dotted key; None and "not given" are
    the same; empty ``endpoint.headers`` take away those of the files, which are for their own
    endpoint. ``trusted`` says whether the user trusts ``project_root``; when not, its file can
    set harmless keys only and nothing in it is an error. Raises SettingsError.
    """
    warnings: list[str] = []
    user = file_layer("user", user_file(env))
    below = [require_valid(user)] if user else []
    project = _project_layer(env, project_root, trusted, below, warnings)
    layers = [*below, *([project] if project else []), environment_layer(env), flag_layer(flags)]
    _anchor_folders(layers, env, project_root)
    return _merge(layers, env, warnings)


def _project_layer(
    env: Mapping[str, str],
    root: Path | None,
    trusted: bool,
    below: list[Layer],
    warnings: list[str],
) -> Layer | None:
    path = project_file(env, root)
    if root is None or path is None:
        return None
    try:
        check_inside(path, root)
        layer = file_layer("project", path)
    except SettingsError as error:
        if trusted:
            raise
        warnings.append(f"{error} (ignored: this folder is not trusted)")
        return None
    if layer is None:
        return None
    if trusted:
        return require_valid(layer)
    _keep_harmless(layer, below, warnings)
    return layer


def _keep_harmless(layer: Layer, below: list[Layer], warnings: list[str]) -> None:
    """Drop from an untrusted project's layer what could do harm, with a warning for each."""
    reasons = _reasons(layer, below)
    for key, reason in list(reasons.items())[:MAX_WARNINGS]:
        warnings.append(f"{layer.place(key)}: {dotted(key)[:200]} ignored: {reason}")
    if len(reasons) > MAX_WARNINGS:
        warnings.append(f"and {len(reasons) - MAX_WARNINGS} more settings ignored there")
    layer.values = {key: value for key, value in layer.values.items() if key not in reasons}


def _reasons(layer: Layer, below: list[Layer]) -> dict[Key, str]:
    """Why values of an untrusted project's layer have no effect."""
    reasons = {key: "this folder is not trusted" for key in layer.values if key not in HARMLESS}
    rest = {key: value for key, value in layer.values.items() if key in HARMLESS}
    reasons.update((key, f"it {message}") for key, message in problems(rest))
    in_force = {key: value for other in below for key, value in other.values.items()}
    for key, value in rest.items():
        if key[0] == "budget" and key not in reasons:
            limit = in_force.get(key, Budget.model_fields[key[1]].default)
            if limit is not None and value > limit:
                reasons[key] = f"more than the {limit} in force, and this folder is not trusted"
    return reasons


def held_back(env: Mapping[str, str], project_root: Path) -> list[tuple[str, str, Any]]:
    """What of a project's settings has an effect only when the user trusts the folder: where it
    stands, its dotted key, and its value as the file has it. Empty where trust would change
    nothing, and for a file that would be refused as a whole. Raises SettingsError for the user's
    own file."""
    user = file_layer("user", user_file(env))
    path = project_file(env, project_root)
    if path is None:
        return []
    try:
        check_inside(path, project_root)
        layer = file_layer("project", path)
        if layer is None:
            return []
        require_valid(Layer("project", dict(layer.values), place=layer.place))
    except SettingsError:
        return []
    reasons = _reasons(layer, [require_valid(user)] if user else [])
    return [(layer.place(key), dotted(key), layer.values[key]) for key in reasons]


def _anchor_folders(layers: list[Layer], env: Mapping[str, str], root: Path | None) -> None:
    """Make the folders to add absolute where their origin says what they are relative to."""
    home = user_home(env)
    for layer in layers:
        if ADD_DIRS in layer.values:
            paths = [expand(path, home) for path in layer.values[ADD_DIRS]]
            if layer.kind == "project" and root:
                paths = [root / path for path in paths]
            layer.values[ADD_DIRS] = [str(path) for path in paths]


def _merge(layers: list[Layer], env: Mapping[str, str], warnings: list[str]) -> Loaded:
    values: dict[Key, Any] = {}
    origin: dict[Key, Layer] = {}
    for layer in layers:
        for one, other in ((API_KEY, API_KEY_ENV), (API_KEY_ENV, API_KEY)):
            if one in layer.values:
                values.pop(other, None)
        if HEADERS in layer.values:
            values = {key: value for key, value in values.items() if key[:2] != HEADERS}
        added = {key: values[key] for key in ADDED_UP if key in values and key in layer.values}
        values.update(layer.values)
        for key, former in added.items():
            values[key] = [*former, *(one for one in values[key] if one not in former)]
        origin.update(dict.fromkeys(layer.values, layer))
    sources = {key: Source(origin[key].kind, origin[key].detail(key)) for key in values}
    _named_key(values, sources, env, warnings)
    _shared_key(values, sources, env, warnings)
    _stored_key(values, sources, env, warnings)
    try:
        settings = Settings.model_validate(nest(values))
    except ValidationError as error:
        # Each layer was valid for itself: only a value that none of them has can be wrong.
        raise SettingsError(_missing(error, origin)) from error
    check_conflicts(settings, sources)
    complete = {
        dotted(key): sources.get(key, Source("default")) for key in flatten(settings.model_dump())
    }
    variables = {str(name) for layer in layers if (name := layer.values.get(API_KEY_ENV))}
    return Loaded(settings, complete, warnings, list(_rules(layers)), frozenset(variables))


def _rules(layers: list[Layer]) -> Iterator[tuple[str, str, Source]]:
    for layer in layers:
        for key in RULES:
            for rule in layer.values.get(key, ()):
                yield key[1], rule, Source(layer.kind, layer.detail(key))


def _missing(error: ValidationError, origin: Mapping[Key, Layer]) -> str:
    lines = []
    for item in error.errors():
        key = tuple(str(part) for part in item["loc"])
        beside = next(known for known in origin if known[: len(key) - 1] == key[:-1])
        lines.append(f"{origin[beside].place(beside)}: {dotted(key)} is missing")
    return "\n".join(lines)


def _named_key(
    values: dict[Key, Any],
    sources: dict[Key, Source],
    env: Mapping[str, str],
    warnings: list[str],
) -> None:
    """Take the key from the variable that ``api_key_env`` names."""
    name = values.get(API_KEY_ENV)
    if not name:
        return
    source = sources[API_KEY_ENV]
    if env.get(name, "").strip():
        values[API_KEY] = _valid_key(env[name], name)
        sources[API_KEY] = Source(source.kind, f"{source.detail} (variable {name})".lstrip())
    else:
        warnings.append(f"endpoint.api_key_env ({source}) names {name}, which is not set")


def _shared_key(
    values: dict[Key, Any],
    sources: dict[Key, Source],
    env: Mapping[str, str],
    warnings: list[str],
) -> None:
    """Take the key from MOONSHOT_API_KEY, which other programs use too: a project's file, trusted
    as it may be, doesn't get to say where it travels."""
    key = env.get(SHARED_KEY_VARIABLE, "").strip()
    known = sources.get(API_KEY)
    if not key or (known and known.kind in ("environment", "flag")):
        return
    address = sources.get(BASE_URL)
    if address is None or address.kind != "project":
        values[API_KEY] = _valid_key(key, SHARED_KEY_VARIABLE)
        sources[API_KEY] = Source("environment", SHARED_KEY_VARIABLE)
    elif not known:
        warnings.append(
            f"{SHARED_KEY_VARIABLE} is not sent to the endpoint that the project's settings name "
            f"({address}): set KIMI_API_KEY for it"
        )


def _stored_key(
    values: dict[Key, Any],
    sources: dict[Key, Source],
    env: Mapping[str, str],
    warnings: list[str],
) -> None:
    """Take the key that `kimi login` keeps for the endpoint, where nothing else gives one. It is
    bound to its own host: nobody who changes the endpoint gets it."""
    if _given(values.get(API_KEY)) or (API_KEY in sources and sources[API_KEY].kind == "flag"):
        return
    headers = (key[2] for key in values if key[:2] == HEADERS and len(key) == 3)
    if any(name.lower() == "authorization" for name in headers):
        return
    from kimi_cli.settings.credentials import stored_key

    url = values.get(BASE_URL, Endpoint.model_fields["base_url"].default)
    found = stored_key(kimi_home(env), url)
    if found is None:
        return
    if found.problem:
        warnings.append(found.problem)
    if found.key:
        values[API_KEY] = SecretStr(found.key)
        sources[API_KEY] = Source("stored", found.place)


def _given(key: Any) -> bool:
    return bool((key.get_secret_value() if isinstance(key, SecretStr) else key or "").strip())


def _valid_key(text: str, variable: str) -> SecretStr:
    for _, message in problems({API_KEY: text}):
        raise SettingsError(f"environment variable {variable}: the key {message}")
    return SecretStr(text.strip())


def check_conflicts(settings: Settings, sources: Mapping[Key, Source]) -> None:
    """Raise SettingsError for values that are right for themselves but not together."""
    pairs = (("shell", "timeout", "max_timeout"), ("retry", "base_seconds", "cap_seconds"))
    for section, small, large in pairs:
        table = getattr(settings, section)
        if getattr(table, small) > getattr(table, large):
            low, high = (section, small), (section, large)
            raise SettingsError(
                f"{dotted(low)} ({getattr(table, small):g}, "
                f"{sources.get(low, Source('default'))}) is greater than {dotted(high)} "
                f"({getattr(table, large):g}, {sources.get(high, Source('default'))})"
            )
