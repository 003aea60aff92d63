"""Show a window of a text file, or hand over an image or a video."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from pydantic import Field

from kimi_cli.prompts import load
from kimi_cli.protocol.messages import MediaPart
from kimi_cli.protocol.tools import Intent, ToolContext, ToolError, ToolOutput
from kimi_cli.protocol.workspace import WHOLE_LIMIT, Files, FileTouch, Workspace
from kimi_cli.tools import lines, text_bytes
from kimi_cli.tools.paths import FilePath, PathParams, explain
from kimi_cli.tools.wording import counted

TEXT_LIMIT = 32_000
LINE_WIDTH = 2_000
MEDIA_LIMIT = 10 * 2**20
SCAN_LIMIT = 2 * 2**30
LISTING_LIMIT = 100


class ReadParams(PathParams):
    path: FilePath
    offset: int = Field(1, description="First line; negative counts from the end")
    limit: int = Field(2000, ge=1, description="Number of lines")


class ReadTool:
    name = "read"
    params = ReadParams
    read_only = True

    @property
    def description(self) -> str:
        return load("tools/read")

    def intents(self, params: ReadParams, workspace: Workspace) -> Sequence[Intent]:
        files = workspace.files
        return [params.intent("read", files, files.resolve(params.path))]

    def summary(self, params: ReadParams) -> str:
        return params.path if params.offset == 1 else f"{params.path} from line {params.offset}"

    async def run(self, params: ReadParams, context: ToolContext) -> ToolOutput:
        return await asyncio.to_thread(_read, params, context)


def _read(params: ReadParams, context: ToolContext) -> ToolOutput:
    files = context.workspace.files
    path = files.resolve(params.path)
    real = params.settled(files, path)
    try:
        with files.open(path, real=real) as file:
            return _read_open(params, context, path, file)
    except IsADirectoryError:
        raise ToolError(_listing(files, path, real)) from None
    except OSError as error:
        raise explain(error, files, path, real) from None


def _read_open(params: ReadParams, context: ToolContext, path: Path, file: BinaryIO) -> ToolOutput:
    files = context.workspace.files
    head = file.read(1 << 16) or b""
    size = os.fstat(file.fileno()).st_size
    media = text_bytes.media_type(head)
    if media:
        return _media(context, path, head, file, *media)
    kind = text_bytes.binary_kind(head)
    if kind:
        raise ToolError(f"{files.show(path)} is not text: {kind}, {size:,} bytes.")
    if size > WHOLE_LIMIT:
        # A file of millions of lines is never held: its beginning stands for its encoding.
        encoding = text_bytes.detect(head, whole=False)
        return _window(params, files, path, file, encoding, None)
    content = head + (file.read(WHOLE_LIMIT + 1) or b"")
    if len(content) > WHOLE_LIMIT:
        raise ToolError(f"{files.show(path)} is growing without end: use the shell.")
    encoding = text_bytes.decode(content).encoding
    return _window(params, files, path, io.BytesIO(content), encoding, content)


def _window(
    params: ReadParams,
    files: Files,
    path: Path,
    file: BinaryIO,
    encoding: text_bytes.Encoding,
    content: bytes | None,
) -> ToolOutput:
    shown = files.show(path)
    index = lines.index(file, encoding, SCAN_LIMIT)
    total = counted(index.total, "line")
    total = total if index.whole else f"more than {total}"
    if params.offset < 0 and not index.whole:
        raise ToolError(f"{shown} is too large to count its lines from the end: use tail.")
    first = max(params.offset + index.total + 1 if params.offset < 0 else params.offset, 1)
    if first > max(index.total, 1):
        raise ToolError(f"{shown} has {total}: there is no line {first}.")
    numbered: list[str] = []
    room, last = TEXT_LIMIT, first - 1
    for line in lines.window(file, encoding, index, first, params.limit, LINE_WIDTH):
        cut = f" [line cut: {line.left_out:,} more characters]" if line.left_out else ""
        text = f"{last + 1}\t{line.text}{cut}"
        room -= len(text.encode("utf-8", "replace")) + 1
        if room < 0 and numbered:
            break
        numbered.append(text)
        last += 1
    digest = files.saw(path, content)
    partial = first > 1 or last < index.total or not index.whole
    touch = FileTouch(path=str(path), action="read", digest=digest, partial=partial)
    facts = [] if encoding.codec == "utf-8" and not encoding.bom else [encoding.name]
    if b"\r\n" in (content or b"") and encoding.unit == 1:
        facts.append("CRLF")
    if not numbered:
        return ToolOutput(f"{shown} is empty.", display="empty", files=[touch])
    if partial:
        facts.insert(0, f"lines {first}-{last} of {total.removesuffix(' lines')}")
        if last < index.total:
            facts.append(f"go on with offset={last + 1}")
    else:
        facts.insert(0, total)
    return ToolOutput(
        "\n".join([*numbered, f"[{'; '.join(facts)}]"]),
        display=f"{len(numbered)} of {total}" if partial else total,
        files=[touch],
    )


def _media(
    context: ToolContext, path: Path, head: bytes, file: BinaryIO, kind: str, mime: str
) -> ToolOutput:
    files = context.workspace.files
    shown = files.show(path)
    if kind not in context.media_kinds:
        raise ToolError(f"{shown} is {mime}: the current model can't see {kind}s.")
    content = head + (file.read(MEDIA_LIMIT + 1) or b"")
    if len(content) > MEDIA_LIMIT:
        limit = MEDIA_LIMIT >> 20
        raise ToolError(f"{shown} is {mime}, larger than {limit} MiB: make a smaller copy first.")
    import base64

    url = f"data:{mime};base64,{base64.b64encode(content).decode('ascii')}"
    touch = FileTouch(path=str(path), action="read", digest=files.saw(path, content))
    part = MediaPart(kind="image" if kind == "image" else "video", url=url, name=shown)
    text = f"{shown}: {mime}, {len(content):,} bytes"
    return ToolOutput(text, media=[part], display=text, files=[touch])


def _listing(files: Files, path: Path, real: Path) -> str:
    try:
        names = files.listing(path, LISTING_LIMIT + 1, real=real)
    except OSError as error:
        return f"{files.show(path)} is a folder, and can't be listed: {error.strerror}."
    rest = "\n[…]" if len(names) > LISTING_LIMIT else ""
    inside = "\n".join(names[:LISTING_LIMIT]) if names else "(empty)"
    return f"{files.show(path)} is a folder. It holds:\n{inside}{rest}"
