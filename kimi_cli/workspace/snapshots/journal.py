"""The note that a restore is under way; who finds it under the lock knows that it was killed."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Entry:
    """From which snapshot to which, in which folders; ``token`` is in the temporary names."""

    before: str
    to: str
    token: str
    folders: tuple[Path, ...]


def write(path: Path, entry: Entry) -> None:
    """Raises OSError."""
    folders = [os.fspath(folder) for folder in entry.folders]
    text = json.dumps(
        {"before": entry.before, "to": entry.to, "token": entry.token, "folders": folders}
    )
    temporary = path.with_suffix(".new")
    with temporary.open("w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _flush(path.parent)


def read(path: Path) -> Entry | None:
    """None where no restore was under way. Raises OSError."""
    try:
        said = json.loads(path.read_bytes())
        folders = tuple(Path(folder) for folder in said["folders"])
        return Entry(str(said["before"]), str(said["to"]), str(said["token"]), folders)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        # It is written whole or not at all, so this is none of ours.
        remove(path)
        return None


def remove(path: Path) -> None:
    """Raises OSError."""
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
        _flush(path.parent)


def _flush(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
