"""Looking at the files of a folder: their status, and the contents of those that changed."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha1

from kimi_cli.workspace.snapshots.listing import GIT, is_foreign
from kimi_cli.workspace.snapshots.manifest import Row
from kimi_cli.workspace.snapshots.model import Limits
from kimi_cli.workspace.snapshots.places import Folders

# How much older than now a file's times must be for its status to tell a later change: file
# systems stamp with a clock that ticks every 1 to 10 ms, FAT every two seconds.
_SETTLED_NS = 2_000_000_000
_TRIES = 3
_ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

Store = Callable[[str, bytes], None]
"""Takes a content and its name."""


@dataclass(slots=True)
class Looked:
    """``rows`` are the files whose content is known. ``unread`` need reading (path to size),
    ``folders`` are listed names that are folders, ``left_out`` are the others and why."""

    rows: dict[bytes, Row] = field(default_factory=dict)
    unread: dict[bytes, int] = field(default_factory=dict)
    folders: list[bytes] = field(default_factory=list)
    left_out: dict[bytes, str] = field(default_factory=dict)


def look(folders: Folders, names: Iterable[bytes], known: Mapping[bytes, Row]) -> Looked:
    """The status of each file, without reading any; those that are gone are nowhere in the
    result, nor is what lies behind a symlink."""
    seen = Looked()
    rows = seen.rows
    status = os.stat
    by_folder = _by_folder(names)
    for folder in sorted(by_folder):
        if folder and is_foreign(folder):
            continue
        try:
            descriptor = folders.enter(folder)
        except OSError as error:
            if error.errno not in _ABSENT:
                seen.left_out[folder] = error.strerror or str(error)
            continue
        for name, path in by_folder[folder]:
            try:
                now = status(name, dir_fd=descriptor, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _ABSENT:
                    seen.left_out[path] = error.strerror or str(error)
                continue
            row = known.get(path)
            if (
                row is not None
                and row[6]
                and row[3] == now.st_ctime_ns
                and row[2] == now.st_mtime_ns
                and row[1] == now.st_size
                and row[4] == now.st_ino
                and row[0] == now.st_mode
            ):
                rows[path] = row
            else:
                _sort(seen, path, name, now)
    return seen


def read(folders: Folders, paths: Iterable[bytes], seen: Looked, limit: int, store: Store) -> None:
    """Read files whose status was looked at, hand each content to ``store`` and note the row."""
    for path in sorted(paths, key=_split):
        folder, name = _split(path)
        try:
            row = _read_one(folders.enter(folder), name, limit, store)
        except OSError as error:
            if error.errno not in _ABSENT:
                seen.left_out[path] = error.strerror or str(error)
            continue
        if row is None:
            seen.left_out[path] = "kept changing while it was read"
        else:
            seen.rows[path] = row


def leave_out_large(seen: Looked, limits: Limits) -> None:
    """Move what is above the limits to ``left_out``."""
    above = f"larger than {_size(limits.max_file)}"
    for path in [path for path, size in seen.unread.items() if size > limits.max_file]:
        seen.left_out[path] = above
        del seen.unread[path]
    for path in [path for path, row in seen.rows.items() if row[1] > limits.max_file]:
        seen.left_out[path] = above
        del seen.rows[path]
    total = sum(seen.unread.values()) + sum([row[1] for row in seen.rows.values()])
    if total <= limits.max_total:
        return
    sizes = {**seen.unread, **{path: row[1] for path, row in seen.rows.items()}}
    for path, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        if total <= limits.max_total:
            return
        total -= size
        seen.left_out[path] = f"among the largest of more than {_size(limits.max_total)} in all"
        seen.unread.pop(path, None)
        seen.rows.pop(path, None)


def is_same(row: Row, now: os.stat_result) -> bool:
    """Whether the file's status is still the one its content was read with."""
    return row[:5] == (now.st_mode, now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino)


def blob_name(content: bytes) -> str:
    """What git calls a blob with this content (gitformat-pack and git-hash-object(1))."""
    return sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _by_folder(names: Iterable[bytes]) -> dict[bytes, list[tuple[bytes, bytes]]]:
    by_folder: dict[bytes, list[tuple[bytes, bytes]]] = {}
    for path in names:
        folder, _, name = path.rpartition(b"/")
        group = by_folder.get(folder)
        if group is None:
            group = by_folder[folder] = []
        group.append((name, path))
    return by_folder


def _sort(seen: Looked, path: bytes, name: bytes, now: os.stat_result) -> None:
    if name.lower() == GIT or name in (b"", b".", b".."):
        return
    kind = stat.S_IFMT(now.st_mode)
    if kind in (stat.S_IFREG, stat.S_IFLNK):
        seen.unread[path] = now.st_size
    elif kind == stat.S_IFDIR:
        seen.folders.append(path)
    else:
        seen.left_out[path] = "neither a file nor a symlink"


def _read_one(folder: int, name: bytes, limit: int, store: Store) -> Row | None:
    for _ in range(_TRIES):
        started = time.time_ns()
        before = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISLNK(before.st_mode):
            content = os.readlink(name, dir_fd=folder)
            after = os.stat(name, dir_fd=folder, follow_symlinks=False)
        elif stat.S_ISREG(before.st_mode):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(name, flags, dir_fd=folder)
            try:
                before = os.fstat(descriptor)
                content = _content(descriptor, min(before.st_size, limit) + 1)
                after = os.fstat(descriptor)
            finally:
                os.close(descriptor)
        else:
            return None
        row = (after.st_mode, after.st_size, after.st_mtime_ns, after.st_ctime_ns, after.st_ino)
        same = (before.st_mtime_ns, before.st_ctime_ns, before.st_ino) == row[2:]
        if same and len(content) == after.st_size:
            oid = blob_name(content)
            store(oid, content)
            settled = max(row[2], row[3]) < started - _SETTLED_NS
            return (*row, oid, settled)
    return None


def _content(descriptor: int, limit: int) -> bytes:
    """At most ``limit`` bytes from the descriptor: one read in the usual case."""
    content = os.read(descriptor, limit)
    if len(content) + 1 >= limit:
        return content
    parts = [content]
    while part := os.read(descriptor, limit):
        parts.append(part)
    return b"".join(parts)


def _split(path: bytes) -> tuple[bytes, bytes]:
    folder, _, name = path.rpartition(b"/")
    return folder, name


def _size(number: int) -> str:
    return f"{number / 2**20:.4g} MiB"
