"""Replacing a file so that at every moment either the old or the new content is there."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

from kimi_cli.protocol.workspace import StaleFile

# The folder can't take a second file, or this name is a mount point (a file bound into a
# container): the file itself may still be writable.
_FOLDER_REFUSES = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.EBUSY, errno.EXDEV})
_NO_HARD_LINKS = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})


def create(target: Path, content: bytes, mode: int = 0o666, flush: bool = True) -> None:
    """Write a new file, folders included; ``mode`` is narrowed by the umask. ``flush`` False
    spares the wait for the disk where a power failure may cost the file.

    Raises StaleFile when the name is taken, OSError when it can't be written.
    """
    os.makedirs(target.parent, exist_ok=True)
    with _Temporary(target.parent, content, mode, flush) as temporary:
        try:
            # Unlike a rename, a link never replaces a file that came into being meanwhile.
            os.link(temporary.path, target)
        except FileExistsError:
            raise StaleFile(f"{target} exists") from None
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            if os.path.lexists(target):
                raise StaleFile(f"{target} exists") from None
            temporary.rename(target)


def replace(target: Path, content: bytes, is_expected: Callable[[], bool]) -> str:
    """Write new content over a regular file, keeping mode and owner; returns a note or "".

    ``is_expected`` is asked last thing before the old content goes; False raises StaleFile. Where
    the folder takes no second file, or the owner could not be kept, the file is overwritten in
    place and put back when that fails. A further hard link keeps the old content: an edit touches
    the one name it was given, and package stores link the same file into many places.
    Raises PermissionError for a file without any write permission, also for root.
    """
    status = target.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", str(target))
    mode = stat.S_IMODE(status.st_mode)
    if not mode & 0o222:
        raise PermissionError(errno.EACCES, f"read-only (mode {mode:04o})", str(target))
    if not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, "not writable", str(target))
    try:
        with _Temporary(target.parent, content, 0o600, flush=True) as temporary:
            temporary.adopt(status)
            if not is_expected():
                raise StaleFile(str(target))
            temporary.rename(target)
    except OSError as error:
        if error.errno not in _FOLDER_REFUSES:
            raise
        if not is_expected():
            raise StaleFile(str(target)) from None
        _overwrite(target, content)
        return "written in place: its folder does not allow an atomic replace"
    if status.st_nlink > 1:
        return f"hard links of the file elsewhere ({status.st_nlink - 1}) keep the old content"
    return ""


class _Temporary:
    """A finished, flushed file beside the target; gone at the end unless it was renamed."""

    def __init__(self, folder: Path, content: bytes, mode: int, flush: bool) -> None:
        self.path = folder / f".kimi-{os.urandom(8).hex()}.tmp"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(self.path, flags, mode)
        try:
            with os.fdopen(descriptor, "wb") as file:
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
        own = self.path.stat()
        if (own.st_uid, own.st_gid) != (status.st_uid, status.st_gid):
            try:
                os.chown(self.path, status.st_uid, status.st_gid)
            except PermissionError:
                if own.st_uid != status.st_uid:
                    raise
        os.chmod(self.path, stat.S_IMODE(status.st_mode))

    def rename(self, target: Path) -> None:
        os.replace(self.path, target)

    def _remove(self) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)


def _overwrite(target: Path, content: bytes) -> None:
    with open(target, "r+b", buffering=0) as file:
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
