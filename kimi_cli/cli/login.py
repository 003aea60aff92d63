"""``kimi login`` and ``kimi logout``: keeping an endpoint with its key, and forgetting keys."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

from kimi_cli.cli.event_loop import run
from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.protocol.stops import StopReason
from kimi_cli.settings import SettingsError, kimi_home

if TYPE_CHECKING:
    from kimi_cli.settings import Loaded

CONFIGURATION = EXIT_CODES[StopReason.CONFIGURATION]
LEFT = EXIT_CODES[StopReason.INTERRUPTED]
LONGEST_KEY = 10_000


def login(base_url: str | None, model: str | None, test: bool) -> int:
    """Set up an endpoint, a model and a key; returns the exit code.

    With stdin a terminal and no flags the user is asked for everything; else the key comes from
    stdin and the rest from the flags, or from what is set already.
    """
    env = dict(os.environ)
    asking = bool(sys.stdin and sys.stdin.isatty())
    try:
        if asking and base_url is None and model is None:
            return _ask_all(env, test)
        loaded = _loaded(env, base_url, model)
        url = loaded.settings.endpoint.base_url
        key = _ask_key(url) if asking else _read_key()
        if key is None:
            return LEFT
        return _keep(env, url, loaded.settings.model, key, test)
    except SettingsError as error:
        return _fail(str(error))


def logout(base_url: str | None) -> int:
    """Forget the key for an endpoint, or all keys; returns the exit code."""
    from kimi_cli.settings.credentials import credentials_file, forget_key, stored_keys

    home = kimi_home(os.environ)
    code = 0
    try:
        kept = stored_keys(home)
        if base_url is not None:
            wanted = credentials_file(home, base_url)
            kept = [(origin, path) for origin, path in kept if path == wanted]
        if not kept:
            print(f"no key is kept{f' for {base_url}' if base_url else ''}")
    except (SettingsError, ValueError) as error:
        return _fail(str(error))
    for origin, path in kept:
        try:
            forget_key(path)
            print(f"removed: the key for {origin} ({path})")
        except SettingsError as error:
            code = _fail(str(error), EXIT_CODES[StopReason.STORE_FAILED])
    _tell_rest()
    return code


def _ask_all(env: Mapping[str, str], test: bool) -> int:
    from kimi_cli.frontends.terminal.dialog import NoTerminal
    from kimi_cli.frontends.terminal.first_run import first_run

    try:
        done = run(first_run(env, kimi_home(env), test=test))
    except NoTerminal as error:
        return _fail(
            f"{error}: give --base-url URL and --model NAME, and the key on stdin, as in "
            "`kimi login --base-url URL --model NAME < key-file`"
        )
    if not done:
        print("nothing was changed")
    return 0 if done else LEFT


def _ask_key(url: str) -> str | None:
    from kimi_cli.frontends.terminal.dialog import NoTerminal, ask_text
    from kimi_cli.frontends.terminal.first_run import key_problem

    try:
        return run(ask_text(f"API key for {url}", secret=True, check=key_problem))
    except NoTerminal as error:
        raise SettingsError(f"{error}: give the key on stdin") from None


def _read_key() -> str:
    """The key that stdin has, empty for none. Raises SettingsError for what can't be one."""
    from kimi_cli.settings.layers import API_KEY, problems

    try:
        text = sys.stdin.read(LONGEST_KEY + 1) if sys.stdin else ""
    except (OSError, ValueError) as error:
        raise SettingsError(f"stdin can't be read: {error.__class__.__name__}") from None
    if len(text) > LONGEST_KEY:
        raise SettingsError("stdin holds more than a key")
    for _, message in problems({API_KEY: text}):
        raise SettingsError(f"the key on stdin {message}")
    return text.strip()


def _loaded(env: Mapping[str, str], base_url: str | None, model: str | None) -> Loaded:
    """The settings with the flags over them, each of which has to be right."""
    from kimi_cli.cli.options import flag_problems
    from kimi_cli.settings import load_settings

    given = {"endpoint.base_url": base_url, "model": model}
    flags = {name: value for name, value in given.items() if value is not None}
    if problem := flag_problems(flags):
        raise SettingsError(problem)
    return load_settings(env=env, project_root=None, flags=flags, trusted=False)


def _keep(env: Mapping[str, str], url: str, model: str, key: str, test: bool) -> int:
    from kimi_cli.model.dialects import recognised
    from kimi_cli.settings.login import keep_login

    if not key and recognised(url) is not None:
        words = f"no key: give the one for {url} on stdin, or run `kimi login` on a terminal"
        return _fail(words, EXIT_CODES[StopReason.AUTHENTICATION])
    if test and (code := _tried(env, url, model, key)):
        return code
    done, notes = keep_login(env, url, model, key)
    for line in done:
        print(f"kept: {line}")
    for line in notes:
        print(f"note: {line}", file=sys.stderr)
    return 0


def _tried(env: Mapping[str, str], url: str, model: str, key: str) -> int:
    from kimi_cli.frontends.doctor.trial import greet, settings_for
    from kimi_cli.frontends.plain import clean
    from kimi_cli.model.errors import REMEDIES, ConfigError
    from kimi_cli.protocol.provider import ModelError

    try:
        outcome = run(greet(settings_for(env, url, key, model)))
    except ConfigError as error:
        return _fail(str(error))
    if not isinstance(outcome, ModelError):
        return 0
    remedy = REMEDIES[outcome.kind]
    return _fail(
        f"{clean(outcome.message)}. {remedy.advice} Nothing was kept; --no-test keeps it untried.",
        EXIT_CODES[remedy.stop],
    )


def _tell_rest() -> None:
    """Name a key that is still in force."""
    from kimi_cli.settings import load_settings

    try:
        loaded = load_settings(env=os.environ, project_root=None, flags={}, trusted=False)
    except SettingsError:
        return
    if loaded.settings.endpoint.api_key.get_secret_value():
        source = loaded.sources["endpoint.api_key"]
        if source.kind != "stored":
            print(f"note: there is still a key, from {source}", file=sys.stderr)


def _fail(text: str, code: int = CONFIGURATION) -> int:
    print(f"kimi: {text}", file=sys.stderr)
    return code
