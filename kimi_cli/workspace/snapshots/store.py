"""The snapshots of one folder: KIMI_HOME/snapshots/PROJECT/ holds ``git`` (the shadow),
``manifest``, ``lock``, ``folder`` (whose snapshots they are) and, during a restore, ``journal``."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from kimi_cli.workspace.roots import project_root
from kimi_cli.workspace.snapshots import lock, manifest
from kimi_cli.workspace.snapshots.importer import Importer
from kimi_cli.workspace.snapshots.listing import GIT, Listing, Names, is_under
from kimi_cli.workspace.snapshots.look import Looked, leave_out_large, look, read
from kimi_cli.workspace.snapshots.manifest import Manifest, Row
from kimi_cli.workspace.snapshots.model import Entry, Limits, SnapshotError
from kimi_cli.workspace.snapshots.places import Folders, git_folder
from kimi_cli.workspace.snapshots.shadow import REFS, Shadow

FOLDER = "snapshots"


@dataclass(slots=True)
class Present:
    """The folder's state as just taken: the covered files, what was left out and why, and the
    commit checked out in the user's git."""

    rows: dict[bytes, Row]
    left_out: dict[bytes, str]
    head: str

    def entries(self) -> dict[bytes, Entry]:
        return manifest.entries(self.rows)


@dataclass(slots=True)
class Past:
    """A snapshot of the folder, looked up."""

    commit: str
    covered: int = 0
    left_out: dict[bytes, str] = field(default_factory=dict)
    head: str = ""
    files: dict[bytes, Entry] = field(default_factory=dict)


class FolderStore:
    """What is kept of one folder. Nothing here locks, except where it says so."""

    def __init__(self, home: Path, folder: Path, limits: Limits) -> None:
        self.folder = folder
        self.place = home / FOLDER / project_key(folder)
        self.shadow = Shadow(self.place / "git", folder)
        self._limits = limits
        self._manifest = self.place / "manifest"
        self._own = _inside(folder, home)
        # Covered once, a file stays so in this session, also when it gets ignored: the .gitignore
        # may be what is to be undone.
        self._covered: set[bytes] = set()
        self._refused = ""
        self.reading = 0
        """How many files the snapshot under way reads; 0 without one."""

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes away for the ``with`` block. Raises SnapshotBusy, OSError."""
        with lock.held(self.place / "lock", self._limits.lock) as descriptor:
            self.shadow.lock = descriptor
            try:
                yield
            finally:
                self.shadow.lock = None

    def take(self, name: str, also: Iterable[bytes] = ()) -> Present:
        """Take the snapshot ``name``; the files ``also`` are covered even if they are ignored.
        Raises SnapshotError, OSError."""
        self.shadow.make()
        note = self.place / "folder"
        if not note.exists():
            note.write_bytes(os.fsencode(self.folder))
        try:
            present = self._take(name, lambda: manifest.load(self._manifest), also)
        except SnapshotError:
            # A damaged shadow or a manifest that is ahead of it: everything is read again.
            present = self._take(name, Manifest, also)
        self._covered = set(present.rows)
        return present

    def past(self, name: str) -> Past | None:
        """The snapshot of this name with its files; None where the folder has none. Raises
        SnapshotError."""
        if not self.shadow.path.exists():
            return None
        for _, commit, text in self.shadow.refs(name):
            past = _past(commit, text)
            past.files = self.shadow.tree(commit)
            return past
        return None

    def pasts(self) -> list[tuple[str, Past]]:
        """Names and snapshots, oldest first, without their files. Raises SnapshotError."""
        if not self.shadow.path.exists():
            return []
        return [(name, _past(commit, text)) for name, commit, text in self.shadow.refs()]

    def _take(self, name: str, known: Callable[[], Manifest], also: Iterable[bytes]) -> Present:
        git = git_folder(project_root(self.folder))
        head = git.head() if git else ""
        importer = _Lazy(self.shadow)
        try:
            if self._refused:
                base, seen = known(), Looked(left_out={b"": self._refused})
            else:
                listing = Listing(self.shadow, self.folder, b"", self._limits)
                try:
                    # git lists in the meantime.
                    base = known()
                except BaseException:
                    listing.abandon()
                    raise
                seen = self._look(listing.finish(), base, also, importer)
            present = Present(seen.rows, seen.left_out, head)
            self._store(name, present, base, importer)
        finally:
            self.reading = 0
            importer.abandon()
        return present

    def _look(self, names: Names, base: Manifest, also: Iterable[bytes], importer: _Lazy) -> Looked:
        try:
            folders = Folders(self.folder)
        except OSError as error:
            return Looked(left_out={b"": error.strerror or str(error)})
        with folders:
            seen, left_out = self._statuses(folders, names, base, also)
            count = len(seen.rows) + len(seen.unread)
            if count > self._limits.max_files:
                left_out = {b"": f"more than {self._limits.max_files} files"}
            if b"" in left_out:
                # Once is enough: it would take as long for every snapshot.
                self._refused = left_out[b""]
                return Looked(left_out={b"": self._refused})
            seen.left_out.update(left_out)
            leave_out_large(seen, self._limits)
            contents = {row[5] for row in base.rows.values()} if seen.unread else set()

            def store(oid: str, content: bytes) -> None:
                if oid not in contents:
                    contents.add(oid)
                    importer.get().blob(oid, content)

            self.reading = len(seen.unread)
            read(folders, seen.unread, seen, self._limits.max_file, store)
        return seen

    def _statuses(
        self, folders: Folders, names: Names, base: Manifest, also: Iterable[bytes]
    ) -> tuple[Looked, dict[bytes, str]]:
        """The status of all listed files, those of repositories inside included, and what could
        not be listed."""
        wanted = dict.fromkeys(names.files)
        wanted.update(dict.fromkeys(also))
        wanted.update(dict.fromkeys(self._covered))
        left_out = dict(names.left_out)
        seen = look(folders, self._ours(wanted), base.rows)
        pending = list(names.folders)
        pending += self._repositories(seen.folders, names)
        while pending and len(seen.rows) + len(seen.unread) <= self._limits.max_files:
            inside = Listing(self.shadow, self.folder, pending.pop(), self._limits).finish()
            left_out.update(inside.left_out)
            more = look(folders, self._ours(dict.fromkeys(inside.files)), base.rows)
            pending += inside.folders + self._repositories(more.folders, inside)
            seen.rows.update(more.rows)
            seen.unread.update(more.unread)
            seen.left_out.update(more.left_out)
        return seen, left_out

    def _repositories(self, folders: Sequence[bytes], names: Names) -> list[bytes]:
        """Which of these folders are submodules. Others stand in the place of a tracked file;
        what git does not ignore in them is listed itself."""
        if not folders:
            return []
        listed = set(names.files)
        top = os.fsencode(self.folder)
        return [
            path
            for path in folders
            if path in listed and os.path.lexists(os.path.join(top, path, GIT))
        ]

    def _ours(self, names: Iterable[bytes]) -> Iterable[bytes]:
        """Without kimi's own folder, where that lies in the workspace."""
        if self._own is None:
            return names
        return [name for name in names if not is_under(name, {self._own: ""})]

    def _store(self, name: str, present: Present, base: Manifest, importer: _Lazy) -> None:
        rows, old = present.rows, base.rows
        message = _message(present)
        written = [
            (path, row[0], row[5])
            for path, row in rows.items()
            if (was := old.get(path)) is not row
            and (was is None or was[5] != row[5] or was[0] != row[0])
        ]
        removed = [
            (path, row[0])
            for path, row in old.items()
            if (now := rows.get(path)) is not row and (now is None or now[0] != row[0])
        ]
        if base.commit and message == base.message and not written and not removed:
            self.shadow.run(["update-ref", REFS + name, base.commit], changes=True)
            commit, tree = base.commit, base.tree
        else:
            commit, tree = importer.get().commit(name, message, base.tree, removed, written)
        if commit != base.commit or any(old.get(path) is not row for path, row in rows.items()):
            manifest.save(self._manifest, Manifest(commit, tree, message, rows))


class _Lazy:
    """An importer that is started when something is to be stored."""

    def __init__(self, shadow: Shadow) -> None:
        self._shadow = shadow
        self._importer: Importer | None = None

    def get(self) -> Importer:
        if self._importer is None:
            self._importer = Importer(self._shadow)
        return self._importer

    def abandon(self) -> None:
        if self._importer is not None:
            self._importer.abandon()


def project_key(folder: Path) -> str:
    """The name under which a folder's snapshots are kept: readable, and unique by a hash."""
    real = os.path.realpath(folder)
    slug = "".join(c if c.isalnum() or c in "._-" else "-" for c in os.path.basename(real)[:32])
    return f"{slug.lstrip('.-') or 'root'}-{sha256(os.fsencode(real)).hexdigest()[:8]}"


def kept_folders(home: Path) -> Iterator[Path]:
    """The places of all folders that have snapshots."""
    try:
        with os.scandir(home / FOLDER) as entries:
            yield from sorted(Path(e.path) for e in entries if e.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return


def _message(present: Present) -> str:
    """What a snapshot says beside its files, as JSON; equal for equal states."""
    left_out = {os.fsdecode(path): present.left_out[path] for path in sorted(present.left_out)}
    return json.dumps({"head": present.head, "covered": len(present.rows), "left_out": left_out})


def _past(commit: str, text: str) -> Past:
    try:
        said = json.loads(text)
        left_out = {os.fsencode(path): str(why) for path, why in said["left_out"].items()}
        return Past(commit, int(said["covered"]), left_out, str(said["head"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise SnapshotError(f"the snapshot {commit} can't be read") from None


def _inside(folder: Path, home: Path) -> bytes | None:
    try:
        return os.fsencode(home.resolve().relative_to(folder))
    except ValueError:
        return None
