"""`kimi demo`: a live run in which only the model's replies are recorded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from kimi_cli.agent import Session, StopReason
from kimi_cli.frontends.transcript import Transcript
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import ToolResult
from kimi_cli.workspace.programs import find_trusted

HERE = Path(__file__).resolve().parent.parent / "demo"
RECORDING = HERE / "session.jsonl"
SETTINGS = {
    "user.name": "kimi demo",
    "user.email": "demo@localhost",
    # The user's own signing and hooks have no business in a throw-away repository.
    "commit.gpgsign": "false",
    "core.hooksPath": os.devnull,
}

INTRO = """kimi demo · a small project with a failing test, in {root}
The model's replies are recorded: no model is called, nothing leaves this machine.
Everything else is real: the loop, the tools, the edit, the tests run by the shell.
"""
OUTRO = """
The replies were recorded; the red and the green test run were real.
Go on with a real model:
  export KIMI_API_KEY=sk-...      a key of platform.moonshot.ai
  cd your/project
  kimi -p "why does the test fail?"
Or with your own server: kimi --base-url http://127.0.0.1:8000/v1 -m MODEL -p "..."
"""


@dataclass(slots=True)
class Witness:
    """Notes the exit codes of the commands that were run."""

    codes: list[int | None] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        if isinstance(event, ToolResult) and event.name == "shell":
            self.codes.append(event.data.get("exit_code"))

    @property
    def red_then_green(self) -> bool:
        return len(self.codes) >= 2 and self.codes[0] not in (0, None) and self.codes[-1] == 0


def make_project(folder: Path) -> Path:
    """Copy the demo project to ``folder`` and commit it there; returns its root.

    Raises OSError, PermissionError for a git that a command could have planted, and what git said.
    """
    root = folder / "project"
    shutil.copytree(HERE / "project", root, ignore=shutil.ignore_patterns("__pycache__"))
    _git(root, "init", "--quiet", "--initial-branch=main")
    for key, value in SETTINGS.items():
        _git(root, "config", key, value)
    (root / ".gitignore").write_text("__pycache__/\n")
    _git(root, "add", "--all")
    _git(root, "commit", "--quiet", "--message=A cart that counts coupons twice")
    return root


def environment(folder: Path) -> dict[str, str]:
    """The environment of the demo: ``python`` is the interpreter that runs us, whatever is on
    PATH, and the user's own settings have no part in it. Makes a small wrapper below ``folder``."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    wrapper = bin_folder / "python"
    wrapper.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    wrapper.chmod(0o755)
    path = os.environ.get("PATH", os.defpath)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KIMI_")}
    home = str(folder / "home")
    return {**kept, "PATH": f"{bin_folder}{os.pathsep}{path}", "KIMI_HOME": home}


async def show(session: Session, prompt: str, root: Path, console: Console) -> int:
    """Run the recorded turn and judge it by the project's own tests; returns the exit code."""
    witness = Witness()
    session.subscribe(Transcript(console))
    session.subscribe(witness)
    console.print(INTRO.format(root=root), highlight=False)
    try:
        ended = await session.run_turn(prompt)
    finally:
        await session.close()
    green = tests_pass(root)
    console.print("\nThe change:", highlight=False)
    Transcript(console).diff(changes(root))
    if ended.reason is StopReason.DONE and witness.red_then_green and green:
        console.print(OUTRO, highlight=False)
        return 0
    console.print(
        f"\nThe demo failed: turn {ended.reason.value} {ended.detail}, commands ended with "
        f"{witness.codes}, the tests {'pass' if green else 'fail'} now.",
        style="red", highlight=False, soft_wrap=True,
    )  # fmt: skip
    return 1


def tests_pass(root: Path) -> bool:
    """Whether the project's tests pass, asked of them directly."""
    command: Sequence[str] = [sys.executable, "-m", "unittest", "-q"]
    return subprocess.run(command, cwd=root, capture_output=True, timeout=60).returncode == 0


def changes(root: Path) -> str:
    """What the run changed, as git sees it."""
    return _git(root, "diff", "--no-ext-diff", "--no-color")


def _git(root: Path, *arguments: str) -> str:
    program = find_trusted("git", [root, *_current_project()])
    if program is None:
        raise FileNotFoundError("there is no git")
    # A hook that runs us tells git where to work.
    env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    done = subprocess.run([program, *arguments], cwd=root, env=env, capture_output=True)
    if done.returncode != 0:
        raise OSError(f"git {arguments[0]}: {os.fsdecode(done.stderr)}")
    return os.fsdecode(done.stdout)


def _current_project() -> list[Path]:
    """The folder we were started in, where commands of other sessions may have worked."""
    try:
        here = Path.cwd()
    except FileNotFoundError:
        return []
    # In the home folder, and around it, there are the user's own programs too.
    return [] if Path(os.path.expanduser("~")).is_relative_to(here) else [here]
