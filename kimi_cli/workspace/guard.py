"""What the kernel can't hold: files that decide what programs run, looked at after each command.

A path that does not exist can't be made read-only, and where there are no mounts of our own nothing
inside a writable folder can. So these are noted before a command and put back after it; what it
made is set aside, never deleted. Between the two it was there: this undoes, it does not prevent.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kimi_cli.workspace import nofollow
from kimi_cli.workspace.git_defuse import without_programs
from kimi_cli.workspace.git_layout import GitLayout
from kimi_cli.workspace.kept_files import Kept, Notes, Snapshot, put_back
from kimi_cli.workspace.quarantine import Quarantine

_LOOK_INSIDE = stat.S_IRUSR | stat.S_IXUSR
_LFS = " Git LFS needs none in a repository once its owner has run `git lfs install`."


@dataclass(frozen=True, slots=True)
class Watch:
    """What to look after during a command, all of it resolved paths. ``paths`` must stay as they
    are, missing ones missing; ``pointers`` too, but may go away together with the folder they are
    in. ``repositories`` are the common folders of those known before: hooks in others are new."""

    paths: Sequence[Path] = ()
    pointers: Sequence[Path] = ()
    repositories: frozenset[Path] = frozenset()


@dataclass(frozen=True, slots=True)
class _Open:
    """A command that runs, and how things were before it: a snapshot for each watched path."""

    repositories: frozenset[Path]
    paths: dict[Path, Snapshot]
    pointers: dict[Path, Snapshot]


class Guard:
    """Compares and puts back, going by descriptors: commands that still run may change any folder
    on the way while it works. ``quarantine`` is the folder that takes what is set aside, resolved,
    made when it is needed; repositories that commands made are looked at below the ``bases``."""

    def __init__(self, quarantine: Path, bases: Sequence[Path]) -> None:
        self._quarantine = Quarantine(quarantine)
        self._bases = bases
        self._open: dict[int, _Open] = {}
        self._notes = Notes()

    def before(self, number: int, watch: Watch) -> None:
        """Note how things are before the command ``number`` starts."""
        self._open[number] = _Open(
            watch.repositories,
            dict(self._noted(watch.paths)),
            dict(self._noted(watch.pointers)),
        )

    def after(self, number: int, layouts: Iterable[GitLayout]) -> list[str]:
        """The command is over: put back what it should not have changed. ``layouts`` are
        repositories that were not there before. Returns what was done, a sentence each."""
        opened = self._open.pop(number, None)
        if opened is None:
            return []
        said: list[str] = []
        for path, was in opened.paths.items():
            said += self._settle(path, was)
        for path, was in opened.pointers.items():
            if path.parent.is_dir():
                said += self._settle(path, was)
        for layout in layouts:
            if layout.common_dir in opened.repositories:
                if layout.git_dir != layout.common_dir:
                    said += self._new_config(layout.git_dir / "config.worktree", layout.top)
            elif self._ours(layout.common_dir):
                said += self._new_repository(layout)
        for later, other in self._open.items():
            if later > number:
                # It may have found what this one had planted, or had taken away for a moment.
                _take_over(other.paths, opened.paths)
                _take_over(other.pointers, opened.pointers)
            # What a command with more rights changed must not count against one that still runs.
            other.paths.update(self._noted(other.paths.keys() - opened.paths.keys()))
        return said

    def _noted(self, paths: Iterable[Path]) -> Iterator[tuple[Path, Snapshot]]:
        for path in paths:
            # With a symlink on the way, what is there now is somewhere else.
            with contextlib.suppress(OSError):
                yield path, self._notes.take(path)

    def _ours(self, path: Path) -> bool:
        return any(path.is_relative_to(base) for base in self._bases)

    def _settle(self, path: Path, before: Snapshot) -> list[str]:
        """Make ``path`` what it was, with all below it."""
        said: list[str] = []
        try:
            said += self._clear_way(path)
            now = self._notes.take(path)
        except OSError as error:
            return [*said, _failed(path, error)]
        if now == before:
            return said
        for each in sorted(now.keys() - before.keys() | _differing(now, before)):
            if not _harmless(each, now[each], before):
                said += self._set_aside(each, "which it had made or changed")
        for each, kept in sorted(before.items()):
            if kept is not None and not _is_sample(each):
                try:
                    said += filter(None, [put_back(each, kept)])
                except OSError as error:
                    said.append(_failed(each, error))
        return said

    def _clear_way(self, path: Path) -> list[str]:
        """All of our paths are resolved: a symlink on the way has taken a folder's place. Raises
        OSError."""
        said: list[str] = []
        for step in reversed(path.parents):
            try:
                with nofollow.folder(step):
                    pass
            except FileNotFoundError:
                break
            except OSError as error:
                if error.errno != errno.ELOOP:
                    break
                said += self._set_aside(step, "a symlink that leads elsewhere")
        return said

    def _new_repository(self, layout: GitLayout) -> list[str]:
        """Nothing in a repository that a command made may run a program of its choice: its hooks
        go, and of its configuration (of its submodules' too) what names programs."""
        said: list[str] = []
        own = (layout.common_dir, layout.git_dir)
        for path in layout.guarded:
            if not any(path.is_relative_to(folder) for folder in own):
                continue
            if path.name == "hooks":
                said += self._new_hooks(path)
            elif path.name in ("config", "config.worktree"):
                said += self._new_config(path, layout.top)
        return said

    def _new_hooks(self, hooks: Path) -> list[str]:
        try:
            descriptor = nofollow.listed(hooks)
        except FileNotFoundError:
            return []
        except OSError:
            return self._set_aside(hooks, "the hooks of a repository that it made")
        try:
            names = sorted(os.listdir(descriptor))
        finally:
            os.close(descriptor)
        said: list[str] = []
        for name in names:
            if not _is_sample(hooks / name):
                said += self._set_aside(hooks / name, "a hook in a repository that it made")
        return said

    def _new_config(self, config: Path, top: Path) -> list[str]:
        real = Path(os.path.realpath(config))
        if real != config and not self._ours(real):
            return self._set_aside(config, "the configuration of a repository that it made")
        try:
            found = without_programs(real)
            if found is None:
                return []
            place = self._quarantine.take(real)
            put_back(real, Kept(stat.S_IFREG, found.mode, found.content))
        except OSError as error:
            return [f"The configuration of the new repository {top} may name programs: {error}."]
        named = ", ".join(found.programs)
        lfs = any(name.startswith("filter.lfs.") for name in found.programs)
        return [
            f"The repository {top} is new, and its configuration could make git run programs "
            f"({named}): the sandbox took these settings out and moved the file as it was to "
            f"{place}. Its owner can set them again when this session is over.{_LFS * lfs}"
        ]

    def _set_aside(self, path: Path, what: str) -> list[str]:
        try:
            place = self._quarantine.take(path)
        except OSError as error:
            return [_failed(path, error)]
        if place is None:
            return []
        return [f"The sandbox moved {path}, {what}, to {place}: it decides which programs run."]


def _take_over(snapshots: dict[Path, Snapshot], known: Mapping[Path, Snapshot]) -> None:
    snapshots.update((path, known[path]) for path in snapshots.keys() & known.keys())


def _failed(path: Path, error: OSError) -> str:
    return f"The command changed {path}, and it could not be put back: {error}."


def _harmless(path: Path, now: Kept | None, before: Snapshot) -> bool:
    """What ``git init`` leaves in a repository without hooks, and modes of folders."""
    if _is_sample(path):
        return True
    if now is None or now.kind != stat.S_IFDIR:
        return False
    kept = before.get(path)
    if ~now.mode & (kept.mode if kept else stat.S_IRWXU) & _LOOK_INSIDE:
        return False
    return path.name == "hooks" or (kept is not None and kept.kind == stat.S_IFDIR)


def _differing(now: Snapshot, before: Snapshot) -> set[Path]:
    return {path for path, kept in now.items() if path in before and before[path] != kept}


def _is_sample(path: Path) -> bool:
    return path.name.endswith(".sample") and path.parent.name == "hooks"
