"""Search the contents of files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import Field

from kimi_cli.prompts import load
from kimi_cli.protocol.tools import Intent, ToolContext, ToolOutput
from kimi_cli.protocol.workspace import Workspace
from kimi_cli.tools.globs import options, split_pattern
from kimi_cli.tools.paths import Argument, PathParams, locate
from kimi_cli.tools.ripgrep import WITHOUT_SECRETS, Ripgrep
from kimi_cli.tools.wording import counted

TEXT_LIMIT = 28_000
LINE_WIDTH = 300
# Output up to which a search runs on all cores and is sorted afterwards.
UNSORTED_LIMIT = 4 * 2**20

_LINE = re.compile(r"(\d+)([:-])(.*)", re.DOTALL)


class GrepParams(PathParams):
    pattern: Argument
    path: Argument = Field(".", description="File or folder")
    glob: str = Field("", description="Only files such as *.py or !*.min.js")
    ignore_case: bool = False
    context: int = Field(0, ge=0, le=20, description="Lines around each match")
    files_only: bool = False
    limit: int = Field(200, ge=1, description="Matches shown")


class Hits(NamedTuple):
    """What was found in one file: lines ready to show, and which of them are matches."""

    path: str
    lines: list[str]
    matches: list[bool]


class GrepTool:
    name = "grep"
    params = GrepParams
    read_only = True

    def __init__(self) -> None:
        self._ripgrep = Ripgrep()

    @property
    def description(self) -> str:
        return load("tools/grep")

    def intents(self, params: GrepParams, workspace: Workspace) -> Sequence[Intent]:
        path = workspace.files.resolve(_scope(params)[0])
        return [params.intent("read", workspace.files, path)]

    def summary(self, params: GrepParams) -> str:
        where = "" if params.path == "." else f" in {params.path}"
        return f"{params.pattern}{where}{f' ({params.glob})' if params.glob else ''}"

    async def run(self, params: GrepParams, context: ToolContext) -> ToolOutput:
        workspace = context.workspace
        start, filters = _scope(params)
        path, real = locate(params, workspace.files, start)
        folder, place, target = path, real, "./"
        if not real.is_dir():
            folder, place, target = path.parent, real.parent, f"./{real.name}"
        arguments = [*_arguments(params), *filters, *WITHOUT_SECRETS, "--", target]
        output, more = await self._ripgrep.run(arguments, workspace, place, UNSORTED_LIMIT)
        if more:
            # Too much to sort: search again in order, and stop early.
            sorted_first = ["--sort=path", *arguments]
            output, more = await self._ripgrep.run(sorted_first, workspace, place, UNSORTED_LIMIT)
        if params.files_only:
            return _files(output, more, folder, params, workspace)
        return _matches(output, more, folder, params, workspace)


def _scope(params: GrepParams) -> tuple[str, list[str]]:
    """Where to search, and the options that choose the files there."""
    if not params.glob or params.glob.startswith("!"):
        return params.path, [f"--glob={params.glob}"] if params.glob else []
    folder, rest = split_pattern(params.path, params.glob)
    return folder, options(rest)


def _arguments(params: GrepParams) -> Iterator[str]:
    yield "--null"
    if params.files_only:
        yield "--files-with-matches"
    else:
        yield from ("--no-heading", "--with-filename", "--line-number")
        yield from (f"--max-columns={LINE_WIDTH}", "--max-columns-preview")
        yield f"--context={params.context}"
    if params.ignore_case:
        yield "--ignore-case"
    # Without it ripgrep refuses a pattern with a line break in it.
    if "\n" in params.pattern or r"\n" in params.pattern:
        yield "--multiline"
    yield f"--regexp={params.pattern}"


def _files(
    output: bytes, more: bool, folder: Path, params: GrepParams, workspace: Workspace
) -> ToolOutput:
    names = output.split(b"\0")[:-1]
    shown = sorted(_show(name, folder, workspace) for name in names)
    listed, room = [], TEXT_LIMIT
    for name in shown[: params.limit]:
        room -= len(name.encode()) + 1
        if room < 0:
            break
        listed.append(name)
    count = f"{'more than ' * more}{counted(len(shown), 'file')}"
    return ToolOutput(_bounded(listed, len(shown) - len(listed), "files", more), display=count)


def _matches(
    output: bytes, more: bool, folder: Path, params: GrepParams, workspace: Workspace
) -> ToolOutput:
    hits = sorted(_parse(output, folder, workspace), key=lambda h: h.path)
    if not hits and b"binary file matches" in output:
        return ToolOutput("The file is binary, and matches.", display="binary")
    total = sum(sum(hit.matches) for hit in hits)
    listed: list[str] = []
    room, shown = TEXT_LIMIT, 0
    for hit in hits:
        if shown >= params.limit or room <= len(hit.path) + LINE_WIDTH:
            break
        listed.append(("\n" if listed else "") + hit.path)
        room -= len(hit.path.encode()) + 2
        for line, is_match in zip(hit.lines, hit.matches, strict=True):
            room -= len(line.encode()) + 1
            if room < 0 or (is_match and shown >= params.limit):
                room = min(room, 0)
                break
            listed.append(line)
            shown += is_match
    count = f"{'more than ' * more}{counted(total, 'match')}"
    display = f"{count} in {counted(len(hits), 'file')}" if total else "no match"
    return ToolOutput(_bounded(listed, total - shown, "matches", more), display=display)


def _bounded(listed: Sequence[str], rest: int, what: str, more: bool) -> str:
    if not listed:
        return "No match."
    if not rest and not more:
        return "\n".join(listed)
    least = "at least " if more else ""
    return "\n".join([*listed, f"[{least}{rest} more {what}: narrow the search]"])


def _parse(output: bytes, folder: Path, workspace: Workspace) -> Iterator[Hits]:
    """Lines of ``path NUL number : text`` gathered by file; a line cut by the limit is dropped."""
    files: dict[bytes, Hits] = {}
    rows = output.split(b"\n")
    for row in rows[:-1]:
        name, found, rest = row.partition(b"\0")
        if not found:
            continue
        parsed = _LINE.fullmatch(rest.decode("utf-8", "replace").rstrip("\r"))
        if not parsed:
            continue
        hit = files.setdefault(name, Hits(_show(name, folder, workspace), [], []))
        number, sign, text = parsed.groups()
        hit.lines.append(f"{number}{sign}{text}")
        hit.matches.append(sign == ":")
    yield from files.values()


def _show(name: bytes, folder: Path, workspace: Workspace) -> str:
    return workspace.files.show(folder / os.fsdecode(name.removeprefix(b"./")))
