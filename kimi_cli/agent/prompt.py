"""The system prompt of a new session. What it says is fixed for the session's life."""

from __future__ import annotations

import os
import platform
import shutil
import time
from pathlib import Path

from kimi_cli.prompts import load
from kimi_cli.protocol.workspace import Workspace


def system_prompt(workspace: Workspace) -> str:
    """The prompt with the facts about the place filled in."""
    others = [str(folder) for folder in workspace.folders if folder != workspace.root]
    inside = [f for f in workspace.folders if (Path(f) / ".git").exists()]
    return load("system").format(
        root=workspace.root,
        folders=f" (also {', '.join(others)})" if others else "",
        platform=f"{platform.system()} {platform.machine()}",
        shell="bash" if shutil.which("bash") else os.path.basename("/bin/sh"),
        git="yes" if inside else "not a repository",
        date=time.strftime("%Y-%m-%d"),
    )
