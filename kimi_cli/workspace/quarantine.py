"""A folder that takes what is moved out of the way, without following a symlink on either side."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from pathlib import Path

from kimi_cli.workspace import nofollow

_MOST_OF_A_NAME = 200  # bytes; file systems take 255, and a number goes before
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_ENTER = _READ | os.O_DIRECTORY
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PIECE = 1 << 20


class Quarantine:
    """Moves things to ``folder``, a resolved path; it is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def take(self, path: Path) -> Path | None:
        """Move what is at the absolute ``path`` here, of a symlink the link itself; returns where
        it is now, None when there was nothing. Where no rename leads (another file system), files,
        folders and symlinks are copied and then removed; FIFOs, sockets and devices are only
        removed. Raises OSError, with ELOOP for a symlink on the way."""
        try:
            with nofollow.folder(path.parent) as source:
                return self._take(source, path.name)
        except FileNotFoundError:
            if not self._folder.parent.is_dir():
                raise
            return None

    def _take(self, source: int, name: str) -> Path | None:
        if not nofollow.exists(source, name):
            return None
        with (
            nofollow.folder(self._folder.parent, make=True) as parent,
            contextlib.suppress(FileExistsError),
        ):
            os.mkdir(self._folder.name, 0o700, dir_fd=parent)
        with nofollow.folder(self._folder) as target:
            new = _free_name(target, name)
            try:
                _rename(source, name, target, new)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
                with contextlib.suppress(OSError):
                    # As for a rename; where it fails, so does what follows.
                    nofollow.unlock(source)
                _copy(source, name, target, new)
                _remove(source, name)
        return self._folder / new


def _free_name(folder: int, name: str) -> str:
    short = os.fsdecode(os.fsencode(name)[:_MOST_OF_A_NAME])
    for number in range(1, 1_000_000):
        new = f"{number}-{short}"
        if not nofollow.exists(folder, new):
            return new
    raise OSError(errno.EEXIST, "no free name among those set aside")


def _rename(source: int, name: str, target: int, new: str) -> None:
    try:
        os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)
    except PermissionError:
        # Who made it can have taken the rights away that moving it needs, rename(2).
        nofollow.unlock(source)
        if stat.S_ISDIR(os.stat(name, dir_fd=source, follow_symlinks=False).st_mode):
            _unlock(source, name)
        os.rename(name, new, src_dir_fd=source, dst_dir_fd=target)


def _unlock(parent: int, name: str) -> None:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
    descriptor = os.open(name, flags, dir_fd=parent)
    try:
        nofollow.unlock(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: int, name: str, target: int, new: str) -> None:
    about = os.stat(name, dir_fd=source, follow_symlinks=False)
    if stat.S_ISLNK(about.st_mode):
        os.symlink(os.readlink(name, dir_fd=source), new, dir_fd=target)
    elif stat.S_ISREG(about.st_mode) or stat.S_ISDIR(about.st_mode):
        needed = stat.S_IRUSR if stat.S_ISREG(about.st_mode) else stat.S_IRWXU
        if ~about.st_mode & needed and os.geteuid() != 0:
            _unlock(source, name)
        if stat.S_ISREG(about.st_mode):
            _copy_file(source, name, target, new)
        else:
            _copy_folder(source, name, target, new)


def _copy_file(source: int, name: str, target: int, new: str) -> None:
    descriptor = os.open(name, _READ, dir_fd=source)
    try:
        about = os.fstat(descriptor)
        nofollow.require_regular(about, Path(name))
        # No more than there is now: somebody may go on writing.
        left = about.st_size
        with os.fdopen(os.open(new, _MAKE, 0o600, dir_fd=target), "wb") as copy:
            while left > 0 and (piece := os.read(descriptor, min(left, _PIECE))):
                copy.write(piece)
                left -= len(piece)
            os.fchmod(copy.fileno(), stat.S_IMODE(about.st_mode) & 0o777)
    finally:
        os.close(descriptor)


def _copy_folder(source: int, name: str, target: int, new: str) -> None:
    os.mkdir(new, 0o700, dir_fd=target)
    inner = os.open(name, _ENTER, dir_fd=source)
    try:
        copy = os.open(new, _ENTER, dir_fd=target)
        try:
            for each in os.listdir(inner):
                _copy(inner, each, copy, each)
        finally:
            os.close(copy)
    finally:
        os.close(inner)


def _remove(parent: int, name: str) -> None:
    if stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
        # Goes by descriptors itself, see shutil.rmtree.avoids_symlink_attacks.
        shutil.rmtree(name, dir_fd=parent)
    else:
        os.unlink(name, dir_fd=parent)
