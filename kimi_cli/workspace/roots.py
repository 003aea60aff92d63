"""Which folders a session works in."""

from __future__ import annotations

import os
from pathlib import Path


def project_root(cwd: Path) -> Path:
    """The top of the work tree that holds ``cwd`` (a folder with ``.git``, which is a file in a
    worktree or submodule), else ``cwd`` itself; resolved. No git program is asked.

    A home folder under version control (dotfiles) is no project of what lies below it: all of the
    user's files would be the workspace.
    """
    cwd = cwd.resolve()
    home = Path(os.path.expanduser("~")).resolve()
    for folder in (cwd, *cwd.parents):
        if folder == home and folder != cwd:
            break
        if (folder / ".git").exists():
            return folder
    return cwd
