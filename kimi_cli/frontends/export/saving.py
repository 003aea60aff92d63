"""Writing an export to a file, without the secrets in it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from kimi_cli.store.errors import SessionError, StoreError


def token_mask(env: Mapping[str, str]) -> Callable[[str], str]:
    """What blanks secrets: by their forms, and our own keys by themselves. Raises SessionError
    when the settings can't be loaded."""
    from kimi_cli.safety.tokens import TokenMask
    from kimi_cli.settings import SettingsError, load_settings

    try:
        settings = load_settings(env=env, project_root=None, flags={}, trusted=False).settings
    except SettingsError as error:
        raise SessionError(f"{error}; --unmasked exports without looking for secrets") from None
    endpoint = settings.endpoint
    known = [one.get_secret_value() for one in (endpoint.api_key, *endpoint.headers.values())]
    return TokenMask(settings.secrets.tokens, known).mask


def write_export(output: Path, text: str, *, force: bool) -> None:
    """Make the file, or, with ``force``, replace what it holds. Raises SessionError when it exists,
    StoreError, and then there is none that was not there before."""
    # Private, as the session is: its owner may well show it to others.
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if force else os.O_EXCL)
    try:
        with os.fdopen(os.open(output, flags, 0o600), "w", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except BaseException:
                if not force:
                    output.unlink()
                raise
    except FileExistsError:
        raise SessionError(f"{output} exists; --force replaces it") from None
    except OSError as error:
        raise StoreError.of(f"{output} cannot be written", error) from error
