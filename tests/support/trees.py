"""Folders of files for the tests: their exact state, and git repositories made by git itself."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

State = dict[bytes, tuple[int, bytes]]
"""Path to st_mode and content (of a symlink: its target)."""

_IDENTITY = {
    "GIT_AUTHOR_NAME": "a",
    "GIT_AUTHOR_EMAIL": "a@localhost",
    "GIT_COMMITTER_NAME": "a",
    "GIT_COMMITTER_EMAIL": "a@localhost",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
}


def state(root: Path, git: bool = False) -> State:
    """Every file and symlink below ``root``, git's own only with ``git``."""
    found: State = {}
    top = os.fsencode(root)
    for folder, folders, names in os.walk(top):
        if not git:
            names = [name for name in names if name != b".git"]
            folders[:] = [name for name in folders if name != b".git"]
        links = [name for name in folders if os.path.islink(os.path.join(folder, name))]
        for name in [*names, *links]:
            path = os.path.join(folder, name)
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            elif stat.S_ISREG(mode):
                with open(path, "rb") as file:
                    content = file.read()
            else:
                continue
            found[os.path.relpath(path, top)] = (mode, content)
    return found


def git_state(folder: Path) -> dict[bytes, tuple[int, int, bytes]]:
    """Everything git keeps in its folder, with the times of last change: what must not be
    touched."""
    top = os.fsencode(folder)
    return {
        path: (mode, os.lstat(os.path.join(top, path)).st_mtime_ns, content)
        for path, (mode, content) in state(folder, git=True).items()
    }


def git(folder: Path, *arguments: str) -> str:
    """Run git in the folder, without the settings of whoever runs the tests."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**inherited, **_IDENTITY},
        capture_output=True,
        check=True,
    )
    return os.fsdecode(done.stdout)


def repository(folder: Path) -> Path:
    """A repository with a commit and a dirty index: staged, modified, untracked, stashed."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q")
    write(folder / "kept.py", "print(1)\n")
    write(folder / "src" / "deep" / "a.txt", "a\n")
    write(folder / ".gitignore", "*.ign\nout/\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    write(folder / "kept.py", "print(2)\n")
    git(folder, "stash", "-q")
    write(folder / "staged.py", "staged\n")
    git(folder, "add", "staged.py")
    write(folder / "staged.py", "staged, then edited\n")
    write(folder / "untracked.py", "untracked\n")
    return folder


def write(path: Path, text: str | bytes, mode: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    if mode is not None:
        path.chmod(mode)
    return path
