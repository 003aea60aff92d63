"""Find files by name."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from pydantic import Field

from kimi_cli.prompts import load
from kimi_cli.protocol.tools import Intent, Params, ToolContext, ToolOutput
from kimi_cli.protocol.workspace import Workspace
from kimi_cli.tools.paths import CheckedPath, locate
from kimi_cli.tools.ripgrep import Ripgrep

SHOWN = 200
OUTPUT_LIMIT = 8 * 2**20

_WILD = re.compile(r"[*?\[{]")


class GlobParams(Params):
    pattern: str = Field(min_length=1, description="Such as src/**/*.py")
    path: CheckedPath = Field(".", description="Folder")


class GlobTool:
    name = "glob"
    params = GlobParams
    read_only = True

    def __init__(self) -> None:
        self._ripgrep = Ripgrep()

    @property
    def description(self) -> str:
        return load("tools/glob")

    def intents(self, params: GlobParams, workspace: Workspace) -> Sequence[Intent]:
        folder, _ = split_pattern(params.path, params.pattern)
        return [Intent("read", str(workspace.files.resolve(folder)))]

    def summary(self, params: GlobParams) -> str:
        return params.pattern if params.path == "." else f"{params.pattern} in {params.path}"

    async def run(self, params: GlobParams, context: ToolContext) -> ToolOutput:
        workspace = context.workspace
        start, pattern = split_pattern(params.path, params.pattern)
        folder = locate(workspace.files, start)
        if not folder.is_dir():
            return ToolOutput(f"{workspace.files.show(folder)} is a file.", display="1 file")
        arguments = ["--files", "--null", "--sortr=modified", f"--glob={pattern}", "--", "./"]
        output, more = await self._ripgrep.run(arguments, workspace, folder, OUTPUT_LIMIT)
        names = output.split(b"\0")[:-1]
        if not names:
            return ToolOutput("No file matches.", display="no file")
        shown = [
            workspace.files.show(folder / os.fsdecode(name.removeprefix(b"./")))
            for name in names[:SHOWN]
        ]
        rest = len(names) - len(shown)
        if rest or more:
            shown.append(f"[{'at least ' * more}{rest} more files, older]")
        count = f"{'more than ' * more}{len(names)} file{'s' * (len(names) != 1)}"
        return ToolOutput("\n".join(shown), display=count)


def split_pattern(path: str, pattern: str) -> tuple[str, str]:
    """(folder to walk, pattern for ripgrep): leading folders without wildcards join the path.

    A pattern with a slash is anchored in the folder; one without is matched at any depth.
    """
    *folders, last = re.sub(r"^(\./)+", "", pattern).split("/")
    if not folders:
        return path, last
    fixed = 0
    while fixed < len(folders) and not _WILD.search(folders[fixed]):
        fixed += 1
    base = "/".join(folders[:fixed])
    if fixed and not base:
        base = "/"
    rest = "/".join([*folders[fixed:], last or "**"])
    # An absolute pattern, or one from the home folder, does not start in ``path``.
    return base if base.startswith(("/", "~")) else os.path.join(path, base), f"/{rest}"
