"""The system prompt of a new session. What it says is fixed for the session's life."""

from __future__ import annotations

import os
import platform
import shutil
import time
from pathlib import Path

from kimi_cli.prompts import load
from kimi_cli.protocol.sandbox import SandboxState
from kimi_cli.protocol.workspace import Workspace

SANDBOX = {
    "off": "none: commands can do what the user can",
    "read-only": "commands can read but change nothing; this session only looks",
    "workspace-write": "commands write only in the workspace and the folders for temporary files",
}


def system_prompt(workspace: Workspace, sandbox: SandboxState) -> str:
    """The prompt with the facts about the place filled in."""
    others = [str(folder) for folder in workspace.folders if folder != workspace.root]
    inside = [f for f in workspace.folders if (Path(f) / ".git").exists()]
    return load("system").format(
        root=workspace.root,
        folders=f" (also {', '.join(others)})" if others else "",
        sandbox=SANDBOX[sandbox.mode] + _network(sandbox),
        platform=f"{platform.system()} {platform.machine()}",
        shell="bash" if shutil.which("bash") else os.path.basename("/bin/sh"),
        git="yes" if inside else "not a repository",
        date=time.strftime("%Y-%m-%d"),
    )


def _network(sandbox: SandboxState) -> str:
    if sandbox.mode == "off" or sandbox.network:
        return ""
    return "; no network but a private loopback" if sandbox.way != "landlock" else "; no network"
