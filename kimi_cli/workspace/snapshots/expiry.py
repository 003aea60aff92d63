"""Old snapshots go: by age, by number, and by what they take on disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

from kimi_cli.workspace.snapshots import lock
from kimi_cli.workspace.snapshots.model import SnapshotBusy
from kimi_cli.workspace.snapshots.shadow import REFS, Shadow

# Packs and loose objects slow git down when there are many.
_MANY_PACKS = 50
_MANY_LOOSE = 5_000


def expire(shadow: Shadow, oldest: int, keep: int, max_bytes: int) -> int:
    """Drop the snapshots taken before ``oldest`` (ns since the epoch), but the last ``keep``
    (at least one: the next snapshot builds on it). More go, oldest first, while the shadow is
    above ``max_bytes``. Returns how many went. Call it under the lock. Raises SnapshotError."""
    if not shadow.path.exists():
        return 0
    _clear(shadow.path)
    names = [name for name, _, _ in shadow.refs()]
    keep = max(keep, 1)
    going = [name for name in names[:-keep] if taken_ns(name) < oldest]
    _drop(shadow, going)
    if going or _is_scattered(shadow.path):
        _pack(shadow)
    gone = len(going)
    left = names[gone:]
    while len(left) > 1 and _size(shadow.path) > max_bytes:
        half = (len(left) + 1) // 2
        _drop(shadow, left[:half])
        _pack(shadow)
        gone, left = gone + half, left[half:]
    return gone


def remove_abandoned(places: list[Path], oldest: float) -> int:
    """Remove the snapshots of folders where none was taken since ``oldest`` (seconds since the
    epoch), unless a restore was interrupted there. Returns how many folders."""
    removed = 0
    for place in places:
        with contextlib.suppress(OSError, SnapshotBusy), lock.held(place / "lock", 0):
            used = max(_changed(place / name) for name in ("manifest", "folder", "git"))
            if used < oldest and not (place / "journal").exists():
                shutil.rmtree(place)
                removed += 1
    return removed


def taken_ns(name: str) -> int:
    """When the snapshot of this id was taken (ns since the epoch)."""
    try:
        return int(name.partition("-")[0], 16)
    except ValueError:
        return time.time_ns()


def _drop(shadow: Shadow, names: list[str]) -> None:
    if names:
        lines = "".join(f"delete {REFS}{name}\n" for name in names)
        shadow.run(["update-ref", "--stdin"], given=lines.encode(), changes=True)


def _pack(shadow: Shadow) -> None:
    # The lock is held: nobody else is writing, so nothing is too new to be pruned.
    shadow.run(["gc", "--quiet", "--prune=now"], changes=True)


def _clear(path: Path) -> None:
    """What killed git commands left behind: locks and unfinished packs."""
    stale = [path / "packed-refs.lock", path / "gc.pid", *path.glob("fast_import_crash_*")]
    stale += [*path.glob("objects/pack/tmp_*"), *path.glob("refs/snapshots/*.lock")]
    for file in stale:
        with contextlib.suppress(FileNotFoundError):
            file.unlink()


def _is_scattered(path: Path) -> bool:
    packs = sum(1 for _ in path.glob("objects/pack/*.pack"))
    # git spreads loose objects evenly over 256 folders; one stands for all (git-gc(1)).
    loose = sum(1 for _ in path.glob("objects/17/*"))
    return packs > _MANY_PACKS or loose * 256 > _MANY_LOOSE


def _size(path: Path) -> int:
    total = 0
    for folder, _, names in os.walk(path):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(folder, name)).st_size
    return total


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
