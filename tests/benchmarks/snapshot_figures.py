"""The figures of the snapshots: ``python -m tests.benchmarks.snapshot_figures [FILES ...]``."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from kimi_cli.workspace.snapshots import Snapshots
from tests.benchmarks.figures import Figure, Row
from tests.benchmarks.rig import Place

# Longer than the time for which a file that was just written is read again.
_SETTLE = 2.5


def snapshots10k(place: Place) -> Iterator[Row]:
    """Snapshots of 10,000 files."""
    yield from _figures(place.folder, 10_000)


def snapshots50k(place: Place) -> Iterator[Row]:
    """Snapshots of 50,000 files."""
    yield from _figures(place.folder, 50_000)


SNAPSHOT_FIGURES: dict[str, Figure] = {"snapshots10k": snapshots10k, "snapshots50k": snapshots50k}


def _figures(folder: Path, count: int) -> Iterator[Row]:
    root = _project(folder / f"files{count}", count)
    time.sleep(_SETTLE)
    snapshots = Snapshots(folder / f"home{count}", [root])
    yield Row("python with gitpython and snapshots", _cost(_import))
    snapshots.history()
    yield Row(f"first snapshot, {count} files", _cost(snapshots.take))
    target = "150 ms" if count == 10_000 else ""
    yield Row("  unchanged, best of 9", _best(snapshots.take, 9), target)
    before = snapshots.take().id
    for number in range(10):
        (root / f"d{number}" / "e0" / "f0.py").write_text(f"changed {number}\n")
    yield Row("  10 files changed", _cost(snapshots.take))
    yield Row("  plan of the undo", _cost(lambda: snapshots.plan(before)))
    yield Row("  undo", _cost(lambda: snapshots.restore(before)))
    for file in (root / "d0").rglob("*.py"):
        file.write_text("changed\n")
    changed = len(snapshots.changes(before))
    yield Row(f"  undo of {changed} files", _cost(lambda: snapshots.restore(before)))
    size = sum(f.stat().st_size for f in (folder / f"home{count}").rglob("*") if f.is_file())
    yield Row("  on disk", f"{size / 2**20:.1f} MiB")
    yield Row("  expiry with a repack", _cost(lambda: snapshots.expire(0, 1)))


def _project(root: Path, count: int) -> Path:
    """``count`` files of about 2 KB, 20 a folder, in git and committed."""
    for number in range(count):
        folder = root / f"d{number // 400}" / f"e{number // 20 % 20}"
        if number % 20 == 0:
            folder.mkdir(parents=True)
        (folder / f"f{number % 20}.py").write_text(f"VALUE = {number}\n" * 130)
    (root / ".gitignore").write_text("*.pyc\nbuild/\n")
    # Without git tidying up behind our back while we measure.
    identity = [
        "-c",
        "gc.auto=0",
        "-c",
        "maintenance.auto=false",
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@localhost",
    ]
    for arguments in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "x"]):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    return root


def _import() -> None:
    command = "from kimi_cli.workspace.snapshots import Snapshots; import git"
    subprocess.run([sys.executable, "-c", command], check=True)


def _cost(work: Callable[[], object]) -> str:
    wall, user, system = _measured(work)
    return f"{wall:.0f} ms (user {user:.0f}, system {system:.0f})"


def _best(work: Callable[[], object], times: int) -> str:
    wall, user, system = min(_measured(work) for _ in range(times))
    return f"{wall:.0f} ms (user {user:.0f}, system {system:.0f})"


def _measured(work: Callable[[], object]) -> tuple[float, float, float]:
    """Milliseconds: on the clock, and of the processor with git's part."""
    began, start = time.perf_counter(), _used()
    work()
    wall, end = time.perf_counter() - began, _used()
    return wall * 1000, (end[0] - start[0]) * 1000, (end[1] - start[1]) * 1000


def _used() -> tuple[float, float]:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime for u in both), sum(u.ru_stime for u in both)


def main() -> None:
    counts = [int(count) for count in sys.argv[1:]] or [10_000, 50_000]
    with tempfile.TemporaryDirectory() as scratch:
        for count in counts:
            for row in _figures(Path(os.path.realpath(scratch)), count):
                print(f"| {row.what:42} | {row.value:42} | {row.target:8} |", flush=True)


if __name__ == "__main__":
    main()
