"""Bringing files of a folder to another state, one by one, never through a symlink."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from kimi_cli.workspace.snapshots.look import is_same
from kimi_cli.workspace.snapshots.manifest import Row
from kimi_cli.workspace.snapshots.model import Entry, SnapshotError
from kimi_cli.workspace.snapshots.places import Folders

_CHANGED = "changed meanwhile"
_TAKEN = "something that is not in the snapshot of the present state is in its place"

Read = Callable[[str], bytes]


@dataclass(slots=True)
class Outcome:
    """Paths by what became of them; ``failed`` ones are as they were, with the reason."""

    changed: list[bytes] = field(default_factory=list)
    created: list[bytes] = field(default_factory=list)
    deleted: list[bytes] = field(default_factory=list)
    failed: dict[bytes, str] = field(default_factory=dict)


def bring(
    folders: Folders,
    steps: Mapping[bytes, Entry | None],
    present: Mapping[bytes, Row],
    keep: Callable[[bytes], bool],
    content: Read,
    token: str,
) -> Outcome:
    """Make each file of ``steps`` what it should be (None: not there).

    ``present`` is the state now, whose contents are kept: a file that is not as it says is never
    replaced or removed. ``keep`` tells whether a folder that became empty is to stay. ``token`` is
    in the names of temporary files. Raises nothing for a file: it is in ``failed`` then.
    """
    outcome = Outcome()
    mover = _Mover(folders, content, token)
    gone = [path for path, entry in steps.items() if entry is None]
    # Removals first: a file may stand where a folder has to be, and the other way round.
    for path in sorted(gone, reverse=True):
        if _try(outcome, path, lambda path=path: mover.remove(path, present[path])):  # type: ignore[misc]
            outcome.deleted.append(path)
    _prune(folders, outcome.deleted, keep)
    for path, entry in sorted((path, entry) for path, entry in steps.items() if entry):
        row = present.get(path)
        if _try(outcome, path, lambda p=path, e=entry, r=row: mover.put(p, e, r)):  # type: ignore[misc]
            (outcome.created if row is None else outcome.changed).append(path)
    return outcome


def sweep(folders: Folders, paths: Iterable[bytes], token: str) -> None:
    """Remove the temporary files that an interrupted ``bring`` with this token left."""
    start = _temporary(token)
    for parent in sorted({path.rpartition(b"/")[0] for path in paths}):
        try:
            folder = folders.enter(parent)
            # A descriptor that only enters can't be listed.
            listed = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        except OSError:
            continue
        try:
            for name in os.listdir(listed):
                if os.fsencode(name).startswith(start):
                    with contextlib.suppress(OSError):
                        os.unlink(name, dir_fd=folder)
        finally:
            os.close(listed)


def _try(outcome: Outcome, path: bytes, step: Callable[[], None]) -> bool:
    try:
        step()
    except OSError as error:
        outcome.failed[path] = error.strerror or str(error)
        return False
    except SnapshotError as error:
        outcome.failed[path] = str(error)
        return False
    return True


class _Mover:
    def __init__(self, folders: Folders, content: Read, token: str) -> None:
        self._folders, self._content, self._token = folders, content, token
        self._count = 0

    def remove(self, path: bytes, row: Row) -> None:
        parent, _, name = path.rpartition(b"/")
        folder = self._folders.enter(parent)
        _check(folder, name, row)
        os.unlink(name, dir_fd=folder)

    def put(self, path: bytes, entry: Entry, row: Row | None) -> None:
        parent, _, name = path.rpartition(b"/")
        regular = stat.S_ISREG(entry.mode)
        if row is not None and row[5] == entry.oid and regular and stat.S_ISREG(row[0]):
            with contextlib.suppress(PermissionError):
                return _set_mode(self._folders.enter(parent), name, entry.mode, row)
        # Read first: a content that is lost must not cost the folder or the present file.
        content = self._content(entry.oid)
        folder = self._folders.enter(parent, make=True)
        temporary = _temporary(self._token) + b"%d" % self._count
        self._count += 1
        try:
            if regular:
                owner = os.stat(name, dir_fd=folder, follow_symlinks=False) if row else None
                _write(folder, temporary, content, entry.mode, owner)
            else:
                os.symlink(content, temporary, dir_fd=folder)
            if row is None:
                _place_new(folder, temporary, name)
            else:
                _check(folder, name, row)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=folder)
        return None


def _check(folder: int, name: bytes, row: Row) -> None:
    now = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if not is_same(row, now):
        raise SnapshotError(_CHANGED)


def _set_mode(folder: int, name: bytes, mode: int, row: Row) -> None:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(name, flags, dir_fd=folder)
    try:
        if not is_same(row, os.fstat(descriptor)):
            raise SnapshotError(_CHANGED)
        os.fchmod(descriptor, stat.S_IMODE(mode))
    finally:
        os.close(descriptor)


def _write(
    folder: int, name: bytes, content: bytes, mode: int, owner: os.stat_result | None
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=folder)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        if owner is not None:
            _keep_owner(descriptor, owner)
        # After the owner: changing that takes setuid and setgid away.
        os.fchmod(descriptor, stat.S_IMODE(mode))
        # A power failure after the rename could otherwise leave an empty file.
        os.fsync(descriptor)


def _keep_owner(descriptor: int, owner: os.stat_result) -> None:
    """As far as the user may: an ordinary one can give away only to groups of his own."""
    own = os.fstat(descriptor)
    if (own.st_uid, own.st_gid) != (owner.st_uid, owner.st_gid):
        with contextlib.suppress(PermissionError):
            os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _place_new(folder: int, temporary: bytes, name: bytes) -> None:
    """Give the file its name without replacing what may have come there."""
    _remove_empty(folder, name)
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise SnapshotError(_TAKEN) from None
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        with contextlib.suppress(FileNotFoundError):
            os.stat(name, dir_fd=folder, follow_symlinks=False)
            raise SnapshotError(_TAKEN) from None
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)


def _remove_empty(folder: int, name: bytes) -> None:
    """Empty folders are in no snapshot, and may stand, one in another, where a file has to be."""
    with contextlib.suppress(OSError):
        found = os.fwalk(name, topdown=False, dir_fd=folder)
        if not any(files for _, _, files, _ in found):
            for _, folders, _, inside in os.fwalk(name, topdown=False, dir_fd=folder):
                for empty in folders:
                    os.rmdir(empty, dir_fd=inside)
            os.rmdir(name, dir_fd=folder)


def _prune(folders: Folders, deleted: Iterable[bytes], keep: Callable[[bytes], bool]) -> None:
    """Remove the folders that were left empty, and those above them."""
    emptied: set[bytes] = set()
    for path in deleted:
        while (path := path.rpartition(b"/")[0]) and path not in emptied:
            emptied.add(path)
    for folder in sorted(emptied, key=lambda path: -path.count(b"/")):
        above, _, name = folder.rpartition(b"/")
        if not keep(folder):
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=folders.enter(above))


def _temporary(token: str) -> bytes:
    return f".kimi-{token}-".encode()
