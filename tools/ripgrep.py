"""Running the ripgrep program that the package of the same name installs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from kimi_cli.protocol.tools import ToolError
from kimi_cli.protocol.workspace import Workspace

TIMEOUT = 30.0

# No user configuration, so that the output is ours to parse. Ignore files count outside of a git
# repository too. Hidden files are project files (.github); what hides for other reasons does not.
COMMON = (
    *("--no-config", "--color=never", "--no-messages", "--hidden", "--no-require-git"),
    *("--glob=!.git", "--glob=!.hg", "--glob=!.svn", "--glob=!.jj"),
)
# A search must not show what a read of the file would have to ask for.
WITHOUT_SECRETS = tuple(
    f"--glob=!{name}"
    for name in (
        *(".env", ".env.*", ".envrc", "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.keystore"),
        *("id_rsa", "id_dsa", "id_ecdsa", "id_ed25519", ".netrc", ".pgpass", ".npmrc", ".pypirc"),
        *(".git-credentials", ".ssh", ".gnupg", ".aws"),
    )
)


class Ripgrep:
    """Finds the program once and runs it."""

    def __init__(self) -> None:
        self._program = ""

    async def run(
        self, arguments: Sequence[str], workspace: Workspace, folder: Path, limit: int
    ) -> tuple[bytes, bool]:
        """Run in ``folder``; returns at most ``limit`` bytes of output, and whether there was
        more. No match is no error. Raises ToolError with ripgrep's own words for a bad pattern."""
        if not self._program:
            self._program = find()
        argv = [self._program, *COMMON, *arguments]
        try:
            code, output, errors = await workspace.processes.run(
                argv, cwd=folder, timeout=TIMEOUT, limit=limit
            )
        except TimeoutError:
            raise ToolError(
                f"The search took longer than {TIMEOUT:.0f} s: narrow it by path or glob."
            ) from None
        except OSError as error:
            raise ToolError(f"ripgrep can't be started: {error}") from None
        # Exit status 2 with output: some file could not be read.
        if code not in (0, 1) and not output and errors.strip():
            message = errors.decode("utf-8", "replace").strip().removeprefix("rg: ")
            raise ToolError(message)
        return output[:limit], len(output) >= limit


def find() -> str:
    """Path of ``rg``: beside the interpreter, where the wheel put it, else on PATH."""
    program = shutil.which("rg", path=os.path.dirname(sys.executable))
    program = program or _in_wheel() or shutil.which("rg")
    if not program:
        raise ToolError("ripgrep is missing: install the Python package 'ripgrep'. Use the shell.")
    return program


def _in_wheel() -> str | None:
    from importlib import metadata

    try:
        files = metadata.files("ripgrep") or []
    except metadata.PackageNotFoundError:
        return None
    for file in files:
        path = os.path.normpath(str(file.locate()))
        if file.name in ("rg", "rg.exe") and os.access(path, os.X_OK):
            return path
    return None
