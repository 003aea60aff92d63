"""Files reached folder by folder, so that no symlink on the way is followed.

Whoever may write in a folder can put a symlink in its place at any moment: a path that was judged
and is then opened by name may lead elsewhere. Here each step is opened below the one before
(openat(2), O_NOFOLLOW), so that a resolved path means the same place or nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

# A folder that may be entered but not listed is enough, where the system can tell them apart.
_ENTER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_LIST = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_RDONLY
# Non-blocking for what hides behind a regular mode, such as /proc/kmsg.
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextlib.contextmanager
def folder(path: Path, *, make: bool = False) -> Iterator[int]:
    """The folder at an absolute ``path`` without symlinks, as a descriptor to work relative to;
    with ``make`` what is missing is made.

    Raises OSError: FileNotFoundError, NotADirectoryError, and with ELOOP where a symlink is.
    """
    current = os.open(path.anchor, _ENTER)
    try:
        for depth, name in enumerate(path.parts[1:], 2):
            try:
                inner = _enter(current, name, make)
            except OSError as error:
                raise _at(error, Path(*path.parts[:depth]), current, name) from None
            os.close(current)
            current = inner
        yield current
    finally:
        os.close(current)


def open_file(parent: int, name: str, path: Path) -> int:
    """A regular file for reading; ``path`` is what errors call it. Raises OSError for all else,
    at once also for what would block."""
    # Opening some devices does something.
    require_regular(os.stat(name, dir_fd=parent, follow_symlinks=False), path)
    try:
        descriptor = os.open(name, _READ, dir_fd=parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    try:
        require_regular(os.fstat(descriptor), path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def listed(path: Path) -> int:
    """The folder at ``path``, as a descriptor that can be listed. Raises as ``folder``."""
    with folder(path) as found:
        return os.open(".", _LIST, dir_fd=found)


def exists(parent: int, name: str) -> bool:
    """Whether there is anything of that name, a symlink that leads nowhere too."""
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def unlock(descriptor: int) -> None:
    """Give the owner all rights to the folder, which may be open for entering only. Raises
    OSError, for the folder of somebody else too."""
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode) | stat.S_IRWXU
    if hasattr(os, "O_PATH"):
        # fchmod(2) refuses such a descriptor; its name in /proc leads to nothing else.
        os.chmod(f"/proc/self/fd/{descriptor}", mode)
    else:
        os.fchmod(descriptor, mode)


def require_regular(status: os.stat_result, path: Path) -> None:
    """Raises the OSError that says what ``path`` is instead of a regular file."""
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if stat.S_ISLNK(mode):
        raise _symlink(path)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"{_kind(mode)}, not a regular file", str(path))


def _enter(parent: int, name: str, make: bool) -> int:
    try:
        return os.open(name, _ENTER, dir_fd=parent)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, dir_fd=parent)
    return os.open(name, _ENTER, dir_fd=parent)


def _at(error: OSError, path: Path, parent: int, name: str) -> OSError:
    """The error with its path, and a symlink called what it is."""
    if error.errno in (errno.ENOTDIR, errno.ELOOP):
        with contextlib.suppress(OSError):
            if stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                return _symlink(path)
    return OSError(error.errno, error.strerror, str(path))


def _symlink(path: Path) -> OSError:
    why = f"{os.strerror(errno.ELOOP)}, or one put there just now"
    return OSError(errno.ELOOP, why, str(path))


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"
