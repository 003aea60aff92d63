"""The programs that `kimi serve` starts: none that lies in the project, where a model may have put
it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.serve.not_ready import NotReady

if TYPE_CHECKING:
    from kimi_cli.serve.installed import Vllm


def environment() -> dict[str, str]:
    """The environment in which ssh, ray and the drivers' programs are looked for and started."""
    from kimi_cli.serve.installed import without_folders

    path = without_folders(os.environ.get("PATH", os.defpath), [_project()])
    return {**os.environ, "PATH": path}


def usable_vllm() -> Vllm | None:
    """The one to use. Raises NotReady for one that lies in the project."""
    from kimi_cli.serve.installed import find_vllm

    found = find_vllm(os.environ, [_project()])
    if found is None and (inside := find_vllm(os.environ)):
        raise NotReady(
            "vllm",
            f"{inside.path} lies in this project, where a model could have put it",
            "call kimi serve from elsewhere, or say that this one is meant",
            (f"export KIMI_VLLM={inside.path}",),
        )
    return found


def _project() -> Path:
    from kimi_cli.cli.here import working_directory
    from kimi_cli.workspace.roots import project_root

    return project_root(working_directory())
