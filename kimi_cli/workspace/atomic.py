"""Replacing a file so that at every moment either the old or the new content is there."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from kimi_cli.protocol.workspace import StaleFile
from kimi_cli.workspace import nofollow

# The folder can't take a second file, or this name is a mount point (a file bound into a
# container): the file itself may still be writable.
_FOLDER_REFUSES = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV})
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


def create(target: Path, content: bytes, mode: int = 0o666, flush: bool = True) -> None:
    """Write a new file, folders included; ``mode`` is narrowed by the umask. ``flush`` False
    spares the wait for the disk where a power failure may cost the file. ``target`` is a resolved
    path: no symlink in it is followed.

    Raises StaleFile when the name is taken, OSError when it can't be written.
    """
    with (
        nofollow.folder(target.parent, make=True) as folder,
        _Temporary(folder, content, mode, flush) as temporary,
    ):
        try:
            # Unlike a rename, a link never replaces a file that came into being meanwhile.
            temporary.link(target.name)
        except FileExistsError:
            raise StaleFile(f"{target} exists") from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            if _exists(folder, target.name):
                raise StaleFile(f"{target} exists") from None
            temporary.rename(target.name)


def replace(target: Path, content: bytes, is_expected: Callable[[int], bool]) -> str:
    """Write new content over a regular file, keeping mode and owner; returns a note or "".
    ``target`` is a resolved path: no symlink in it is followed.

    ``is_expected`` is given the file, open for reading, and asked last thing before the old content
    goes; False raises StaleFile. Where the folder takes no second file, or the owner could not be
    kept, the file is overwritten in place and put back when that fails. A further hard link keeps
    the old content: an edit touches the one name it was given, and package stores link the same
    file into many places.
    Raises PermissionError for a file without any write permission, also for root.
    """
    with nofollow.folder(target.parent) as folder:
        return _replace(folder, target, content, is_expected)


def _replace(folder: int, target: Path, content: bytes, is_expected: Callable[[int], bool]) -> str:
    status = os.stat(target.name, dir_fd=folder, follow_symlinks=False)
    nofollow.require_regular(status, target)
    mode = stat.S_IMODE(status.st_mode)
    if not mode & 0o222:
        raise PermissionError(errno.EACCES, f"read-only (mode {mode:04o})", str(target))
    if not os.access(target.name, os.W_OK, dir_fd=folder):
        raise PermissionError(errno.EACCES, "not writable", str(target))
    try:
        with _Temporary(folder, content, 0o600, flush=True) as temporary:
            temporary.adopt(status)
            _require(folder, target, is_expected)
            temporary.rename(target.name)
    except OSError as error:
        if error.errno not in _FOLDER_REFUSES:
            raise
        _require(folder, target, is_expected)
        _overwrite(folder, target, content)
        return "written in place: its folder does not allow an atomic replace"
    if status.st_nlink > 1:
        return f"hard links of the file elsewhere ({status.st_nlink - 1}) keep the old content"
    return ""


def _require(folder: int, target: Path, is_expected: Callable[[int], bool]) -> None:
    try:
        descriptor = nofollow.open_file(folder, target.name, target)
    except FileNotFoundError:
        raise StaleFile(str(target)) from None
    try:
        if not is_expected(descriptor):
            raise StaleFile(str(target))
    finally:
        os.close(descriptor)


def _exists(folder: int, name: str) -> bool:
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


class _Temporary:
    """A finished, flushed file in the target's folder; gone at the end unless it was renamed.

    Its name may be taken from it by whoever can write there: mode and owner go by its descriptor,
    and what stands under the name is moved, never followed.
    """

    def __init__(self, folder: int, content: bytes, mode: int, flush: bool) -> None:
        self._folder = folder
        self._name = f".kimi-{os.urandom(8).hex()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self._name, flags, mode, dir_fd=folder)
        try:
            with os.fdopen(self._descriptor, "wb", closefd=False) as file:
                file.write(content)
                file.flush()
                if flush:
                    # A power failure after the rename could otherwise leave an empty file.
                    os.fsync(file.fileno())
        except BaseException:
            self._remove()
            raise

    def __enter__(self) -> _Temporary:
        return self

    def __exit__(self, *_: object) -> None:
        self._remove()

    def adopt(self, status: os.stat_result) -> None:
        own = os.fstat(self._descriptor)
        if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
            try:
                os.fchown(self._descriptor, status.st_uid, status.st_gid)
            except PermissionError:
                if own.st_uid != status.st_uid:
                    raise
        os.fchmod(self._descriptor, stat.S_IMODE(status.st_mode))

    def link(self, name: str) -> None:
        os.link(
            self._name,
            name,
            src_dir_fd=self._folder,
            dst_dir_fd=self._folder,
            follow_symlinks=False,
        )

    def rename(self, name: str) -> None:
        os.replace(self._name, name, src_dir_fd=self._folder, dst_dir_fd=self._folder)

    def _remove(self) -> None:
        os.close(self._descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._name, dir_fd=self._folder)


def _overwrite(folder: int, target: Path, content: bytes) -> None:
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with os.fdopen(os.open(target.name, flags, dir_fd=folder), "r+b", buffering=0) as file:
        nofollow.require_regular(os.fstat(file.fileno()), target)
        former = file.read()
        try:
            _fill(file.fileno(), content)
        except BaseException:
            _fill(file.fileno(), former)
            raise


def _fill(descriptor: int, content: bytes) -> None:
    view, written = memoryview(content), 0
    while written < len(view):
        written += os.pwrite(descriptor, view[written:], written)
    os.ftruncate(descriptor, len(view))
    os.fsync(descriptor)
