"""Long outputs go after a while; what was left half made or half removed goes with them."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

from kimi_cli.store.errors import SessionBusy, StoreError
from kimi_cli.store.events_file import EVENTS
from kimi_cli.store.index import OUTPUTS, folders_in, projects, sessions_in
from kimi_cli.store.lock import held

DELETED = ".deleted-"
DAY = 86_400.0
STAMP = ".expired"
MOST_SESSIONS = 3_000
MOST_FILES = 3_000


def expire_outputs(home: Path, days: float, now: float) -> int:
    """Remove files in outputs/ that are older than ``days`` at ``now`` (seconds since the epoch)
    and belong to sessions that are not open; returns how many. 0 days: never.

    Works once a day, on so many sessions and files at most, taken at random, so that each gets
    its turn. Folders that never became a session, or were being deleted, go after a day. Never
    raises.
    """
    if days <= 0 or not _due(home / "sessions" / STAMP, now):
        return 0
    with suppress(OSError, StoreError):
        folders = [folder for project in projects(home) for folder in _candidates(project)]
        random.shuffle(folders)
        removed = (
            path for folder in folders[:MOST_SESSIONS] for path in _expired(folder, days, now)
        )
        return sum(1 for _ in islice(removed, MOST_FILES))
    return 0


def _due(stamp: Path, now: float) -> bool:
    """Whether a day has passed; from now on it has not."""
    try:
        if 0 <= now - stamp.stat().st_mtime < DAY:
            return False
    except FileNotFoundError:
        pass
    except OSError:
        return False
    try:
        stamp.touch(mode=0o600)
        os.utime(stamp, (now, now))
    except OSError:
        return False
    return True


def _candidates(project: Path) -> Iterator[Path]:
    with suppress(StoreError):
        yield from sessions_in(project)
        yield from (f for f in folders_in(project) if f.name.startswith(DELETED))


def _expired(folder: Path, days: float, now: float) -> Iterator[Path]:
    """Removes while it is iterated over."""
    with suppress(OSError, SessionBusy):
        if not (folder / EVENTS).exists() or folder.name.startswith(DELETED):
            if now - folder.stat().st_mtime > DAY:
                shutil.rmtree(folder, ignore_errors=True)
            return
        old = [path for path in _files(folder / OUTPUTS) if _age(path, now) > days * DAY]
        if not old:
            return
        # Only a look, so that nobody who opens the session has to wait for the removal.
        with held(folder / EVENTS, patience=0.0):
            pass
        for path in old:
            path.unlink()
            yield path


def _files(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        return [Path(entry.path) for entry in entries if entry.is_file(follow_symlinks=False)]


def _age(path: Path, now: float) -> float:
    return now - path.stat().st_mtime
