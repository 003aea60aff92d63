"""The user's files: opened without ever hanging, replaced atomically, watched for changes."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from kimi_cli.protocol.workspace import WHOLE_LIMIT, FileTouch, StaleFile
from kimi_cli.workspace import atomic, diffs, nofollow
from kimi_cli.workspace.ledger import Ledger, digest_of, stamp_of


class WorkspaceFiles:
    """The protocol's ``Files`` over a real folder.

    ``root`` is where relative paths start. ``blobs`` is a folder inside the session's folder
    that takes the former bytes of every replaced file, named by their digest; None keeps none.
    """

    def __init__(self, root: Path, blobs: Path | None = None) -> None:
        self._root = root
        self._blobs = blobs
        self._ledger = Ledger()

    def resolve(self, path: str) -> Path:
        return Path(os.path.normpath(self._root / os.path.expanduser(path)))

    def show(self, path: Path) -> str:
        shown = path.relative_to(self._root) if path.is_relative_to(self._root) else path
        return os.fsencode(shown).decode("utf-8", errors="replace")

    def settle(self, path: Path) -> Path:
        for _ in range(100):
            # Fails when a symlink on the way is replaced by something else at that moment.
            with contextlib.suppress(OSError):
                return Path(os.path.realpath(path))
        raise OSError(errno.EAGAIN, "what it leads to changes all the time", str(path))

    def open(self, path: Path, *, real: Path | None = None) -> BinaryIO:
        real = real or self.settle(path)
        if real == real.parent:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        with nofollow.folder(real.parent) as folder:
            return os.fdopen(nofollow.open_file(folder, real.name, path), "rb")

    def read(self, path: Path, *, real: Path | None = None) -> bytes:
        with self.open(path, real=real) as file:
            return _whole(file, path)

    def listing(self, path: Path, limit: int, *, real: Path | None = None) -> Sequence[str]:
        names: list[str] = []
        descriptor = nofollow.listed(real or self.settle(path))
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    name = os.fsencode(entry.name).decode("utf-8", errors="replace")
                    names.append(f"{name}/" if entry.is_dir() else name)
                    # Bounds the work in a folder of millions; the names are then any of them.
                    if len(names) >= 20_000:
                        break
        finally:
            os.close(descriptor)
        return sorted(names)[:limit]

    def saw(self, path: Path, content: bytes | None) -> str:
        digest = stamp_of(os.stat(path)) if content is None else digest_of(content)
        self._ledger.note(path, digest)
        return digest

    def seen(self, path: Path) -> bool:
        return self._ledger.seen(path)

    def check_fresh(self, path: Path, content: bytes) -> None:
        self._ledger.check(path, digest_of(content))

    def diff(self, path: Path, before: bytes | None, after: bytes) -> str:
        return diffs.compare(before, after, self.show(path)).text

    def replace(
        self, path: Path, content: bytes, *, expected: bytes | None, real: Path | None = None
    ) -> FileTouch:
        target = real or self.settle(path)
        preimage, note = None, ""
        if expected is None:
            atomic.create(target, content)
        else:
            preimage = self._keep(expected)
            note = atomic.replace(target, content, lambda fd: _holds(fd, target, expected))
        digest = digest_of(content)
        self._ledger.note(target, digest)
        diff = diffs.compare(expected, content, self.show(path))
        return FileTouch(
            path=str(path),
            action="created" if expected is None else "modified",
            digest=digest,
            added=diff.added,
            removed=diff.removed,
            diff=diff.text,
            preimage=preimage,
            note=note,
        )

    def restore(self, touches: Iterable[FileTouch]) -> None:
        """Take up what an earlier run of the session saw: its touches, oldest first."""
        self._ledger.restore(touches)

    def _keep(self, content: bytes) -> str | None:
        if self._blobs is None:
            return None
        name = digest_of(content)
        kept = Path(os.path.realpath(self._blobs), name)
        if not kept.exists():
            kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(StaleFile):
                atomic.create(kept, content, mode=0o600, flush=False)
        return f"{self._blobs.name}/{name}"


def _whole(file: BinaryIO, path: Path) -> bytes:
    # One byte more than allowed shows a file that is larger than it said.
    content = file.read(WHOLE_LIMIT + 1) or b""
    if len(content) > WHOLE_LIMIT:
        raise OSError(errno.EFBIG, f"larger than {WHOLE_LIMIT >> 20} MiB", str(path))
    return content


def _holds(descriptor: int, path: Path, expected: bytes) -> bool:
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        return _whole(file, path) == expected
