"""What the model has seen of the files, so that it never writes over what it did not see."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from kimi_cli.protocol.workspace import FileTouch, StaleFile


def digest_of(content: bytes) -> str:
    """SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def stamp_of(status: os.stat_result) -> str:
    """Stands in for the digest of a file too large to hash; never equal to a digest."""
    return f"{status.st_size}@{status.st_mtime_ns}"


class Ledger:
    """Maps a file, whatever name it was reached by, to the digest the model saw last."""

    def __init__(self) -> None:
        self._digests: dict[str, str] = {}

    def note(self, path: Path, digest: str) -> None:
        self._digests[_key(path)] = digest

    def seen(self, path: Path) -> bool:
        return _key(path) in self._digests

    def check(self, path: Path, digest: str) -> None:
        """Raise StaleFile when another digest was noted for the file; a file never seen passes."""
        if self._digests.get(_key(path), digest) != digest:
            raise StaleFile(str(path))

    def restore(self, touches: Iterable[FileTouch]) -> None:
        """Take up what a session's touches, oldest first, say was seen, and nothing else."""
        self._digests.clear()
        for touch in touches:
            if touch.digest is None:
                self._digests.pop(_key(touch.path), None)
            else:
                self.note(Path(touch.path), touch.digest)


def _key(path: Path | str) -> str:
    # Fails when a symlink on the way is replaced by something else at that moment.
    with contextlib.suppress(OSError):
        return os.path.realpath(path)
    return os.path.abspath(path)
