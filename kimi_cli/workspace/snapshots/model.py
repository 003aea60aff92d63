"""What the snapshots of a workspace say: values only."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from stat import S_IFLNK
from typing import Literal, NamedTuple

NEVER_COVERED = (
    "files that git ignores",
    "folders without a file, and the permissions of folders",
    "git's own data: commits, branches, the index, stashes, configuration",
    "what commands did elsewhere: processes, network, databases, other folders",
)
"""What no snapshot holds, for the text that tells the user."""


class SnapshotError(Exception):
    """Snapshots can't be taken or used; the text is for the user."""


class SnapshotBusy(SnapshotError):
    """Another process kept the project's snapshots for too long."""


class UnknownSnapshot(SnapshotError):
    """There is no snapshot of this id (any more)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds. Sizes in bytes, times in seconds.

    A file above ``max_file`` is left out. Of a folder whose files are together above
    ``max_total`` the largest are left out. A folder of more than ``max_files`` files, or one that
    takes longer than ``listing`` to list, is not covered at all. ``max_store`` bounds what the
    snapshots of a folder take on disk, enforced by ``expire``. ``lock`` is the wait for another
    process.
    """

    max_file: int = 16 * 2**20
    max_total: int = 2**30
    max_files: int = 100_000
    max_store: int = 4 * 2**30
    listing: float = 60.0
    lock: float = 120.0


LINK = S_IFLNK | 0o777
"""``st_mode`` of any symlink in a snapshot, as Linux has it."""


class Entry(NamedTuple):
    """A file as a snapshot holds it: ``mode`` as in ``st_mode`` (type and all permission bits),
    ``oid`` the name git gives the content as a blob; that of a symlink is its target."""

    mode: int
    oid: str


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A file or folder that a snapshot does not cover, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of the workspace's files at ``time`` (seconds since the epoch). ``covered`` counts
    the files, ``seconds`` is how long taking it took (0 for one that was only looked up)."""

    id: str
    time: float
    folders: tuple[Path, ...]
    covered: int
    left_out: tuple[LeftOut, ...]
    seconds: float = 0.0


Kind = Literal["created", "modified", "deleted", "mode", "type"]


@dataclass(frozen=True, slots=True)
class Change:
    """How a file (absolute ``path``) differs between two states. ``mode``: only permissions;
    ``type``: a file became a symlink or the other way round."""

    path: Path
    kind: Kind
    before: Entry | None
    after: Entry | None


@dataclass(frozen=True, slots=True)
class HeadMoved:
    """The user's git stands on another commit than at the snapshot (object names; "" where there
    is none yet): that stays as it is."""

    folder: Path
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What going back to the snapshot ``to`` would do.

    ``now`` is the id of a snapshot of the present state. ``changes`` lead from now to ``to``.
    ``edited`` are those of them whose file is not as it was in the snapshot ``since``: somebody
    else's edit would be lost; its kind tells what happened since. ``kept`` are files that came to
    the snapshot's eyes since but stay. ``not_covered`` is left alone.
    """

    to: str
    now: str
    changes: tuple[Change, ...]
    edited: tuple[Change, ...]
    kept: tuple[LeftOut, ...]
    not_covered: tuple[LeftOut, ...]
    heads: tuple[HeadMoved, ...]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did. ``before`` is the id of the snapshot of the state it replaced:
    restoring that is the redo. ``failed`` files are as they were before."""

    to: str
    before: str
    changed: tuple[Path, ...]
    created: tuple[Path, ...]
    deleted: tuple[Path, ...]
    failed: tuple[LeftOut, ...]
    kept: tuple[LeftOut, ...]
    not_covered: tuple[LeftOut, ...]


@dataclass(frozen=True, slots=True)
class Recovered:
    """An interrupted restore that was taken back. ``failed`` could not be, or was edited in the
    meantime and left as it is."""

    wanted: str
    back_to: str
    reverted: tuple[Path, ...]
    failed: tuple[LeftOut, ...]
