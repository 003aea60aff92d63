"""Where git keeps what makes it run programs: read from files, no git program is asked.

Whoever writes a repository's configuration or hooks decides what the next ``git status`` of its
owner runs (git-config(1): core.fsmonitor, core.sshCommand, aliases, filters; githooks(5)); so does
``commondir``, which says where the configuration is (gitrepository-layout(5)).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kimi_cli.workspace.git_config import ConfigFile, read_config

_MOST_MODULES = 100
_MOST_INCLUDES = 10
_LARGEST_POINTER = 4096


@dataclass(frozen=True, slots=True)
class GitLayout:
    """The repository of one work tree; all paths are absolute, those that exist resolved.

    ``git_dir`` belongs to this work tree alone, ``common_dir`` to all work trees of the repository;
    in an ordinary repository they are the same. ``pointer`` is the ``.git`` of the work tree where
    that is a file or a symlink. ``guarded``: files and folders that decide what git runs, whether
    they exist or not. ``pointers``: the files that lead from submodules and other work trees to
    their repositories; they come and go with these. ``seen`` are the files and folders that all
    this was read from.
    """

    top: Path
    git_dir: Path
    common_dir: Path
    pointer: Path | None
    guarded: tuple[Path, ...]
    pointers: tuple[Path, ...]
    seen: tuple[Path, ...]


def find_layout(top: Path, user_configs: Sequence[Path] = ()) -> GitLayout | None:
    """The repository whose work tree starts at ``top`` (resolved), or which is kept in ``top``
    itself (a bare one); None when there is none. ``user_configs`` are the user's own configuration
    files: they may name a folder of hooks too. A file that can't be read counts as empty."""
    dot = top / ".git"
    pointer = None
    if dot.is_symlink() or dot.is_file():
        pointer = dot
        git_dir = dot.resolve() if dot.is_dir() else read_pointer(dot)
    elif dot.is_dir():
        git_dir = dot
    elif is_git_dir(top):
        git_dir = top
    else:
        return None
    if git_dir is None or not git_dir.is_dir():
        return None
    common = common_dir_of(git_dir)
    seen = [dot, git_dir / "commondir", common / "worktrees"]
    guarded = [*_of_git_dir(common), git_dir / "commondir", git_dir / "config.worktree"]
    if git_dir != top and not (top / "HEAD").exists():
        # With it, and .git broken, git would take the work tree itself for a bare repository and
        # believe the configuration that lies there.
        guarded.append(top / "HEAD")
    pointers = list(_of_worktrees(common, git_dir))
    for config in _configs((common / "config", git_dir / "config.worktree", *user_configs)):
        seen.append(config.path)
        if config.path not in user_configs:
            guarded.append(config.path)
        guarded += _hooks_named(config, top)
    modules = _modules(common / "modules", seen)
    if len(modules) > _MOST_MODULES:
        guarded.append(common / "modules")
        modules = []
    for module in modules:
        guarded += _of_git_dir(module)
        seen.append(module / "config")
        tree = read_config(module / "config").last("core.worktree")
        if tree:
            pointers.append(Path(os.path.realpath(module / tree), ".git"))
    return GitLayout(
        top,
        git_dir,
        common,
        pointer,
        tuple(dict.fromkeys(guarded)),
        tuple(dict.fromkeys(pointers)),
        tuple(dict.fromkeys(seen)),
    )


def is_git_dir(folder: Path) -> bool:
    """Whether git would take the folder for a repository (setup.c, ``is_git_directory``)."""
    return all((folder / name).exists() for name in ("HEAD", "objects", "refs"))


def read_pointer(file: Path) -> Path | None:
    """Where a ``.git`` file (``gitdir: PATH``) leads, resolved; None when it is none."""
    text = _first_line(file)
    if not text.startswith("gitdir:"):
        return None
    return (file.parent / text.removeprefix("gitdir:").strip()).resolve()


def common_dir_of(git_dir: Path) -> Path:
    """The folder that all work trees of the repository share; ``git_dir`` itself in most."""
    text = _first_line(git_dir / "commondir")
    return (git_dir / text).resolve() if text else git_dir


def nested_repositories(folder: Path, *, depth: int = 3, most: int = 200) -> list[Path]:
    """Folders below ``folder`` that hold a ``.git``, ``folder`` not among them; found by looking
    at no more than ``most`` folders, ``depth`` levels down. Symlinks are not followed."""
    found: list[Path] = []
    level = [str(folder)]
    looked = 0
    for _ in range(depth):
        below: list[str] = []
        for parent in level:
            looked += 1
            if looked > most:
                return found
            for name, path in _folders(parent):
                if name in (".git", "node_modules", "__pycache__", ".venv"):
                    continue
                below.append(path)
                if os.path.lexists(os.path.join(path, ".git")):
                    found.append(Path(path))
        level = below
    return found


def _of_git_dir(folder: Path) -> tuple[Path, ...]:
    names = ("config", "hooks", "commondir", "config.worktree")
    return tuple(folder / name for name in names)


def _of_worktrees(common: Path, own: Path) -> Iterator[Path]:
    for _, path in _folders(str(common / "worktrees")):
        if Path(path) != own:
            yield Path(path, "commondir")
            yield Path(path, "config.worktree")


def _configs(start: Sequence[Path]) -> Iterator[ConfigFile]:
    """The files, and those that they include."""
    waiting = list(start)
    done: set[Path] = set()
    while waiting and len(done) < _MOST_INCLUDES + len(start):
        path = waiting.pop(0)
        if path in done:
            continue
        done.add(path)
        config = read_config(path)
        yield config
        waiting += [Path(os.path.realpath(p)) for p in config.includes()]


def _hooks_named(config: ConfigFile, top: Path) -> Iterator[Path]:
    """Where ``core.hooksPath`` leads: relative to the folder hooks run in, the work tree's top."""
    named = config.last("core.hookspath")
    if named:
        path = Path(os.path.realpath(top / os.path.expanduser(named)))
        # The work tree as a whole can't be protected from work.
        if not top.is_relative_to(path):
            yield path


def _modules(folder: Path, seen: list[Path]) -> list[Path]:
    """The repositories of submodules, and of their submodules; names may have slashes. Stops at
    one more than is reasonable."""
    waiting = [folder]
    found: list[Path] = []
    for parent in waiting:
        seen.append(parent)
        for _, path in _folders(str(parent)):
            if not os.path.exists(os.path.join(path, "HEAD")):
                waiting.append(Path(path))
                continue
            found.append(Path(path))
            waiting.append(Path(path, "modules"))
        if len(found) > _MOST_MODULES or len(waiting) > 10 * _MOST_MODULES:
            return [folder] * (_MOST_MODULES + 1)
    return found


def _folders(parent: str) -> list[tuple[str, str]]:
    """Names and paths of the folders in ``parent``, sorted; none when it can't be read."""
    try:
        with os.scandir(parent) as rows:
            return sorted((r.name, r.path) for r in rows if r.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _first_line(file: Path) -> str:
    try:
        # Whoever can put a FIFO there would make us wait.
        if not file.is_file():
            return ""
        with file.open("rb") as stream:
            data = stream.read(_LARGEST_POINTER)
    except OSError:
        return ""
    return os.fsdecode(data.split(b"\n", 1)[0]).strip()
