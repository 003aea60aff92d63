"""What differs between two states of a folder, and what of it a restore may touch: pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from stat import S_IFMT

from kimi_cli.workspace.snapshots.listing import is_under
from kimi_cli.workspace.snapshots.manifest import Row
from kimi_cli.workspace.snapshots.model import Change, Entry, Kind

# How much a file system's clock may be behind ours, or tick slower.
_SLACK_NS = 1_000_000_000

Files = Mapping[bytes, Entry]


def differing(before: Files, after: Files, unknown: Collection[bytes] = ()) -> list[bytes]:
    """The paths that differ, sorted; those under ``unknown`` places are not compared."""
    paths = {path for path, entry in before.items() if after.get(path) != entry}
    paths.update(path for path in after if path not in before)
    return sorted(path for path in paths if not is_under(path, unknown))


def change(path: Path, before: Entry | None, after: Entry | None) -> Change:
    """The change of a file that differs."""
    return Change(path, _kind(before, after), before, after)


def _kind(before: Entry | None, after: Entry | None) -> Kind:
    if before is None:
        return "created"
    if after is None:
        return "deleted"
    if S_IFMT(before.mode) != S_IFMT(after.mode):
        return "type"
    return "modified" if before.oid != after.oid else "mode"


def older(
    paths: Iterable[bytes], rows: Mapping[bytes, Row], past: Files, time_ns: int
) -> set[bytes]:
    """Of files that a snapshot of ``time_ns`` does not have, those that were there at that time:
    then it did not cover them. A change of status later (st_ctime_ns) leaves that open; content
    that the snapshot has under another name was moved."""
    contents = {entry.oid for entry in past.values()}
    return {
        path
        for path in paths
        if rows[path][3] < time_ns - _SLACK_NS and rows[path][5] not in contents
    }


def parents(paths: Iterable[bytes]) -> set[bytes]:
    """Every folder above the paths; the top one ("") is not among them."""
    found: set[bytes] = set()
    for path in paths:
        while (path := path.rpartition(b"/")[0]) and path not in found:
            found.add(path)
    return found
