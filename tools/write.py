"""Create a file, or give one a wholly new content."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from pydantic import Field

from kimi_cli.prompts import load
from kimi_cli.protocol.tools import Intent, ToolContext, ToolError, ToolOutput
from kimi_cli.protocol.workspace import Files, StaleFile, Workspace
from kimi_cli.tools import text_bytes
from kimi_cli.tools.paths import FilePath, FileText, PathParams, explain
from kimi_cli.tools.wording import counted


class WriteParams(PathParams):
    path: FilePath
    content: FileText = Field(description="The whole new content")


class WriteTool:
    name = "write"
    params = WriteParams
    read_only = False

    @property
    def description(self) -> str:
        return load("tools/write")

    def intents(self, params: WriteParams, workspace: Workspace) -> Sequence[Intent]:
        files = workspace.files
        return [params.intent("write", files, files.resolve(params.path))]

    def summary(self, params: WriteParams) -> str:
        return params.path

    def preview(self, params: WriteParams, workspace: Workspace) -> str:
        files = workspace.files
        path = files.resolve(params.path)
        former = _former(files, path, params.settled(files, path))
        return files.diff(path, former, _encode(params.content, former, files.show(path)))

    async def run(self, params: WriteParams, context: ToolContext) -> ToolOutput:
        return await asyncio.to_thread(_write, params, context.workspace.files)


def _write(params: WriteParams, files: Files) -> ToolOutput:
    path = files.resolve(params.path)
    shown = files.show(path)
    if params.path.endswith("/"):
        raise ToolError(f"{params.path} names a folder: add the file's name.")
    real = params.settled(files, path)
    try:
        former = _former(files, path, real)
        content = _encode(params.content, former, shown)
        if content == former:
            return ToolOutput(f"{shown} already has exactly this content.", display="unchanged")
        touch = files.replace(path, content, expected=former, real=real)
    except StaleFile:
        raise ToolError(
            f"{shown} changed since you last saw it, nothing was written. Read it again first."
        ) from None
    except OSError as error:
        raise explain(error, files, path, real) from None
    count = params.content.count("\n") + (not params.content.endswith("\n"))
    lines = counted(count if params.content else 0, "line")
    note = f" ({touch.note})" if touch.note else ""
    if former is None:
        return ToolOutput(f"created {shown}, {lines}{note}", display=f"new, {lines}", files=[touch])
    change = f"+{touch.added} -{touch.removed}"
    return ToolOutput(f"rewrote {shown}, {lines} ({change}){note}", display=change, files=[touch])


def _former(files: Files, path: Path, real: Path) -> bytes | None:
    """The content the model knows and wants replaced; None when there is no file."""
    try:
        former = files.read(path, real=real)
    except FileNotFoundError:
        return None
    shown = files.show(path)
    kind = text_bytes.binary_kind(former[:8192])
    if kind and former:
        raise ToolError(f"{shown} holds {kind}: remove it first if text is to stand there.")
    if former and not files.seen(real):
        raise ToolError(f"{shown} exists already: read it before you replace it, or use edit.")
    files.check_fresh(real, former)
    return former


def _encode(content: str, former: bytes | None, shown: str) -> bytes:
    """Bytes in the encoding and with the line ends of the file that is replaced."""
    old = text_bytes.decode(former or b"")
    text = text_bytes.with_newlines(content, text_bytes.dominant_newline(old.text))
    try:
        return text_bytes.encode(text_bytes.Text(old.encoding, text))
    except text_bytes.Unencodable as error:
        raise ToolError(
            f"{shown} is {old.encoding.name}, and {error}. Nothing was written: leave the "
            "character out, or convert the file to UTF-8 first (iconv)."
        ) from None
