"""What the last snapshot saw of each file, so that only changed files are read for the next."""

from __future__ import annotations

import marshal
import os
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from stat import S_IFLNK, S_IFMT

from kimi_cli.workspace.snapshots.model import LINK, Entry

Row = tuple[int, int, int, int, int, str, bool]
"""st_mode, st_size, st_mtime_ns, st_ctime_ns, st_ino, the content's name, and whether the
status was old enough when the content was read that a later change must show in it."""

_HEADER = b"kimi snapshot manifest 1\n"
_DIGEST = 16


@dataclass(slots=True)
class Manifest:
    """The files of the snapshot with this commit and tree. Without a commit: nothing known."""

    commit: str = ""
    tree: str = ""
    message: str = ""
    rows: dict[bytes, Row] = field(default_factory=dict)


def entries(rows: dict[bytes, Row]) -> dict[bytes, Entry]:
    """The files as a snapshot holds them: a symlink's own permissions mean nothing."""
    return {
        path: Entry(mode if S_IFMT(mode) != S_IFLNK else LINK, oid)
        for path, (mode, _, _, _, _, oid, _) in rows.items()
    }


def load(path: Path) -> Manifest:
    """The manifest; an empty one where it is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return Manifest()
    start = len(_HEADER) + _DIGEST
    body = memoryview(content)[start:]
    # Another Python may write another form of marshal; and marshal trusts what it reads.
    if not content.startswith(_HEADER) or _digest(body) != content[len(_HEADER) : start]:
        return Manifest()
    try:
        return Manifest(*marshal.loads(body))
    except (ValueError, EOFError, TypeError):
        return Manifest()


def save(path: Path, manifest: Manifest) -> None:
    """Replace the manifest. Raises OSError."""
    body = marshal.dumps((manifest.commit, manifest.tree, manifest.message, manifest.rows))
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        file.write(_HEADER + _digest(body))
        file.write(body)
    os.replace(temporary, path)


def _digest(body: bytes | memoryview) -> bytes:
    return blake2b(body, digest_size=_DIGEST).digest()
