"""The folder of a session that is not kept: below KIMI_HOME, where commands don't reach it."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

UNSAVED = "unsaved"
_TRIES = 10


class UnsavedFolder:
    """KIMI_HOME/unsaved/NAME, private and locked until ``remove`` or the end of the process; what
    processes that were killed left there goes when the next one is made."""

    def __init__(self, home: Path) -> None:
        """Raises OSError where KIMI_HOME can't be written."""
        self._home = home
        self._new_home = not home.exists()
        with _locked(home / UNSAVED) as above:
            _sweep(above)
            self.path = Path(tempfile.mkdtemp(prefix="", dir=above))
            self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with suppress(OSError):
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove(self) -> None:
        """Remove the folder, and those above it that are empty now and were made for it. May be
        called twice."""
        if self._lock < 0:
            return
        os.close(self._lock)
        self._lock = -1
        _remove(self.path)
        with suppress(OSError):
            with _locked(self._home / UNSAVED) as above:
                above.rmdir()
            if self._new_home:
                self._home.rmdir()


@contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    for _ in range(_TRIES):
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            # Another process may have removed it while we waited.
            if _is_at(descriptor, folder):
                yield folder
                return
        finally:
            os.close(descriptor)
    raise FileNotFoundError(folder)


def _is_at(descriptor: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(folder))
    except FileNotFoundError:
        return False


def _sweep(above: Path) -> None:
    for folder in above.iterdir():
        with suppress(OSError):
            descriptor = os.open(
                folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            )
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder)
            finally:
                os.close(descriptor)


def _remove(folder: Path) -> None:
    """What can't be removed stays."""
    shutil.rmtree(folder, ignore_errors=True)
    # Caches have folders without any rights: Go's modules, an overlay's work folder.
    for parent, names, _ in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            if not os.path.islink(path):
                with suppress(OSError):
                    os.chmod(path, 0o700)
    shutil.rmtree(folder, ignore_errors=True)
