"""What the kernel can't hold: files that decide what programs run, looked at after each command.

A path that does not exist can't be made read-only, and where there are no mounts of our own nothing
inside a writable folder can. So these are noted before a command and put back after it; what it
made is set aside, never deleted. Between the two it was there: this undoes, it does not prevent.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from kimi_cli.workspace.git_config import read_config
from kimi_cli.workspace.git_layout import GitLayout

_LARGEST = 4 << 20
_MOST_FILES = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """A file, folder or symlink as it was. ``content`` is that of a file, None when it was too
    large to keep; ``target`` that of a symlink."""

    kind: int
    mode: int
    content: bytes | None = None
    target: str = ""


Snapshot = dict[Path, Kept | None]
"""What there was at each path, None for nothing; of a folder all that was in it too."""


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
    """Compares and puts back. ``quarantine`` is the folder that takes what is set aside, made when
    it is needed; repositories that commands made are looked at below the ``bases``."""

    def __init__(self, quarantine: Path, bases: Sequence[Path]) -> None:
        self._quarantine = quarantine
        self._bases = bases
        self._open: dict[int, _Open] = {}
        self._told: set[tuple[str, ...]] = set()
        self._cache: dict[Path, tuple[tuple[int, ...], Kept]] = {}

    def before(self, number: int, watch: Watch) -> None:
        """Note how things are before the command ``number`` starts."""
        self._open[number] = _Open(
            watch.repositories,
            {path: self._note(path) for path in watch.paths},
            {path: self._note(path) for path in watch.pointers},
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
        new = {layout.common_dir: layout.top for layout in layouts}
        for common, top in new.items():
            ours = any(common.is_relative_to(base) for base in self._bases)
            if ours and common not in opened.repositories:
                said += self._new_repository(common, top)
        # What a command with more rights changed must not count against one that still runs.
        for other in self._open.values():
            for path in other.paths.keys() - opened.paths.keys():
                other.paths[path] = self._note(path)
        return said

    def _note(self, path: Path) -> Snapshot:
        return {each: self._look(each) for each in _tree(path)}

    def _look(self, path: Path) -> Kept | None:
        try:
            about = os.lstat(path)
        except OSError:
            return None
        kind = stat.S_IFMT(about.st_mode)
        if kind == stat.S_IFLNK:
            return Kept(kind, 0, None, os.readlink(path))
        if kind != stat.S_IFREG:
            return Kept(kind, stat.S_IMODE(about.st_mode))
        mark = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
        known = self._cache.get(path)
        if known is None or known[0] != mark:
            content = path.read_bytes() if about.st_size <= _LARGEST else None
            known = mark, Kept(kind, stat.S_IMODE(about.st_mode), content)
            self._cache[path] = known
        return known[1]

    def _settle(self, path: Path, before: Snapshot) -> list[str]:
        """Make ``path`` what it was, with all below it."""
        said: list[str] = []
        try:
            # All of our paths are resolved: a symlink on the way has taken a folder's place.
            for step in reversed(path.parents):
                if step.is_symlink():
                    said.append(self._set_aside(step, "a symlink that leads elsewhere"))
            now = self._note(path)
            if now == before:
                return said
            for each in sorted(now.keys() - before.keys() | _differing(now, before)):
                if os.path.lexists(each) and not self._harmless(each, before):
                    said.append(self._set_aside(each, "which it had made or changed"))
            for each in sorted(before):
                kept = before[each]
                if kept is not None and not os.path.lexists(each) and not _is_sample(each):
                    said.append(_put_back(each, kept))
        except OSError as error:
            said.append(f"The command changed {path}, and it could not be put back: {error}.")
        return said

    def _harmless(self, path: Path, before: Snapshot) -> bool:
        """What ``git init`` leaves in a repository without hooks, and modes of folders."""
        if _is_sample(path):
            return True
        if not path.is_dir() or path.is_symlink():
            return False
        kept = before.get(path)
        return path.name == "hooks" or (kept is not None and kept.kind == stat.S_IFDIR)

    def _new_repository(self, common: Path, top: Path) -> list[str]:
        said = []
        hooks = common / "hooks"
        try:
            if hooks.is_symlink():
                said.append(self._set_aside(hooks, "the hooks of a repository that it made"))
            for hook in sorted(hooks.iterdir()) if hooks.is_dir() else ():
                if not _is_sample(hook):
                    said.append(self._set_aside(hook, "a hook in a repository that it made"))
        except OSError as error:
            said.append(f"The new repository {top} has hooks that could not be moved: {error}.")
        programs = read_config(common / "config").programs()
        if programs and (str(common), *programs) not in self._told:
            self._told.add((str(common), *programs))
            names = ", ".join(dict.fromkeys(programs))
            said.append(
                f"The repository {top} is new, and its configuration names programs for git to run "
                f"({names}): look at {common / 'config'} before using git there."
            )
        return said

    def _set_aside(self, path: Path, what: str) -> str:
        place = _free_name(self._quarantine, path.name)
        shutil.move(path, place)
        return f"The sandbox moved {path}, {what}, to {place}: it decides which programs run."


def _differing(now: Snapshot, before: Snapshot) -> set[Path]:
    return {path for path, kept in now.items() if path in before and before[path] != kept}


def _is_sample(path: Path) -> bool:
    return path.name.endswith(".sample") and path.parent.name == "hooks"


def _tree(path: Path) -> list[Path]:
    """The path and, of a folder that is not too large, what is in it; symlinks are not followed."""
    found = [path]
    if path.is_dir() and not path.is_symlink():
        for parent, folders, files in os.walk(path):
            found += [Path(parent, name) for name in (*folders, *files)]
            if len(found) > _MOST_FILES:
                return [path]
    return found


def _put_back(path: Path, kept: Kept) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kept.kind == stat.S_IFDIR:
        path.mkdir(exist_ok=True)
    elif kept.kind == stat.S_IFLNK:
        path.symlink_to(kept.target)
    elif kept.content is None:
        return f"The command changed {path}, which was too large to keep a copy of."
    else:
        # Exclusive, so that nothing that is put there meanwhile is followed.
        with open(path, "xb") as file:
            file.write(kept.content)
            os.fchmod(file.fileno(), kept.mode)
    return f"The sandbox put {path} back as it was before the command."


def _free_name(folder: Path, name: str) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for number in range(1, 1_000_000):
        place = folder / f"{number}-{name}"
        if not os.path.lexists(place):
            return place
    raise OSError(f"no free name in {folder}")
