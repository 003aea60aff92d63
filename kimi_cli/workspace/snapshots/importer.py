"""Writing a snapshot into the shadow: one ``git fast-import`` with the contents we read."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from kimi_cli.workspace.snapshots.shadow import REFS, Shadow, finish, stored

_AUTHOR = "kimi <kimi@localhost> 0 +0000"
# Git makes room for zlib's state anew for every content, and glibc hands it back to the system each
# time: four fifths of a first snapshot's time went there (mallopt(3); elsewhere it means nothing).
_KEEPS_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(32 * 2**20)}


class Importer:
    """The stream to one ``git fast-import`` (see its manual page). Nothing is visible in the
    shadow until ``commit`` returned: without the last word, "done", git drops it all."""

    def __init__(self, shadow: Shadow) -> None:
        """Raises SnapshotError."""
        arguments = ["fast-import", "--quiet", "--done", "--date-format=raw", "--depth=0"]
        self._process: subprocess.Popen[bytes] = shadow.start(
            arguments, writes=True, changes=True, env=_KEEPS_MEMORY
        )
        assert self._process.stdin is not None
        self._stream = self._process.stdin
        self._marks: dict[str, int] = {}

    def blob(self, oid: str, content: bytes) -> None:
        """Add a content, whose name for git is ``oid``. Raises SnapshotError."""
        if oid in self._marks:
            return
        self._marks[oid] = len(self._marks) + 1
        # One write: copying costs less than a call for each part.
        self._write(b"blob\nmark :%d\ndata %d\n%b\n" % (self._marks[oid], len(content), content))

    def commit(
        self,
        name: str,
        message: str,
        base: str,
        removed: Iterable[tuple[bytes, int]],
        written: Iterable[tuple[bytes, int, str]],
    ) -> tuple[str, str]:
        """Make the snapshot ``name``: the tree ``base`` ("" is empty) without the ``removed`` (path
        and st_mode) and with the ``written`` (path, st_mode, content). Returns the names of commit
        and tree. Raises SnapshotError."""
        text = message.encode()
        parts = [f"commit {REFS}{name}\nmark :1000000000\ncommitter {_AUTHOR}\n".encode()]
        parts.append(b"data %d\n%s\n" % (len(text), text))
        if base:
            parts.append(f'M 040000 {base} ""\n'.encode())
        parts.extend(b"D %s\n" % _quoted(stored(path, mode)) for path, mode in removed)
        for path, mode, oid in written:
            mark = self._marks.get(oid)
            content = oid.encode() if mark is None else b":%d" % mark
            parts.append(b"M 100644 %s %s\n" % (content, _quoted(stored(path, mode))))
        parts.append(b'ls ""\nget-mark :1000000000\ndone\n')
        self._write(b"".join(parts))
        # "040000 tree NAME\t" (or "missing" for no file at all), then the commit's name.
        listed, commit = finish(self._process)[0].split(b"\n")[:2]
        fields = listed.split()
        return commit.decode(), fields[2].decode() if len(fields) == 3 else ""

    def abandon(self) -> None:
        """End git without a result."""
        self._process.kill()
        self._process.communicate()

    def _write(self, text: bytes) -> None:
        try:
            self._stream.write(text)
        except OSError:
            # It ended early; what it said tells why.
            finish(self._process)
            raise


def _quoted(path: bytes) -> bytes:
    """As git quotes names in C's style; only what would end the line or the string."""
    for plain, escaped in ((b"\\", b"\\\\"), (b'"', b'\\"'), (b"\n", b"\\n")):
        path = path.replace(plain, escaped)
    return b'"' + path + b'"'
