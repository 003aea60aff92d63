"""``kimi replay``: finds the recording, and shows it or has it checked."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from kimi_cli.agent.replay.recording import Recording

DEFAULT_SPEED = 4.0


def replay_session(
    session: str, speed: float | None, *, check: bool, project: Path | None, keep: bool
) -> int:
    """Show the session that ``session`` names, or run it again; returns the exit code.

    ``speed`` None: four times as fast as it was on a terminal, at once into a pipe. A check ends
    with 0 when every call gave the recorded result, 1 when one did not, 2 when it can't be made.
    """
    from kimi_cli.agent.replay.recording import open_recording
    from kimi_cli.frontends.replay import PipeConsole, show
    from kimi_cli.settings import kimi_home
    from kimi_cli.store.errors import SessionError, StoreError
    from kimi_cli.workspace.roots import project_root

    if problem := _misused(speed, check, project, keep):
        return _fail(problem)
    console = PipeConsole(highlight=False, emoji=False)
    try:
        here = project_root(Path.cwd())
        recording = open_recording(kimi_home(os.environ), session, here)
        if recording.skipped:
            lines = f"{recording.skipped} line{'s' * (recording.skipped != 1)}"
            print(f"kimi: {lines} of {recording.path} can't be read", file=sys.stderr)
        if check:
            return _check(recording, project or here, keep, console)
    except FileNotFoundError:
        return _fail("the working directory no longer exists")
    except (SessionError, StoreError) as error:
        return _fail(str(error))
    if speed is None:
        speed = DEFAULT_SPEED if console.is_terminal else 0.0
    show(recording, console, speed if math.isfinite(speed) else 0.0)
    return 0


def _misused(speed: float | None, check: bool, project: Path | None, keep: bool) -> str:
    if check and speed is not None:
        return "--speed is for showing a session, --check runs as fast as it can"
    if not check and (project is not None or keep):
        return f"{'--project' if project is not None else '--keep'} goes with --check"
    return ""


def _check(recording: Recording, project: Path, keep: bool, console: Console) -> int:
    from kimi_cli.agent import SetupError
    from kimi_cli.agent.replay.check import check, plan
    from kimi_cli.agent.replay.scratch import ScratchError, scratch_copy
    from kimi_cli.cli.event_loop import run as run_loop
    from kimi_cli.frontends.replay import Report
    from kimi_cli.settings import SettingsError

    if not project.is_dir():
        return _fail(f"{project} is not a folder")
    report = Report(console)
    recorded = plan(recording)
    try:
        with scratch_copy(project, recorded.name, keep=keep) as scratch:
            work = check(recorded, scratch, scratch.environment(os.environ), report.call)
            outcome = run_loop(work)
    except (ScratchError, SetupError, SettingsError) as error:
        return _fail(str(error))
    report.end(outcome)
    if keep:
        print(f"kept: {scratch.root}", file=sys.stderr)
    return 0 if outcome.as_recorded else 1


def _fail(text: str) -> int:
    print(f"kimi: {text}", file=sys.stderr)
    return 2
