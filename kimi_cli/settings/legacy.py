"""Endpoints that Moonshot's own programs are set up for: read to be taken over, never written.

kimi-cli keeps ``config.toml``, before that ``config.json``, in ~/.kimi or $KIMI_SHARE_DIR,
kimi-code in ~/.kimi-code or $KIMI_CODE_HOME (their documentation, "Config files"). In both,
``models`` have a ``provider`` and a ``model``, ``providers`` a ``type``, ``base_url`` and
``api_key``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kimi_cli.settings.errors import SettingsError
from kimi_cli.settings.files import expand, read_text, user_home
from kimi_cli.settings.layers import API_KEY, problems

KINDS = frozenset({"kimi", "openai", "openai_legacy"})
"""Types of providers that speak chat completions."""
_FOLDERS = (("KIMI_SHARE_DIR", ".kimi"), ("KIMI_CODE_HOME", ".kimi-code"))
_FILES = ("config.toml", "config.json")


@dataclass(frozen=True, slots=True)
class LegacyEndpoint:
    """An endpoint with a key in one of their files, and the model they use there, "" when it is
    not said."""

    file: Path
    base_url: str
    model: str
    key: str = field(repr=False)


def legacy_endpoints(env: Mapping[str, str]) -> list[LegacyEndpoint]:
    """What their configurations hold, the default of each first; each endpoint and key once. Never
    raises: a file that can't be used holds nothing."""
    found: dict[tuple[str, str], LegacyEndpoint] = {}
    home = user_home(env)
    for variable, name in _FOLDERS:
        if env.get(variable):
            folder = expand(env[variable], home)
        elif home is not None:
            folder = home / name
        else:
            continue
        for endpoint in _endpoints(folder):
            found.setdefault((endpoint.base_url, endpoint.key), endpoint)
    return list(found.values())


def _endpoints(folder: Path) -> Iterator[LegacyEndpoint]:
    for name in _FILES:
        document = _document(folder / name)
        if document is not None:
            yield from _of(folder / name, document)
            return


def _of(file: Path, document: Mapping[str, Any]) -> Iterator[LegacyEndpoint]:
    providers, models = _table(document, "providers"), _table(document, "models")
    default = document.get("default_model")
    # Those of the default model come first, and with it.
    order = sorted(models, key=lambda name: name != default)
    used: dict[str, object] = {}
    for name in order:
        entry = models[name]
        if isinstance(entry, dict):
            used.setdefault(str(entry.get("provider")), entry.get("model"))
    for name in dict.fromkeys([*used, *providers]):
        provider = providers.get(name)
        if not isinstance(provider, dict) or provider.get("type") not in KINDS:
            continue
        url, key, model = provider.get("base_url"), provider.get("api_key"), used.get(name)
        if not isinstance(url, str) or not isinstance(key, str) or not key.strip():
            continue
        if not problems({("endpoint", "base_url"): url, API_KEY: key}):
            named = model if isinstance(model, str) else ""
            yield LegacyEndpoint(file, url.rstrip("/"), named, key.strip())


def _table(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    table = document.get(name)
    return table if isinstance(table, dict) else {}


def _document(path: Path) -> dict[str, Any] | None:
    import json
    import tomllib

    try:
        text = read_text(path)
        if text is None:
            return None
        document = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except (SettingsError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
