"""Snapshots of the workspace's files, for undo."""

from kimi_cli.workspace.snapshots.engine import Snapshots
from kimi_cli.workspace.snapshots.model import (
    NEVER_COVERED,
    Change,
    Entry,
    HeadMoved,
    LeftOut,
    Limits,
    Plan,
    Recovered,
    Restored,
    Snapshot,
    SnapshotBusy,
    SnapshotError,
    UnknownSnapshot,
)

__all__ = [
    "NEVER_COVERED",
    "Change",
    "Entry",
    "HeadMoved",
    "LeftOut",
    "Limits",
    "Plan",
    "Recovered",
    "Restored",
    "Snapshot",
    "SnapshotBusy",
    "SnapshotError",
    "Snapshots",
    "UnknownSnapshot",
]
