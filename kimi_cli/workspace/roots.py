"""Which folders a session works in."""

from __future__ import annotations

from pathlib import Path


def project_root(cwd: Path) -> Path:
    """The top of the work tree that holds ``cwd`` (a folder with ``.git``, which is a file in a
    worktree or submodule), else ``cwd`` itself; resolved. No git program is asked."""
    cwd = cwd.resolve()
    for folder in (cwd, *cwd.parents):
        if (folder / ".git").exists():
            return folder
    return cwd
