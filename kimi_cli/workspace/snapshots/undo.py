"""From the present state of a folder to a snapshot: which steps, and taking them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from stat import S_ISREG

from kimi_cli.workspace.snapshots.compare import differing, older, parents
from kimi_cli.workspace.snapshots.listing import IGNORE, ignored_by
from kimi_cli.workspace.snapshots.model import Entry
from kimi_cli.workspace.snapshots.places import Folders
from kimi_cli.workspace.snapshots.restore import Outcome, bring, sweep
from kimi_cli.workspace.snapshots.store import FolderStore, Past, Present

Steps = dict[bytes, Entry | None]


@dataclass(slots=True)
class Way:
    """``steps``: what each file to touch should become. ``kept`` are files the snapshot does not
    have that stay, ``not_covered`` what one of the two states does not cover; with reasons."""

    steps: Steps = field(default_factory=dict)
    kept: dict[bytes, str] = field(default_factory=dict)
    not_covered: dict[bytes, str] = field(default_factory=dict)


def way_back(store: FolderStore, past: Past, present: Present, time_ns: int) -> Way:
    """The way from the present state to the snapshot, which was taken at ``time_ns``. Raises
    SnapshotError, OSError."""
    not_covered = {**present.left_out, **past.left_out}
    now, then = present.entries(), past.files
    paths = differing(now, then, not_covered)
    new = [path for path in paths if path not in then]
    kept = dict.fromkeys(
        older(new, present.rows, then, time_ns),
        "older than the snapshot, which does not cover it",
    )
    kept |= dict.fromkeys(_ignored(store, then, paths, new), "ignored by git at that time")
    steps = {path: then.get(path) for path in paths if path not in kept}
    return Way(steps, kept, not_covered)


def go(
    store: FolderStore, steps: Steps, present: Present, final: Iterable[bytes], token: str
) -> Outcome:
    """Take the steps; ``final`` are the files of the state that is wanted, whose folders stay.
    Raises SnapshotError, OSError when nothing could be begun."""
    if not steps:
        return Outcome()
    needed = parents(final)
    with Folders(store.folder) as folders, store.shadow.blobs() as blobs:
        return bring(folders, steps, present.rows, needed.__contains__, blobs.read, token)


def take_back(
    store: FolderStore, before: Past, to: Past, name: str, token: str
) -> tuple[Outcome, dict[bytes, str]]:
    """Undo what an interrupted restore from ``before`` to ``to`` did. The present state becomes
    the snapshot ``name``. Returns what was done, and the files that are now neither: edited since,
    they stay. Raises SnapshotError, OSError."""
    paths = differing(before.files, to.files, {**before.left_out, **to.left_out})
    with Folders(store.folder) as folders:
        sweep(folders, paths, token)
    present = store.take(name, [*before.files, *to.files])
    now = present.entries()
    steps: Steps = {}
    edited: dict[bytes, str] = {}
    for path in paths:
        is_now, was = now.get(path), before.files.get(path)
        if is_now == was:
            continue
        if is_now == to.files.get(path):
            steps[path] = was
        else:
            edited[path] = "edited after the restore was interrupted"
    return go(store, steps, present, before.files, token), edited


def _ignored(
    store: FolderStore, then: Mapping[bytes, Entry], paths: Iterable[bytes], new: list[bytes]
) -> set[bytes]:
    """Which new files the snapshot's own ``.gitignore`` files ignore: those are not its business,
    and may be the user's, shown only by an edit of the rules."""
    if not new or not any(_name(path) == IGNORE for path in paths):
        return set()
    with store.shadow.blobs() as blobs:
        rules = {
            path: blobs.read(entry.oid)
            for path, entry in then.items()
            if _name(path) == IGNORE and S_ISREG(entry.mode)
        }
    return ignored_by(store.shadow, store.folder, rules, new)


def _name(path: bytes) -> bytes:
    return path.rpartition(b"/")[2]
