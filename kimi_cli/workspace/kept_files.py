"""Files, folders and symlinks remembered as they were and put back, by descriptors throughout.

All paths are absolute and resolved. Whoever may write where they lead can put a symlink in a
folder's place at any moment; none on the way is followed, and one at the end is a thing itself.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from kimi_cli.workspace import nofollow

_LARGEST = 4 << 20
_MOST_FILES = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """A file, folder or symlink as it was. ``content`` is that of a file, None when it was too
    large to keep; ``target`` that of a symlink."""

    kind: int
    mode: int
    content: bytes | None = None
    target: str = ""


Snapshot = dict[Path, Kept | None]
"""What there was at each path, None for nothing; of a folder all that was in it too."""


class Notes:
    """Makes snapshots; remembers the content of files that did not change between two of them."""

    def __init__(self) -> None:
        self._cache: dict[Path, tuple[tuple[int, ...], Kept]] = {}

    def take(self, path: Path) -> Snapshot:
        """What there is at ``path`` and, in a folder that is not too large, below it. Raises
        OSError with ELOOP where a symlink is on the way."""
        try:
            with nofollow.folder(path.parent) as parent:
                kept = self._look(parent, path)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise
            kept = None
        found: Snapshot = {path: kept}
        waiting = [path] if kept is not None and kept.kind == stat.S_IFDIR else []
        while waiting:
            folder = waiting.pop()
            inside = self._inside(folder)
            found |= inside
            if len(found) > _MOST_FILES:
                return {path: kept}
            waiting += [p for p, each in inside.items() if each and each.kind == stat.S_IFDIR]
        return found

    def _inside(self, folder: Path) -> Snapshot:
        try:
            descriptor = nofollow.listed(folder)
        except OSError:
            return {}
        try:
            names = os.listdir(descriptor)
            if len(names) > _MOST_FILES:
                return dict.fromkeys(folder / name for name in names)
            looked = {folder / name: self._look(descriptor, folder / name) for name in names}
        finally:
            os.close(descriptor)
        return {path: kept for path, kept in looked.items() if kept is not None}

    def _look(self, parent: int, path: Path) -> Kept | None:
        try:
            about = os.stat(path.name, dir_fd=parent, follow_symlinks=False)
            kind = stat.S_IFMT(about.st_mode)
            if kind == stat.S_IFLNK:
                return Kept(kind, 0, None, os.readlink(path.name, dir_fd=parent))
        except OSError:
            return None
        if kind != stat.S_IFREG:
            return Kept(kind, stat.S_IMODE(about.st_mode))
        mark = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        known = self._cache.get(path)
        if known is None or known[0] != mark:
            content = _content(parent, path, about.st_size)
            known = mark, Kept(kind, stat.S_IMODE(about.st_mode), content)
            self._cache[path] = known
        return known[1]


def put_back(path: Path, kept: Kept) -> str:
    """Make again what was at ``path``, folders on the way included, where nothing is there now.
    Returns what was done, a sentence or nothing. Raises OSError."""
    with nofollow.folder(path.parent, make=True) as parent:
        if nofollow.exists(parent, path.name):
            return ""
        if kept.kind not in (stat.S_IFDIR, stat.S_IFLNK) and kept.content is None:
            return f"The command changed {path}, which was too large to keep a copy of."
        try:
            _make(parent, path.name, kept)
        except PermissionError:
            # Who removed it can have taken the rights to its folder away.
            nofollow.unlock(parent)
            _make(parent, path.name, kept)
    return f"The sandbox put {path} back as it was before the command."


def _make(parent: int, name: str, kept: Kept) -> None:
    if kept.kind == stat.S_IFDIR:
        os.mkdir(name, dir_fd=parent)
    elif kept.kind == stat.S_IFLNK:
        os.symlink(kept.target, name, dir_fd=parent)
    else:
        # Exclusive, so that nothing that is put there meanwhile is followed.
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
            file.write(kept.content or b"")
            os.fchmod(file.fileno(), kept.mode)


def _content(parent: int, path: Path, size: int) -> bytes | None:
    if size > _LARGEST:
        return None
    try:
        with os.fdopen(nofollow.open_file(parent, path.name, path), "rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError:
        return None
    return content if len(content) <= _LARGEST else None
