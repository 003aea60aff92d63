"""Keeping an endpoint with its model and key, so that every later run uses them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from kimi_cli.settings.credentials import (
    credentials_file,
    forget_key,
    keep_key,
    origin_of,
    stored_key,
)
from kimi_cli.settings.edit import set_value
from kimi_cli.settings.files import kimi_home, user_file
from kimi_cli.settings.layers import API_KEY, API_KEY_ENV, file_layer
from kimi_cli.settings.load import load_settings
from kimi_cli.settings.schema import Endpoint

HEADERS = ("endpoint", "headers")


def keep_login(
    env: Mapping[str, str], base_url: str, model: str, key: str, *, keyring: bool = False
) -> tuple[list[str], list[str]]:
    """Keep endpoint and model in the user's file and the key beside it; returns what was done, and
    what the user should know. An empty ``key`` forgets the one kept for this endpoint.

    A key in the user's file itself belongs to the endpoint that was set there, and would go to the
    new one now: it moves to where the keys are. Raises SettingsError.
    """
    home, file = kimi_home(env), user_file(env)
    layer = file_layer("user", file)
    old = layer.values if layer else {}
    before = str(old.get(("endpoint", "base_url")) or Endpoint.model_fields["base_url"].default)
    done: list[str] = []
    written = str(old.get(API_KEY) or "").strip()
    if written:
        moved = stored_key(home, before)
        if moved is None or not moved.key:
            place = keep_key(home, before, written)
            done.append(f"the key for {origin_of(before)} moved from {file} to {place}")
        set_value(env, None, "endpoint.api_key", "")
    if old.get(API_KEY_ENV):
        set_value(env, None, "endpoint.api_key_env", "")
        done.append(f"endpoint.api_key_env ({old[API_KEY_ENV]}) is no longer set in {file}")
    elsewhere = origin_of(before) != origin_of(base_url)
    if elsewhere and old.get(("endpoint", "dialect"), "auto") != "auto":
        set_value(env, None, "endpoint.dialect", "auto")
    _keep(home, base_url, key, keyring, done)
    set_value(env, None, "endpoint.base_url", base_url)
    set_value(env, None, "model", model)
    done.append(f"{model} at {base_url}, in {file}")
    notes = [
        f"{file} sends the header {name[2]} to {origin_of(base_url)} now"
        for name in old
        if elsewhere and name[:2] == HEADERS
    ]
    return done, notes + _above(env)


def _keep(home: Path, base_url: str, key: str, keyring: bool, done: list[str]) -> None:
    file = credentials_file(home, base_url)
    if key:
        keep_key(home, base_url, key, keyring=keyring)
        where = "in the keyring" if keyring else f"in {file}, which only you can read"
        done.append(f"the key for {origin_of(base_url)}, {where}")
    elif file.exists():
        forget_key(file)
        done.append(f"the former key for {origin_of(base_url)} is removed")


def _above(env: Mapping[str, str]) -> list[str]:
    """What wins over what was kept."""
    loaded = load_settings(env=env, project_root=None, flags={}, trusted=False)
    words = {
        "endpoint.base_url": "the endpoint",
        "model": "the model",
        "endpoint.api_key": "the key",
    }
    return [
        f"{loaded.sources[name].detail} is set and comes before {what} kept here"
        for name, what in words.items()
        if loaded.sources[name].kind == "environment"
    ]
