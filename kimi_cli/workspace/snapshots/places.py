"""Where files lie: folders opened without following a symlink, git's folder of a work tree."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

# A folder that may be entered but not listed is enough.
_ENTER = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_SMALL = 64 * 1024


class Folders:
    """Descriptors of the folders below ``root``; asked for in the order of their names, each is
    opened once. No symlink below the root is followed."""

    def __init__(self, root: Path) -> None:
        """Raises OSError."""
        self._open = [(b"", os.open(root, _ENTER & ~os.O_NOFOLLOW))]

    def __enter__(self) -> Folders:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._keep(0)

    def enter(self, folder: bytes, make: bool = False) -> int:
        """The descriptor of a folder (relative; "" is the root), valid until the next call.
        ``make`` creates what is missing. Raises OSError: FileNotFoundError, or NotADirectoryError
        also where a symlink is in the way."""
        parts = folder.split(b"/") if folder else []
        depth = 0
        while depth < len(parts) and depth + 1 < len(self._open):
            if self._open[depth + 1][0] != parts[depth]:
                break
            depth += 1
        self._keep(depth + 1)
        for part in parts[depth:]:
            if part in (b"", b".", b".."):
                raise NotADirectoryError(folder)
            above = self._open[-1][1]
            try:
                descriptor = os.open(part, _ENTER, dir_fd=above)
            except FileNotFoundError:
                if not make:
                    raise
                os.mkdir(part, dir_fd=above)
                descriptor = os.open(part, _ENTER, dir_fd=above)
            self._open.append((part, descriptor))
        return self._open[-1][1]

    def _keep(self, count: int) -> None:
        while len(self._open) > count:
            os.close(self._open.pop()[1])


@dataclass(frozen=True, slots=True)
class GitFolder:
    """Files of a repository that are read, never written: ``own`` is the folder of this work
    tree, ``common`` the one it shares with others."""

    own: Path
    common: Path

    @property
    def index(self) -> Path:
        return self.own / "index"

    @property
    def exclude(self) -> Path:
        return self.common / "info" / "exclude"

    def head(self) -> str:
        """The commit checked out, as text; "" where there is none or it can't be told."""
        text = _line(self.own / "HEAD")
        if not text.startswith("ref: "):
            return text
        name = text[5:].strip()
        if ".." in name or not name.startswith("refs/"):
            return ""
        return _line(self.own / name) or _line(self.common / name) or self._packed(name)

    def _packed(self, name: str) -> str:
        content = read_small(self.common / "packed-refs", 64 * 2**20)
        for line in content.splitlines():
            if line.endswith(b" " + os.fsencode(name)):
                return os.fsdecode(line.split(b" ", 1)[0])
        return ""


def git_folder(work_tree: Path) -> GitFolder | None:
    """The repository whose work tree this is. In worktrees and submodules ``.git`` is a file
    (gitrepository-layout(5)); nothing is run and no configuration read."""
    entry = work_tree / ".git"
    try:
        mode = os.stat(entry).st_mode
    except OSError:
        return None
    own = entry
    if stat.S_ISREG(mode):
        text = _line(entry)
        if not text.startswith("gitdir: "):
            return None
        own = work_tree / text[8:]
    common = _line(own / "commondir")
    return GitFolder(own, own / common if common else own)


def read_small(path: Path, limit: int = _SMALL) -> bytes:
    """The first ``limit`` bytes of a regular file; nothing where there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return b""
        return file.read(limit)


def _line(path: Path) -> str:
    return os.fsdecode(read_small(path)).rstrip("\r\n")
