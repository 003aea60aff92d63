"""``kimi trust``: the folders whose project settings take effect."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Literal

from kimi_cli.cli.here import working_directory
from kimi_cli.settings import (
    SettingsError,
    declined_folders,
    distrust,
    is_declined,
    kimi_home,
    trust,
    trusted_folders,
)
from kimi_cli.workspace.roots import project_root


def change_trust(action: Literal["add", "remove", "list"], folder: Path | None) -> int:
    """Change or print the list of trusted folders; returns the exit code."""
    home = kimi_home(os.environ)
    if action == "list":
        for known in trusted_folders(home):
            print(known)
        for known in declined_folders(home):
            print(f"{known} (declined: not asked about again)")
        return 0
    root = project_root(folder or working_directory())
    if not root.is_dir():
        print(f"kimi: {root} is not a folder", file=sys.stderr)
        return 2
    try:
        if action == "add":
            trust(home, root)
            print(f"trusted: {root}")
        else:
            declined = is_declined(home, root)
            was = "no longer trusted" if distrust(home, root) else "was not trusted"
            print(f"{was}: {root}" + "; kimi asks about it again" * declined)
    except SettingsError as error:
        print(f"kimi: {error}", file=sys.stderr)
        return 74
    except OSError as error:
        print(f"kimi: {error.filename or home}: {error.strerror}", file=sys.stderr)
        return 74
    return 0
