"""Where a command was called."""

from __future__ import annotations

import sys
from pathlib import Path

import typer


def working_directory() -> Path:
    """The folder that the process is in. Raises typer.Exit, with a word on stderr, when it was
    removed."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        print("kimi: the working directory no longer exists", file=sys.stderr)
        raise typer.Exit(2) from None
