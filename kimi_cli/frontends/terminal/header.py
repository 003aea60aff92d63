"""What stands at the top of a session: where it works, with what, and within which bounds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from kimi_cli.frontends.plain import clean
from kimi_cli.frontends.terminal.ink import Ink, Style, cells
from kimi_cli.protocol.sandbox import SandboxState
from kimi_cli.version import VERSION
from kimi_cli.workspace.git_layout import find_layout
from kimi_cli.workspace.roots import project_root

HELP = "Type a task. / commands · @ files · ! shell · ? keys"
_LONGEST_HEAD = 4096


def header(
    ink: Ink, width: int, *, model: str, cwd: Path, sandbox: SandboxState, env: Mapping[str, str]
) -> list[str]:
    """Two lines: the program, model, folder, branch and sandbox; and where help is."""
    dot = f" {ink.look.dot} "
    branch = branch_of(cwd)
    held = sandbox_words(sandbox)
    first = f"kimi {VERSION}"
    on = f" on {branch}" * bool(branch)
    # What holds for commands must be seen; of a long path its end says most.
    room = width - cells(f"{first}{dot}{clean(model)}{dot}{on}{dot}{held}")
    where = fit_end(clean(shown_path(cwd, env)), max(room, 12)) + on
    style: Style = "warn" if sandbox.mode == "off" or sandbox.degraded else "dim"
    pieces: list[tuple[str, Style]] = [
        (first, "bold"),
        (f"{dot}{clean(model)}{dot}{where}{dot}", "dim"),
        (held, style),
    ]
    return [ink.line(pieces, width), ink.line([(HELP.replace(" · ", dot), "dim")], width)]


def fit_end(text: str, width: int) -> str:
    """The end of the text, in ``width`` columns."""
    if cells(text) <= width:
        return text
    while text and cells(text) >= width:
        text = text[1:]
    return f"…{text}"


def sandbox_words(sandbox: SandboxState) -> str:
    """``sandboxed, network off``."""
    if sandbox.mode == "off":
        return "no sandbox"
    held = "read-only" if sandbox.mode == "read-only" else "sandboxed"
    degraded = ", degraded" if sandbox.degraded else ""
    return f"{held}{degraded}, network {'on' if sandbox.network else 'off'}"


def sandbox_mark(sandbox: SandboxState) -> str:
    """What the status line says of the sandbox: only what is not the default."""
    if sandbox.mode == "off":
        return "no sandbox"
    marks = ["read-only"] * (sandbox.mode == "read-only")
    marks += ["degraded sandbox"] * sandbox.degraded + ["network on"] * sandbox.network
    return ", ".join(marks)


def branch_of(cwd: Path) -> str:
    """The branch that is checked out, or the first letters of the commit; "" outside git. Read
    from files: no program is asked."""
    layout = find_layout(project_root(cwd))
    if layout is None:
        return ""
    try:
        with open(layout.git_dir / "HEAD", encoding="utf-8", errors="replace") as file:
            head = file.read(_LONGEST_HEAD).strip()
    except OSError:
        return ""
    if head.startswith("ref: "):
        return clean(head.removeprefix("ref: ").removeprefix("refs/heads/"))
    return clean(head[:8])


def shown_path(path: Path, env: Mapping[str, str]) -> str:
    """The path with ``~`` for the home folder."""
    home = env.get("HOME") or os.path.expanduser("~")
    text = str(path)
    return "~" + text[len(home) :] if text == home or text.startswith(home + "/") else text
