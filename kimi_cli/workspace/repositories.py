"""The git repositories that a session's commands can write, known without asking git each time."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kimi_cli.workspace.git_config import read_config
from kimi_cli.workspace.git_layout import GitLayout, find_layout, nested_repositories

_MOST_NESTED = 64

_Mark = tuple[int, int, int] | None


class Repositories:
    """Those that were there before the session: at the top of the workspace's ``folders``, not far
    below, and around the commands' working folders. What commands make themselves is theirs to
    change and to remove; ``made`` finds it."""

    def __init__(self, folders: Sequence[Path], user_home: Path) -> None:
        self._folders = folders
        self._configs = [
            Path(os.path.realpath(user_home / name))
            for name in (".gitconfig", ".config/git/config")
        ]
        self._known: dict[Path, tuple[dict[Path, _Mark], GitLayout]] = {}
        self._began = time.time()
        self._scanned = False

    def look(self, cwd: Path, granted: Sequence[Path]) -> None:
        """Take in what a command in ``cwd`` with those paths granted works with."""
        if not self._scanned:
            self._scanned = True
            for top in self._tops():
                self._take(top)
        for top in self._around(cwd):
            if top not in self._known and self._is_old(top):
                self._take(top)
        for path in granted:
            self._take(path.parent if path.name == ".git" else path)
        for top, (marks, _) in list(self._known.items()):
            if any(_mark(path) != mark for path, mark in marks.items()):
                self._take(top)

    def layouts(self) -> list[GitLayout]:
        return [layout for _, layout in self._known.values()]

    def made(self) -> list[GitLayout]:
        """Those that were not there before, as far as a short look finds them."""
        if not self._scanned:
            return []
        tops = [top for top in self._tops() if top not in self._known]
        found = [find_layout(top, self._configs) for top in tops]
        return [layout for layout in found if layout is not None]

    def known(self) -> frozenset[Path]:
        """The folders that all work trees of a repository share."""
        return frozenset(layout.common_dir for layout in self.layouts())

    def guarded(self) -> list[Path]:
        """What decides which programs git runs in them."""
        found: list[Path] = []
        for layout in self.layouts():
            found += layout.guarded
            if layout.pointer is not None:
                found.append(layout.pointer)
        return found

    def pointers(self) -> list[Path]:
        return [path for layout in self.layouts() for path in layout.pointers]

    def pinned(self) -> list[Path]:
        """Folders that must not be replaced by others."""
        found = (layout.common_dir for layout in self.layouts())
        return [path for path in dict.fromkeys(found) if self._own(path)]

    def outside(self) -> list[Path]:
        """The git folders, elsewhere, of work trees in the workspace. A command could write a
        ``.git`` file that leads anywhere, so the other side must say that it belongs to the work
        tree (gitrepository-layout(5): ``gitdir``; git-config(1): ``core.worktree``)."""
        found: dict[Path, None] = {}
        for layout in self.layouts():
            if layout.common_dir in found or self._own(layout.common_dir):
                continue
            if self._own(layout.top) and _belongs(layout):
                found[layout.common_dir] = None
        return list(found)

    def _tops(self) -> list[Path]:
        nested = [top for folder in self._folders for top in nested_repositories(folder)]
        return list(dict.fromkeys((*self._folders, *nested[:_MOST_NESTED])))

    def _own(self, path: Path) -> bool:
        return any(path.is_relative_to(folder) for folder in self._folders)

    def _around(self, cwd: Path) -> Iterator[Path]:
        cwd = Path(os.path.realpath(cwd))
        for folder in (cwd, *cwd.parents):
            if not self._own(folder):
                return
            if os.path.lexists(folder / ".git"):
                yield folder
                return

    def _is_old(self, top: Path) -> bool:
        try:
            return os.stat(top / ".git").st_mtime < self._began
        except OSError:
            return False

    def _take(self, top: Path) -> None:
        layout = find_layout(top, self._configs)
        if layout is None:
            self._known.pop(top, None)
            return
        seen = [top / ".git", *self._configs, *layout.seen]
        self._known[top] = ({path: _mark(path) for path in seen}, layout)


def _belongs(layout: GitLayout) -> bool:
    try:
        back = (layout.git_dir / "gitdir").read_text("utf-8", "surrogateescape").strip()
    except OSError:
        back = ""
    if back:
        return os.path.realpath(layout.git_dir / back) == str(layout.top / ".git")
    tree = read_config(layout.git_dir / "config").last("core.worktree")
    return bool(tree) and os.path.realpath(layout.git_dir / str(tree)) == str(layout.top)


def _mark(path: Path) -> _Mark:
    try:
        about = os.stat(path)
    except OSError:
        return None
    if path.name == ".git":
        # Whether it is there; as a folder it changes with each commit.
        return (about.st_ino, 0, 0)
    return (about.st_ino, about.st_size, about.st_mtime_ns)
