"""API keys that `kimi login` keeps: one file an endpoint under KIMI_HOME/credentials.

A key belongs to the origin it was given for, scheme, host and port, and goes nowhere else. The file
has the key itself, or says that the system's keyring has it.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from kimi_cli.settings.errors import SettingsError
from kimi_cli.settings.files import read_text, write_private

FOLDER = "credentials"
SERVICE = "kimi-cli"
"""The name under which the keyring has our keys."""
KEYRING_SECONDS = 10.0
"""A locked keyring asks its user to unlock it, where there is one to ask."""
PROBE_SECONDS = 3.0
_PORTS = {"http": 80, "https": 443}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoredKey:
    """``key`` is empty where it could not be had; ``problem`` says why, or what is wrong with how
    it is kept. ``place`` is the file, and the keyring if that has it."""

    origin: str
    key: str
    place: str
    problem: str = ""

    def __repr__(self) -> str:
        return f"StoredKey({self.origin})"


def origin_of(base_url: str) -> str:
    """Scheme, host and port of a URL (RFC 6454), as in ``https://api.moonshot.ai``; the port only
    where it is not the scheme's own. Raises ValueError for what is no URL."""
    parts = urlsplit(base_url)
    host = (parts.hostname or "").rstrip(".")
    if not host or not parts.scheme:
        raise ValueError(f"{base_url!r} names no host")
    shown = f"[{host}]" if ":" in host else host
    own = _PORTS.get(parts.scheme)
    port = f":{parts.port}" if parts.port not in (None, own) else ""
    return f"{parts.scheme}://{shown}{port}"


def credentials_file(home: Path, base_url: str) -> Path:
    """Where the key for an endpoint is kept, or would be."""
    origin = origin_of(base_url)
    # Readable, and yet no two origins can meet in one name.
    name = re.sub(r"[^a-z0-9.-]", "_", origin.partition("://")[2])[:80]
    return home / FOLDER / f"{name}-{sha256(origin.encode()).hexdigest()[:8]}.json"


def keep_key(home: Path, base_url: str, key: str, *, keyring: bool = False) -> Path:
    """Keep the key for the endpoint's origin, in a file that only its owner can read or, with
    ``keyring``, in the system's keyring; returns the file. Raises SettingsError."""
    origin = origin_of(base_url)
    path = credentials_file(home, base_url)
    entry = {"endpoint": origin}
    if keyring:
        _in_time(lambda: _keyring().set_password(SERVICE, origin, key), KEYRING_SECONDS)
        entry["keyring"] = SERVICE
    else:
        entry["key"] = key
    _make_folder(path.parent)
    write_private(path, (json.dumps(entry) + "\n").encode())
    return path


def stored_key(home: Path, base_url: str) -> StoredKey | None:
    """The key kept for the origin of ``base_url``, None where there is none. Never raises: what is
    wrong is said in the result."""
    try:
        origin = origin_of(base_url)
    except ValueError:
        return None
    return _read(credentials_file(home, base_url), origin)


def stored_keys(home: Path) -> list[tuple[str, Path]]:
    """The origins that a key is kept for, each with its file; nothing is asked of a keyring. Raises
    SettingsError for a folder that can't be read."""
    try:
        files = sorted((home / FOLDER).glob("*.json"))
    except OSError as error:
        raise SettingsError(f"{home / FOLDER}: cannot be read: {error.strerror}") from None
    return [(str(_entry(path).get("endpoint") or path.name), path) for path in files]


def forget_key(path: Path) -> None:
    """Remove what a file of ``stored_keys`` keeps, from the keyring too. Raises SettingsError; the
    file then stays."""
    entry = _entry(path)
    if entry.get("keyring"):
        origin = str(entry.get("endpoint"))
        ring = _keyring()
        if _in_time(lambda: ring.get_password(SERVICE, origin), KEYRING_SECONDS) is not None:
            _in_time(lambda: ring.delete_password(SERVICE, origin), KEYRING_SECONDS)
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be removed: {error.strerror}") from None


def keyring_name() -> str | None:
    """The name of a keyring that works, for people; None where the package is not installed or a
    password can't be written, read and deleted. Blocks for up to PROBE_SECONDS."""
    try:
        return _in_time(_tried, PROBE_SECONDS)
    except SettingsError:
        return None


def _tried() -> str | None:
    import secrets

    ring = _keyring()
    user, word = f"probe-{os.getpid()}-{secrets.token_hex(4)}", secrets.token_hex(8)
    ring.set_password(SERVICE, user, word)
    try:
        same = ring.get_password(SERVICE, user) == word
    finally:
        ring.delete_password(SERVICE, user)
    return str(getattr(ring.get_keyring(), "name", "keyring")) if same else None


def _read(path: Path, origin: str) -> StoredKey | None:
    try:
        text = read_text(path)
        entry = _entry(path) if text is not None else None
    except SettingsError as error:
        return StoredKey(origin, "", str(path), str(error))
    if entry is None:
        return None
    if entry.get("endpoint") != origin:
        return StoredKey(origin, "", str(path), f"{path}: is no key of {origin}: ignored")
    if entry.get("keyring"):
        return _from_keyring(path, origin)
    key = entry.get("key")
    if not isinstance(key, str) or not key or not all("!" <= char <= "~" for char in key):
        return StoredKey(origin, "", str(path), f"{path}: holds no key: run `kimi login` again")
    return StoredKey(origin, key, str(path), _loosened(path))


def _from_keyring(path: Path, origin: str) -> StoredKey:
    place = f"{path} (keyring)"
    try:
        key = _in_time(lambda: _keyring().get_password(SERVICE, origin), KEYRING_SECONDS)
    except SettingsError as error:
        return StoredKey(origin, "", place, f"the key for {origin}: {error}")
    if not isinstance(key, str) or not key:
        why = f"the keyring no longer has the key for {origin}: run `kimi login` again"
        return StoredKey(origin, "", place, why)
    return StoredKey(origin, key, place)


def _entry(path: Path) -> dict[str, Any]:
    """The document of a file; empty for one that is none."""
    try:
        document = json.loads(read_text(path) or "")
    except (SettingsError, ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}


def _loosened(path: Path) -> str:
    """What to tell of a file, or of its folder, that others can get at; "" when nobody can."""
    for place, right in ((path, "600"), (path.parent, "700")):
        try:
            mode = stat.S_IMODE(place.stat().st_mode)
        except OSError:
            continue
        # A folder that others may only pass through shows them nothing of a private file.
        if mode & (0o066 if place is path.parent else 0o077):
            return (
                f"{place} has the mode {mode:03o}, open to others: `chmod {right} {place}`, and "
                "think about a new key"
            )
    return ""


def _make_folder(folder: Path) -> None:
    try:
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        # The umask could only take more away; an older folder may be looser.
        if folder.stat().st_mode & 0o077:
            folder.chmod(0o700)
    except OSError as error:
        raise SettingsError(f"{folder}: cannot be made: {error.strerror}") from None


def _keyring() -> Any:
    """The package ``keyring``. Raises SettingsError where it is not installed."""
    from importlib import import_module

    try:
        return import_module("keyring")
    except Exception as error:
        why = "is not installed" if isinstance(error, ImportError) else f"fails: {error}"
        raise SettingsError(f"the Python package 'keyring' {why}") from None


def _in_time(ask: Callable[[], T], seconds: float) -> T:
    """What ``ask`` returns, if it does in time. Raises SettingsError when it does not, or raises.

    In a thread of its own: a keyring that waits for its user can't be interrupted."""
    import threading

    done: list[T] = []
    failed: list[BaseException] = []

    def work() -> None:
        try:
            done.append(ask())
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, name="kimi-keyring", daemon=True)
    thread.start()
    thread.join(seconds)
    if done:
        return done[0]
    if failed and isinstance(failed[0], SettingsError):
        raise failed[0]
    if failed:
        # Not its words: a backend could quote what it was given.
        raise SettingsError(f"the keyring refused ({type(failed[0]).__name__})")
    raise SettingsError(f"the keyring did not answer in {seconds:.0f} s")
