"""Replace pieces of a file's text, all of them or none."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pydantic import Field

from kimi_cli.prompts import load
from kimi_cli.protocol.tools import Intent, Params, ToolContext, ToolError, ToolOutput
from kimi_cli.protocol.workspace import Files, StaleFile, Workspace
from kimi_cli.tools import matching, nearest, text_bytes
from kimi_cli.tools.paths import FilePath, FileText, PathParams, explain
from kimi_cli.tools.splice import Document

EXCERPT_LINES = 40
EXCERPT_CHARS = 2_000


class Edit(Params):
    old: FileText = Field(description="Text to replace, unique in the file")
    new: FileText = Field(description="What stands there afterwards")
    all: bool = Field(False, description="Replace every occurrence")


class EditParams(PathParams):
    path: FilePath
    edits: list[Edit] = Field(min_length=1)


class EditTool:
    name = "edit"
    params = EditParams
    read_only = False

    @property
    def description(self) -> str:
        return load("tools/edit")

    def intents(self, params: EditParams, workspace: Workspace) -> Sequence[Intent]:
        files = workspace.files
        path = files.resolve(params.path)
        # Its answers show pieces of the file.
        return [params.intent("read", files, path), params.intent("write", files, path)]

    def summary(self, params: EditParams) -> str:
        count = len(params.edits)
        return params.path if count == 1 else f"{params.path}, {count} edits"

    def preview(self, params: EditParams, workspace: Workspace) -> str:
        files = workspace.files
        path = files.resolve(params.path)
        content = files.read(path, real=params.settled(files, path))
        changed, _ = apply(content, params.edits, files.show(path))
        return files.diff(path, content, changed)

    async def run(self, params: EditParams, context: ToolContext) -> ToolOutput:
        return await asyncio.to_thread(_edit, params, context.workspace.files)


def _edit(params: EditParams, files: Files) -> ToolOutput:
    path = files.resolve(params.path)
    shown = files.show(path)
    real = params.settled(files, path)
    try:
        content = files.read(path, real=real)
        files.check_fresh(real, content)
        changed, remarks = apply(content, params.edits, shown)
        touch = files.replace(path, changed, expected=content, real=real)
    except StaleFile:
        raise ToolError(
            f"{shown} changed since you last saw it, nothing was edited. Read it again first."
        ) from None
    except OSError as error:
        raise explain(error, files, path, real) from None
    change = f"+{touch.added} -{touch.removed}"
    remarks = [*remarks, touch.note] if touch.note else remarks
    head = "; ".join([f"edited {shown} ({change})", *remarks])
    return ToolOutput(f"{head}\n{excerpt(touch.diff)}", display=change, files=[touch])


def apply(content: bytes, edits: Sequence[Edit], shown: str) -> tuple[bytes, list[str]]:
    """The content after all edits, each on the result of the one before, and what the model
    should hear of how they matched. Raises ToolError when one of them can't be made."""
    kind = text_bytes.binary_kind(content[:8192])
    if kind and content:
        raise ToolError(f"{shown} is not text but {kind}: use the shell.")
    text = text_bytes.decode(content)
    raw, remarks = text.text, []
    for number, edit in enumerate(edits, 1):
        label = f"edit {number} of {len(edits)}: " if len(edits) > 1 else ""
        try:
            raw, how = _apply_one(raw, edit, shown)
        except ToolError as error:
            nothing = " Nothing was changed." if label else ""
            raise ToolError(f"{label}{error}{nothing}") from None
        if how:
            remarks.append(f"{label}matched ignoring {how}")
    try:
        changed = text_bytes.encode(text_bytes.Text(text.encoding, raw, text.tail))
    except text_bytes.Unencodable as error:
        raise ToolError(
            f"{shown} is {text.encoding.name}, and {error}. Nothing was changed: leave the "
            "character out, or convert the file to UTF-8 first (iconv)."
        ) from None
    if changed == content:
        raise ToolError(f"{shown} would stay as it is: the edits change nothing.")
    return changed, remarks


def _apply_one(raw: str, edit: Edit, shown: str) -> tuple[str, str]:
    old, new = edit.old.replace("\r\n", "\n"), edit.new.replace("\r\n", "\n")
    if not old:
        raise ToolError("old is empty: give the text to replace, or use write for a new file.")
    if edit.old == edit.new:
        raise ToolError("old and new are the same.")
    if old == new:
        raise ToolError("old and new differ in line ends only, and edit keeps the file's own.")
    document = Document(raw)
    found = matching.search(document.plain, old, new)
    if not found:
        raise ToolError(_not_found(document.plain, old, new, shown))
    if edit.all and not found[0].how:
        return document.replace(matching.every(document.plain, old, new)), ""
    if len(found) > 1:
        raise ToolError(_ambiguous(document.plain, old, found, shown))
    return document.replace(found), found[0].how


def _ambiguous(plain: str, old: str, found: Sequence[matching.Found], shown: str) -> str:
    more = len(found) == matching.MANY
    count = f"{max(plain.count(old), len(found))}{' or more' if more else ''}"
    how = f", ignoring {found[0].how}" if found[0].how else ""
    advice = "Add lines around it until it is unique"
    advice += "." if how else ", or set all."
    where = nearest.places(plain, [place.start for place in found[:5]], old)
    return f"old stands in {count} places of {shown}{how}. {advice}\n{where}\n"


def _not_found(plain: str, old: str, new: str, shown: str) -> str:
    if len(new.strip()) >= 4 and new in plain:
        line = plain.count("\n", 0, plain.find(new)) + 1
        return f"old is not in {shown}, but new is, at line {line}: the edit looks already applied."
    near = nearest.nearest(plain, old)
    if not near:
        return f"old is not in {shown}, and nothing like it. Read the file again."
    lines = plain.split("\n")
    where = "\n--\n".join(nearest.show_lines(lines, first, last) for first, last in near)
    return f"old is not in {shown}. Nearest to it:\n{where}\n"


def excerpt(diff: str) -> str:
    """The hunks of a diff, bounded, for the model to see the outcome."""
    kept: list[str] = []
    room = EXCERPT_CHARS
    for line in diff.split("\n")[2:]:
        line = line if len(line) <= 200 else f"{line[:200]}…"
        room -= len(line) + 1
        if room < 0 or len(kept) == EXCERPT_LINES:
            kept.append("[…]")
            break
        kept.append(line)
    return "\n".join(kept).rstrip("\n")
