"""The branch for the status line, with a mark for changes that are not committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kimi_cli.frontends.terminal.header import branch_of
from kimi_cli.workspace.programs import find_trusted

if TYPE_CHECKING:
    from kimi_cli.agent import Session

SECONDS = 5.0


async def branch_state(session: Session) -> str:
    """``main``, or ``main*`` where tracked files differ from the last commit; "" outside git.

    git runs in the sandbox, and without the repository's file system monitor: a configuration is
    no reason to run a program for a status line."""
    workspace = session.workspace
    branch = branch_of(workspace.root)
    if not branch:
        return ""
    try:
        git = find_trusted("git", workspace.folders)
        if git is None:
            return branch
        argv = [git, "-c", "core.fsmonitor=false", "status", "--porcelain", "-uno"]
        code, out, _ = await workspace.processes.run(
            argv, cwd=workspace.root, timeout=SECONDS, limit=4096
        )
    except (OSError, TimeoutError):
        return branch
    # More than the limit ends git by a signal: there are changes all the more.
    return f"{branch}*" if out and code <= 0 else branch
