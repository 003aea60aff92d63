"""Where sessions are kept and how one is found.

KIMI_HOME/sessions/PROJECT/ID/ holds events.jsonl, outputs/ and blobs/. PROJECT is a readable
name with a hash of the project's path; an ID starts with the time, so that ids sort by age.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from kimi_cli.store.blobs import BLOBS
from kimi_cli.store.errors import AmbiguousSession, SessionNotFound, StoreError
from kimi_cli.store.events_file import EVENTS

OUTPUTS = "outputs"
# Crockford's base 32: no letter that is mistaken for a digit, in ASCII order.
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
LOOKALIKES = str.maketrans("oil", "011")
EPOCH = 1_767_225_600  # 2026-01-01 UTC; six places of seconds last for 34 years
USER_MESSAGE = b'"type":"user_message","origin":"user"'


def project_key(root: Path) -> str:
    """The name of the project's folder: the last part of its path, and a hash of all of it."""
    real = os.path.realpath(root)
    name = os.path.basename(real)[:32]
    slug = "".join(char if char.isalnum() or char in "._-" else "-" for char in name)
    return f"{slug.lstrip('.-') or 'root'}-{sha256(os.fsencode(real)).hexdigest()[:8]}"


def project_folder(home: Path, root: Path) -> Path:
    return home / "sessions" / project_key(root)


def new_id(now: float) -> str:
    """An id for a session that starts at ``now`` (seconds since the epoch): six places of time
    and four of chance."""
    seconds = max(int(now) - EPOCH, 0)
    number = (seconds % 32**6) * 32**4 + secrets.randbelow(32**4)
    return "".join(ALPHABET[number >> shift & 31] for shift in range(45, -1, -5))


def new_folder(project: Path) -> Path:
    """Make the folder of a new session; without events it is none yet. Raises OSError."""
    while True:
        path = project / new_id(time.time())
        try:
            path.mkdir(mode=0o700)
            break
        except FileExistsError:
            continue
    (path / OUTPUTS).mkdir(mode=0o700)
    (path / BLOBS).mkdir(mode=0o700)
    return path


def latest(home: Path, root: Path) -> str | None:
    """The session of this project that was written to last and holds a message of the user."""
    stamped = []
    for folder in sessions_in(project_folder(home, root)):
        try:
            stamped.append(((folder / EVENTS).stat().st_mtime_ns, folder))
        except OSError:
            continue
    newest = (folder for _, folder in sorted(stamped, reverse=True))
    return next((folder.name for folder in newest if _has_user_message(folder / EVENTS)), None)


def find(home: Path, id_or_prefix: str, root: Path | None = None) -> Path:
    """The folder of the session with this id, or with an id that starts so; one of the project at
    ``root`` is preferred. Raises SessionNotFound, AmbiguousSession, StoreError."""
    wanted = id_or_prefix.strip().lower().translate(LOOKALIKES)
    own = project_folder(home, root) if root is not None else None
    folders, unread = [], None
    for project in projects(home):
        try:
            folders += [folder for folder in sessions_in(project) if _has_events(folder)]
        except StoreError as error:
            # Somebody else's project must not hide ours; it may have what is wanted, though.
            unread = error
    matching = [folder for folder in folders if wanted and folder.name.startswith(wanted)]
    exact = [folder for folder in matching if folder.name == wanted]
    matching = exact or matching
    matching = [folder for folder in matching if folder.parent == own] or matching
    if len(matching) == 1:
        return matching[0]
    if not matching:
        if unread:
            raise unread
        raise SessionNotFound(_not_found(id_or_prefix, folders, own))
    names = ", ".join(sorted(f"{folder.name} ({folder.parent.name})" for folder in matching)[-5:])
    raise AmbiguousSession(f"{id_or_prefix!r} fits {len(matching)} sessions: {names}")


def _not_found(wanted: str, folders: list[Path], own: Path | None) -> str:
    from difflib import get_close_matches

    names = sorted({folder.name for folder in folders})
    near = get_close_matches(wanted[:40], names, n=3)
    if near:
        return f"no session {wanted[:40]!r}; near it: {', '.join(near)}"
    recent = sorted(folder.name for folder in folders if folder.parent == own)[-3:]
    there = f"; the newest here: {', '.join(reversed(recent))}" if recent else ""
    return f"no session {wanted[:40]!r}{there}"


def projects(home: Path) -> list[Path]:
    """The folders of all projects. Raises StoreError."""
    return folders_in(home / "sessions")


def sessions_in(project: Path) -> Iterator[Path]:
    """The folders of a project's sessions; some may hold no events. Raises StoreError."""
    for folder in folders_in(project):
        if set(folder.name) <= set(ALPHABET):
            yield folder


def folders_in(folder: Path) -> list[Path]:
    """What folders there are in one; none where there is no such folder. Raises StoreError."""
    try:
        return [Path(entry.path) for entry in os.scandir(folder) if entry.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError.of(f"{folder} cannot be read", error) from error


def _has_events(folder: Path) -> bool:
    try:
        (folder / EVENTS).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        # It is there and can't be read: who asks for it is to hear that.
        pass
    return True


def _has_user_message(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return any(USER_MESSAGE in line for line in file)
    except OSError:
        return False
