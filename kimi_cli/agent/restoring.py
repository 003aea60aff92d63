"""How files get from their present state to that of a checkpoint: what of it is a turn's work, and
what is somebody else's. Everything here blocks and raises SnapshotError, OSError."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from kimi_cli.agent.undo import Goal, Pair
    from kimi_cli.workspace.diffs import Diff
    from kimi_cli.workspace.snapshots.model import (
        Change,
        HeadMoved,
        Kind,
        LeftOut,
        Plan,
        Recovered,
        Restored,
        Snapshot,
    )

COUNTED = 500
"""Changed files up to which lines are counted."""


class Snapshots(Protocol):
    """What is asked of the snapshots."""

    @property
    def reading(self) -> int: ...

    def take(self) -> Snapshot: ...

    def get(self, snapshot: str) -> Snapshot: ...

    def recover(self) -> Recovered | None: ...

    def changes(self, before: str, after: str | None = None) -> Sequence[Change]: ...

    def diffs(self, changes: Sequence[Change]) -> Sequence[Diff]: ...

    def plan(self, to: str) -> Plan: ...

    def restore(self, to: str, keep: Collection[Path] = ()) -> Restored: ...

    def expire(self, days: float) -> int: ...


@dataclass(frozen=True, slots=True)
class FileChange:
    """What happens to a file when it is restored, with lines added and removed by that (None: not
    counted)."""

    path: Path
    kind: Kind
    added: int | None = None
    removed: int | None = None


@dataclass(frozen=True, slots=True)
class Way:
    """How to get from the snapshot ``now`` to the files wanted: ``changes`` do it, those in
    ``keep`` are not to be made. ``edited``: see Preview; where the restore was begun before
    (``late``) they are not among the changes."""

    now: str
    changes: Sequence[Change]
    keep: Sequence[Path]
    edited: Sequence[Path]
    left: Sequence[LeftOut] = ()
    heads: Sequence[HeadMoved] = ()
    late: bool = False


def way_to(snapshots: Snapshots, goal: Goal) -> Way:
    assert goal.mark is not None
    plan = snapshots.plan(goal.mark.snapshot)
    wanted = changed(snapshots, goal.own, plan.now)
    changes = [change for change in plan.changes if change.path in wanted]
    by_hand = changed(snapshots, goal.hands, plan.now) if changes else set()
    return Way(
        plan.now,
        changes,
        [change.path for change in plan.changes if change.path not in wanted],
        [change.path for change in changes if change.path in by_hand],
        [*(one for one in plan.kept if one.path in wanted), *plan.not_covered],
        plan.heads,
    )


def rest_of(snapshots: Snapshots, goal: Goal, before: str) -> Way:
    """What is left to do of a goal that was begun at the snapshot ``before``. A file that is
    neither as it was then nor as it is wanted was changed since by somebody: it stays."""
    assert goal.mark is not None
    snapshots.recover()
    plan = snapshots.plan(goal.mark.snapshot)
    wanted = changed(snapshots, goal.own, before)
    since = {change.path for change in snapshots.changes(before, plan.now)}
    changes = [c for c in plan.changes if c.path in wanted and c.path not in since]
    made = {change.path for change in changes}
    return Way(
        plan.now,
        changes,
        [change.path for change in plan.changes if change.path not in made],
        [c.path for c in plan.changes if c.path in wanted and c.path in since],
        late=True,
    )


def put_back(
    snapshots: Snapshots, to: str, way: Way
) -> tuple[Restored, list[FileChange], Snapshot]:
    known = counted(snapshots, way.changes)
    restored = snapshots.restore(to, keep=way.keep)
    lost = {one.path for one in restored.failed}
    return restored, [change for change in known if change.path not in lost], snapshots.take()


def counted(snapshots: Snapshots, changes: Sequence[Change]) -> list[FileChange]:
    """The changes with their lines; of very many these are not counted."""
    if len(changes) > COUNTED:
        return [FileChange(change.path, change.kind) for change in changes]
    diffs = snapshots.diffs(changes)
    return [
        FileChange(change.path, change.kind, diff.added, diff.removed)
        for change, diff in zip(changes, diffs, strict=True)
    ]


def changed(snapshots: Snapshots, pairs: Iterable[Pair], now: str) -> set[Path]:
    return {
        change.path
        for one, other in pairs
        if one != (other or now)
        for change in snapshots.changes(one, other or now)
    }
