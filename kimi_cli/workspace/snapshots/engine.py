"""Snapshots of a workspace's files: taken, compared, restored.

Files keep their exact bytes, permission bits and symlinks; what can't be kept is named. A restore
is all or nothing for a killed process: its journal makes the next use take back what was done,
since nobody was told that it happened. All calls block and may be made from any thread.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from kimi_cli.workspace.diffs import Diff, compare
from kimi_cli.workspace.snapshots import expiry, journal
from kimi_cli.workspace.snapshots.compare import Files, change, differing
from kimi_cli.workspace.snapshots.model import (
    Change,
    HeadMoved,
    LeftOut,
    Limits,
    Plan,
    Recovered,
    Restored,
    Snapshot,
    SnapshotError,
    UnknownSnapshot,
)
from kimi_cli.workspace.snapshots.store import FolderStore, Past, Present, kept_folders
from kimi_cli.workspace.snapshots.undo import go, take_back, way_back

_ID = re.compile(r"[0-9a-f]{16}-[0-9a-f]{4}")


class Snapshots:
    """The snapshots of the folders of a workspace, kept under KIMI_HOME (``home``)."""

    def __init__(self, home: Path, folders: Sequence[Path], limits: Limits | None = None) -> None:
        """``folders`` are resolved; one inside another is covered by that. Nothing is read."""
        self._home, self._limits = home, limits or Limits()
        outer = [f for f in dict.fromkeys(folders) if not any(o in f.parents for o in folders)]
        self._stores = [FolderStore(home, folder, self._limits) for folder in outer]
        self._recovered: Recovered | None = None

    @property
    def folders(self) -> tuple[Path, ...]:
        return tuple(store.folder for store in self._stores)

    @property
    def reading(self) -> int:
        """How many files the snapshot under way, in another thread, reads; 0 without one, or as
        long as that is not known."""
        return sum(store.reading for store in self._stores)

    def take(self) -> Snapshot:
        """Take a snapshot of the present state. Raises SnapshotError (SnapshotBusy), OSError."""
        with self._locked():
            return self._take()[0]

    def history(self) -> list[Snapshot]:
        """The snapshots that can be restored, oldest first. Raises SnapshotError, OSError."""
        pasts: dict[str, list[tuple[FolderStore, Past]]] = {}
        for store in self._stores:
            for name, past in store.pasts():
                pasts.setdefault(name, []).append((store, past))
        return [_looked_up(name, pasts[name]) for name in sorted(pasts)]

    def get(self, snapshot: str) -> Snapshot:
        """Look a snapshot up. Raises UnknownSnapshot, SnapshotError, OSError."""
        return _looked_up(snapshot, list(self._pasts(snapshot).items()))

    def changes(self, before: str, after: str | None = None) -> list[Change]:
        """What changed from one snapshot to another, or to the present state (which becomes a
        snapshot). Files that either does not cover are not in it. Raises UnknownSnapshot,
        SnapshotError, OSError."""
        starts = self._pasts(before)
        if after is None:
            with self._locked():
                after = self._take(starts)[0].id
        ends = self._pasts(after)
        found: list[Change] = []
        for store in self._stores:
            if store in starts and store in ends:
                start, end = starts[store], ends[store]
                unknown = {**start.left_out, **end.left_out}
                found += _changes(store, start.files, end.files, unknown)
        return found

    def diffs(self, changes: Sequence[Change]) -> list[Diff]:
        """A unified diff with line counts for each change. Raises SnapshotError, OSError."""
        result: list[Diff] = []
        with contextlib.ExitStack() as stack:
            readers = {s.folder: stack.enter_context(s.shadow.blobs()) for s in self._stores}
            for item in changes:
                folder = next((f for f in readers if f in item.path.parents), None)
                if folder is None:
                    raise SnapshotError(f"{item.path} is in no folder of this workspace")
                read = readers[folder].read
                old = read(item.before.oid) if item.before else None
                new = read(item.after.oid) if item.after else None
                name = os.fsencode(item.path.relative_to(folder)).decode(errors="replace")
                result.append(compare(old, new, name))
        return result

    def plan(self, to: str, since: str | None = None) -> Plan:
        """What ``restore(to)`` would do, and which of the files it would touch were edited after
        the snapshot ``since`` (the end of the turn). The present state becomes a snapshot. Raises
        UnknownSnapshot, SnapshotError, OSError."""
        pasts, ended = self._pasts(to), self._pasts(since) if since else {}
        changes: list[Change] = []
        edited: list[Change] = []
        kept: list[LeftOut] = []
        not_covered = self._missing(pasts)
        heads: list[HeadMoved] = []
        with self._locked():
            now, presents = self._take(pasts, ended)
            for store, past in pasts.items():
                present = presents[store]
                way = way_back(store, past, present, expiry.taken_ns(to))
                here = present.entries()
                changes += [
                    change(_path(store, path), here.get(path), entry)
                    for path, entry in way.steps.items()
                ]
                if store in ended:
                    end = {p: e for p, e in ended[store].files.items() if p in way.steps}
                    there = {p: e for p, e in here.items() if p in way.steps}
                    edited += _changes(store, end, there, ended[store].left_out)
                kept += _named(store, way.kept)
                not_covered += _named(store, way.not_covered)
                if past.head != present.head:
                    heads.append(HeadMoved(store.folder, past.head, present.head))
        return Plan(
            to,
            now.id,
            tuple(changes),
            tuple(edited),
            tuple(kept),
            tuple(not_covered),
            tuple(heads),
        )

    def restore(self, to: str, keep: Collection[Path] = ()) -> Restored:
        """Bring every covered file back to the snapshot ``to``; those in ``keep`` (absolute) stay
        as they are. The present state becomes a snapshot first: ``before`` in the result. Raises
        UnknownSnapshot, SnapshotError, OSError; what was done by then is taken back by the next
        call of whatever kind."""
        pasts = self._pasts(to)
        done: list[Path] = []
        changed: list[Path] = []
        created: list[Path] = []
        failed: list[LeftOut] = []
        with self._locked():
            before, presents = self._take(pasts)
            ways = {
                store: way_back(store, past, presents[store], expiry.taken_ns(to))
                for store, past in pasts.items()
            }
            note = journal.Entry(before.id, to, secrets.token_hex(6), tuple(s.folder for s in ways))
            journal.write(self._journal, note)
            for store, way in ways.items():
                steps = {p: e for p, e in way.steps.items() if _path(store, p) not in keep}
                final = [*pasts[store].files, *(way.steps.keys() - steps.keys())]
                outcome = go(store, steps, presents[store], final, note.token)
                changed += [_path(store, path) for path in outcome.changed]
                created += [_path(store, path) for path in outcome.created]
                done += [_path(store, path) for path in outcome.deleted]
                failed += _named(store, outcome.failed)
            journal.remove(self._journal)
        return Restored(
            to,
            before.id,
            tuple(changed),
            tuple(created),
            tuple(done),
            tuple(failed),
            tuple(item for store, way in ways.items() for item in _named(store, way.kept)),
            (
                *self._missing(pasts),
                *(item for store, way in ways.items() for item in _named(store, way.not_covered)),
            ),
        )

    def recover(self) -> Recovered | None:
        """Take back a restore that was killed midway, if there was one; what an earlier call of
        another kind took back is told here too, once. Raises SnapshotError, OSError."""
        if self._recovered is None:
            if not self._journal.exists():
                return None
            with self._locked():
                pass
        told, self._recovered = self._recovered, None
        return told

    def expire(self, days: float, keep: int = 20) -> int:
        """Drop snapshots older than ``days``, but the last ``keep`` of each folder, and everything
        of folders unused for so long; make room where the bound on disk is passed. May take
        seconds and is best left to the background. Returns how many snapshots went. Raises
        SnapshotError, OSError."""
        oldest = time.time() - days * 86_400
        with self._locked():
            gone = sum(
                expiry.expire(store.shadow, int(oldest * 1e9), keep, self._limits.max_store)
                for store in self._stores
            )
        own = {store.place for store in self._stores}
        expiry.remove_abandoned([p for p in kept_folders(self._home) if p not in own], oldest)
        return gone

    @property
    def _journal(self) -> Path:
        return self._stores[0].place / "journal"

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            # Always in the same order, so that two processes never wait for each other.
            for store in sorted(self._stores, key=lambda store: store.place):
                stack.enter_context(store.locked())
            note = journal.read(self._journal)
            if note is not None:
                self._recovered = self._take_back(note)
            yield

    def _take(
        self, *also: Mapping[FolderStore, Past]
    ) -> tuple[Snapshot, dict[FolderStore, Present]]:
        started, name = time.perf_counter(), _new_id()
        presents: dict[FolderStore, Present] = {}
        for store in self._stores:
            files = [path for pasts in also if store in pasts for path in pasts[store].files]
            presents[store] = store.take(name, files)
        return Snapshot(
            name,
            expiry.taken_ns(name) / 1e9,
            self.folders,
            sum(len(present.rows) for present in presents.values()),
            tuple(item for s, present in presents.items() for item in _named(s, present.left_out)),
            time.perf_counter() - started,
        ), presents

    def _take_back(self, note: journal.Entry) -> Recovered:
        reverted: list[Path] = []
        failed: list[LeftOut] = []
        name = _new_id()
        known = {store.folder: store for store in self._stores}
        with contextlib.ExitStack() as stack:
            for folder in note.folders:
                store = known.get(folder)
                if store is None:
                    store = FolderStore(self._home, folder, self._limits)
                    stack.enter_context(store.locked())
                try:
                    before, to = store.past(note.before), store.past(note.to)
                    if before is None or to is None:
                        raise SnapshotError("the snapshots of it are gone")
                    outcome, edited = take_back(store, before, to, name, note.token)
                except (SnapshotError, OSError) as error:
                    # Said, not tried for ever: nothing else could be done here until it worked.
                    failed.append(LeftOut(folder, f"a killed restore stays half done: {error}"))
                    continue
                done = [*outcome.changed, *outcome.created, *outcome.deleted]
                reverted += [_path(store, path) for path in done]
                failed += _named(store, {**outcome.failed, **edited})
        journal.remove(self._journal)
        return Recovered(note.to, note.before, tuple(reverted), tuple(failed))

    def _pasts(self, snapshot: str) -> dict[FolderStore, Past]:
        if not _ID.fullmatch(snapshot):
            raise UnknownSnapshot(f"there is no snapshot {snapshot!r}")
        found = {store: past for store in self._stores if (past := store.past(snapshot))}
        if not found:
            raise UnknownSnapshot(f"the snapshot {snapshot} is gone")
        return found

    def _missing(self, pasts: Mapping[FolderStore, Past]) -> list[LeftOut]:
        """The folders that a snapshot knows nothing of: added since."""
        reason = "not a folder of the workspace at that time"
        return [LeftOut(store.folder, reason) for store in self._stores if store not in pasts]


def _new_id() -> str:
    return f"{time.time_ns():016x}-{secrets.token_hex(2)}"


def _looked_up(name: str, pasts: Sequence[tuple[FolderStore, Past]]) -> Snapshot:
    return Snapshot(
        name,
        expiry.taken_ns(name) / 1e9,
        tuple(store.folder for store, _ in pasts),
        sum(past.covered for _, past in pasts),
        tuple(item for store, past in pasts for item in _named(store, past.left_out)),
    )


def _changes(
    store: FolderStore, before: Files, after: Files, unknown: Collection[bytes]
) -> list[Change]:
    return [
        change(_path(store, path), before.get(path), after.get(path))
        for path in differing(before, after, unknown)
    ]


def _named(store: FolderStore, reasons: Mapping[bytes, str]) -> list[LeftOut]:
    return [LeftOut(_path(store, path), reasons[path]) for path in sorted(reasons)]


def _path(store: FolderStore, path: bytes) -> Path:
    return store.folder / os.fsdecode(path)
