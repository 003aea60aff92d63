"""The command that shows what was changed in the work tree."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.frontends.plain import counted
from kimi_cli.frontends.terminal.commands.command import Command, CommandError
from kimi_cli.frontends.terminal.commands.support import (
    LOOKING,
    is_kept,
    need_opened,
    noted,
    project_of,
    shown_path,
    stored_events,
    words,
)
from kimi_cli.protocol.event import Event

if TYPE_CHECKING:
    from rich.text import Text

    from kimi_cli.frontends.terminal.controller import Controller
    from kimi_cli.frontends.terminal.look import Look
    from kimi_cli.workspace.diffs import Diff

HEAD = "head"
FILE_LINES = 20
ALL_LINES = 120
"""Lines of diff that are shown, of a file and in all; ctrl-o shows the rest."""
GIT_SECONDS = 30.0
GIT_BYTES = 8 * 2**20
UNTRACKED = 200
UNTRACKED_BYTES = 2**20
# Nothing of the repository's own configuration may decide how this looks.
GIT_DIFF = (
    *("-c", "core.fsmonitor=false", "-c", "core.quotepath=false"),
    *("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--no-renames"),
    *("--src-prefix=a/", "--dst-prefix=b/", "HEAD", "--"),
)
GIT_UNTRACKED = ("-c", "core.fsmonitor=false", "ls-files", "-z", "--others", "--exclude-standard")


@dataclass(frozen=True, slots=True)
class FileDiff:
    """What changed in one file."""

    name: str
    diff: Diff


async def show_diff(controller: Controller, argument: str) -> None:
    if argument.lower() in (HEAD, "git"):
        with noted(controller, LOOKING):
            files = await _since_head(controller)
        since = "git's HEAD"
    elif argument:
        raise CommandError(f"/diff compares with the session's beginning, /diff {HEAD} with git")
    else:
        with noted(controller, LOOKING):
            files = await _since_first_change(controller)
        since = "this session's first change"
    if not files:
        controller.say(f"nothing differs from {since}")
        return
    desk = controller.desk
    lines, cut = diff_lines(files, since, desk.ink.look, controller.width)
    if cut:
        text = "".join(file.diff.text for file in files)
        desk.scribe.folds.add("diff", f"what differs from {since}", text)
    controller.print(lines)


async def _since_first_change(controller: Controller) -> list[FileDiff]:
    from kimi_cli.agent.checkpoints import limits_of

    opened, home = need_opened(controller), controller.setup.home
    other = f"/diff {HEAD} compares with git's HEAD"
    if not is_kept(controller) or not opened.settings.undo.enabled:
        raise CommandError(f"there are no snapshots of this session; {other}")
    base = first_snapshot(await stored_events(controller))
    if base is None:
        raise CommandError(f"this session has changed no file; {other}")
    limits = limits_of(opened.settings.undo)
    folders = opened.session.workspace.folders

    def work() -> list[FileDiff]:
        from kimi_cli.workspace.snapshots import SnapshotError, Snapshots

        try:
            snapshots = Snapshots(home, folders, limits)
            changes = snapshots.changes(base)
            diffs = snapshots.diffs(changes)
        except SnapshotError as error:
            raise CommandError(f"{error}; {other}") from None
        names = [shown_path(change.path, folders[0]) for change in changes]
        return [FileDiff(name, diff) for name, diff in zip(names, diffs, strict=True)]

    return await asyncio.to_thread(work)


def first_snapshot(events: Sequence[Event]) -> str | None:
    """The state of the files before the session changed any; None where it changed none."""
    from kimi_cli.agent.undo import history

    mark = history(events).mark
    return [*mark.way()][-1].snapshot if mark else None


async def _since_head(controller: Controller) -> list[FileDiff]:
    root = project_of(controller)
    text = await _git(controller, GIT_DIFF, root)
    others = (await _git(controller, GIT_UNTRACKED, root)).split("\0")
    return parse_git(text) + await asyncio.to_thread(_untracked, others, root)


async def _git(controller: Controller, args: Sequence[str], root: Path) -> str:
    from kimi_cli.workspace.programs import find_trusted

    workspace = controller.need_session().workspace
    git = await asyncio.to_thread(find_trusted, "git", workspace.folders)
    if git is None:
        raise CommandError("there is no git here")
    try:
        status, out, err = await workspace.processes.run(
            [git, *args], cwd=root, timeout=GIT_SECONDS, limit=GIT_BYTES
        )
    except TimeoutError as error:
        raise CommandError(str(error)) from None
    if status:
        why = err.decode("utf-8", "replace").strip().splitlines()
        raise CommandError(f"git: {words(why[0])}" if why else f"git ended with {status}")
    return out.decode("utf-8", "replace")


def parse_git(text: str) -> list[FileDiff]:
    """The files of git's unified diff."""
    from kimi_cli.workspace.diffs import Diff

    files = []
    for part in text.split("\ndiff --git ") if text else []:
        lines = part.removeprefix("diff --git ").split("\n")
        at = next((n for n, line in enumerate(lines) if line.startswith("@@ ")), len(lines))
        heads, body = lines[:at], lines[at:]
        added = sum(line.startswith("+") for line in body)
        removed = sum(line.startswith("-") for line in body)
        shown = "\n".join([line for line in heads if line.startswith(("---", "+++"))] + body)
        files.append(FileDiff(_name(heads), Diff(f"{shown.rstrip()}\n", added, removed)))
    return files


def _name(heads: Sequence[str]) -> str:
    """Of a file that is there the new name, else the old one."""
    for sign in ("+++ b/", "--- a/"):
        for line in heads:
            if line.startswith(sign):
                # A name with a blank has a tab behind it there.
                return line.removeprefix(sign).rstrip("\t")
    return heads[0].rpartition(" b/")[2]


def _untracked(names: Sequence[str], root: Path) -> list[FileDiff]:
    from kimi_cli.workspace.diffs import Diff, compare

    files = []
    for name in [name for name in names if name][:UNTRACKED]:
        path = root / name
        try:
            # What it may be beside a plain file (a device, a FIFO) could block.
            if path.is_symlink() or not path.is_file() or path.stat().st_size > UNTRACKED_BYTES:
                diff = Diff("", 0, 0)
            else:
                diff = compare(None, path.read_bytes(), name)
        except OSError:
            continue
        files.append(FileDiff(name, diff))
    return files


def diff_lines(
    files: Sequence[FileDiff], since: str, look: Look, width: int
) -> tuple[list[str], bool]:
    """The files with their diffs as lines of ANSI, and whether any of it was left out."""
    from rich.text import Text

    from kimi_cli.frontends.terminal.paint import Painter

    painter = Painter(look)
    added = sum(file.diff.added for file in files)
    removed = sum(file.diff.removed for file in files)
    head = f"  {counted(len(files), 'file')} +{added} −{removed} since {since}"
    texts = [Text(head)]
    shown, cut = 0, False
    for file in files:
        texts.append(Text(f"  {words(file.name)}", "bold").append(f"  {_counts(file)}", "not bold"))
        lines = list(_body(file, look))
        most = max(min(FILE_LINES, ALL_LINES - shown), 0)
        more = len(lines) - most if len(lines) > most + 1 else 0
        part = lines[:most] if more else lines
        shown += len(part)
        texts += [Text("    ").append_text(line) for line in part]
        if more:
            cut = True
            left = f"    {look.ellipsis} {counted(more, 'more line')}"
            texts.append(Text(f"{left} {look.dot} ctrl-o shows all", "dim"))
    return [painter.line(text, width) for text in texts], cut


def _counts(file: FileDiff) -> str:
    if file.diff.added or file.diff.removed:
        return f"+{file.diff.added} −{file.diff.removed}"
    return "" if "@@" in file.diff.text else "changed"


def _body(file: FileDiff, look: Look) -> Iterator[Text]:
    from kimi_cli.frontends.terminal.diff_lines import diff_texts, parse_diff

    yield from diff_texts(parse_diff(file.diff.text), look)


COMMANDS = (
    Command(
        "diff",
        "what this session changed, or what differs from git's HEAD",
        show_diff,
        f"[{HEAD}]",
        while_busy=True,
        complete=lambda controller, typed: [(HEAD, "what differs from the last commit")],
    ),
)
