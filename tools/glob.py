"""Find files by name."""

from __future__ import annotations

import os
from collections.abc import Sequence

from pydantic import Field

from kimi_cli.prompts import load
from kimi_cli.protocol.tools import Intent, ToolContext, ToolOutput
from kimi_cli.protocol.workspace import Workspace
from kimi_cli.tools.globs import options, split_pattern
from kimi_cli.tools.paths import Argument, PathParams, locate
from kimi_cli.tools.ripgrep import Ripgrep
from kimi_cli.tools.wording import counted

SHOWN = 200
OUTPUT_LIMIT = 8 * 2**20


class GlobParams(PathParams):
    pattern: Argument = Field(description="Such as src/**/*.py")
    path: Argument = Field(".", description="Folder")


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
        return [params.intent("read", workspace.files, workspace.files.resolve(folder))]

    def summary(self, params: GlobParams) -> str:
        return params.pattern if params.path == "." else f"{params.pattern} in {params.path}"

    async def run(self, params: GlobParams, context: ToolContext) -> ToolOutput:
        workspace = context.workspace
        start, rest = split_pattern(params.path, params.pattern)
        folder, real = locate(params, workspace.files, start)
        if not real.is_dir():
            return ToolOutput(f"{workspace.files.show(folder)} is a file.", display="1 file")
        arguments = ["--files", "--null", "--sortr=modified", *options(rest), "--", "./"]
        output, more = await self._ripgrep.run(arguments, workspace, real, OUTPUT_LIMIT)
        names = output.split(b"\0")[:-1]
        if not names:
            return ToolOutput("No file matches.", display="no file")
        shown = [
            workspace.files.show(folder / os.fsdecode(name.removeprefix(b"./")))
            for name in names[:SHOWN]
        ]
        left = len(names) - len(shown)
        if left or more:
            shown.append(f"[{'at least ' * more}{left} more files, older]")
        count = f"{'more than ' * more}{counted(len(names), 'file')}"
        return ToolOutput("\n".join(shown), display=count)
