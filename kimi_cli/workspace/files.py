"""The user's files: opened without ever hanging, replaced atomically, watched for changes."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO

from kimi_cli.protocol.workspace import WHOLE_LIMIT, FileTouch, StaleFile
from kimi_cli.workspace import atomic, diffs
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

    def open(self, path: Path) -> BinaryIO:
        _require_regular(os.stat(path), path)
        # Non-blocking for what hides behind a regular mode, such as /proc/kmsg.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        descriptor = os.open(path, flags)
        try:
            _require_regular(os.fstat(descriptor), path)
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise

    def read(self, path: Path) -> bytes:
        with self.open(path) as file:
            # One byte more than allowed shows a file that is larger than it said.
            content = file.read(WHOLE_LIMIT + 1) or b""
        if len(content) > WHOLE_LIMIT:
            raise OSError(errno.EFBIG, f"larger than {WHOLE_LIMIT >> 20} MiB", str(path))
        return content

    def listing(self, path: Path, limit: int) -> Sequence[str]:
        names: list[str] = []
        with os.scandir(path) as entries:
            for entry in entries:
                name = os.fsencode(entry.name).decode("utf-8", errors="replace")
                names.append(f"{name}/" if entry.is_dir() else name)
                # Bounds the work in a folder of millions; the names are then any of them.
                if len(names) >= 20_000:
                    break
        return sorted(names)[:limit]

    def saw(self, path: Path, content: bytes | None) -> str:
        digest = stamp_of(os.stat(path)) if content is None else digest_of(content)
        self._ledger.note(path, digest)
        return digest

    def seen(self, path: Path) -> bool:
        return self._ledger.seen(path)

    def check_fresh(self, path: Path, content: bytes) -> None:
        self._ledger.check(path, digest_of(content))

    def replace(self, path: Path, content: bytes, *, expected: bytes | None) -> FileTouch:
        target = Path(os.path.realpath(path))
        preimage, note = None, ""
        if expected is None:
            atomic.create(target, content)
        else:
            preimage = self._keep(expected)
            note = atomic.replace(target, content, lambda: self._holds(target, expected))
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

    def _holds(self, target: Path, expected: bytes) -> bool:
        try:
            return self.read(target) == expected
        except FileNotFoundError:
            return False

    def _keep(self, content: bytes) -> str | None:
        if self._blobs is None:
            return None
        name = digest_of(content)
        kept = self._blobs / name
        if not kept.exists():
            self._blobs.mkdir(mode=0o700, parents=True, exist_ok=True)
            with contextlib.suppress(StaleFile):
                atomic.create(kept, content, mode=0o600, flush=False)
        return f"{self._blobs.name}/{name}"


def _require_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, f"{_kind(status.st_mode)}, not a regular file", str(path))


def _kind(mode: int) -> str:
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a device"
