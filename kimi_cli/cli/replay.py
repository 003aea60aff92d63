"""``kimi replay``: finds the recording, and shows it or has it checked."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.cli.output import json_line

if TYPE_CHECKING:
    from rich.console import Console

    from kimi_cli.agent.replay.recording import Recording

DEFAULT_SPEED = 4.0


@dataclass(frozen=True, slots=True)
class Checking:
    """The flags that go with a check."""

    project: Path | None = None
    keep: bool = False
    verbose: bool = False
    as_json: bool = False

    @property
    def given(self) -> str:
        """One that was given; "" when none was."""
        flags = {
            "--project": self.project is not None,
            "--keep": self.keep,
            "--verbose": self.verbose,
            "--json": self.as_json,
        }
        return next((flag for flag, given in flags.items() if given), "")


def replay_session(session: str, speed: float | None, check: bool, checking: Checking) -> int:
    """Show the session that ``session`` names, or run it again; returns the exit code.

    ``speed`` None: four times as fast as it was on a terminal, at once into a pipe. A check ends
    with 0 when every call gave the recorded result, 1 when one did not, 2 when it can't be made.
    """
    from kimi_cli.agent.replay.recording import open_recording
    from kimi_cli.frontends.replay import PipeConsole, show
    from kimi_cli.settings import kimi_home
    from kimi_cli.store.errors import SessionError, StoreError
    from kimi_cli.workspace.roots import project_root

    if problem := _misused(speed, check, checking):
        return _fail(problem)
    console = PipeConsole(highlight=False, emoji=False)
    try:
        here = project_root(Path.cwd())
        recording = open_recording(kimi_home(os.environ), session, here)
        if recording.skipped:
            lines = f"{recording.skipped} line{'s' * (recording.skipped != 1)}"
            print(f"kimi: {lines} of {recording.path} can't be read", file=sys.stderr)
        if check:
            return _check(recording, checking.project or here, checking, console)
    except FileNotFoundError:
        return _fail("the working directory no longer exists")
    except (SessionError, StoreError) as error:
        return _fail(str(error))
    if speed is None:
        speed = DEFAULT_SPEED if console.is_terminal else 0.0
    show(recording, console, speed if math.isfinite(speed) else 0.0)
    return 0


def _misused(speed: float | None, check: bool, checking: Checking) -> str:
    if check and speed is not None:
        return "--speed is for showing a session, --check runs as fast as it can"
    return f"{checking.given} goes with --check" if checking.given and not check else ""


def _check(recording: Recording, project: Path, checking: Checking, console: Console) -> int:
    from kimi_cli.agent import SetupError
    from kimi_cli.agent.replay.check import Checked, check, plan
    from kimi_cli.agent.replay.scratch import ScratchError, scratch_copy
    from kimi_cli.cli.event_loop import run as run_loop
    from kimi_cli.frontends.replay import Report, outcome_fields
    from kimi_cli.settings import SettingsError

    if not project.is_dir():
        return _fail(f"{project} is not a folder")
    report = Report(console, every=checking.verbose)

    def tell(checked: Checked) -> None:
        if not checking.as_json:
            report.call(checked)

    recorded = plan(recording)
    try:
        with scratch_copy(project, recorded.name, keep=checking.keep) as scratch:
            work = check(recorded, scratch, scratch.environment(os.environ), tell)
            outcome = run_loop(work)
    except (ScratchError, SetupError, SettingsError) as error:
        return _fail(str(error))
    if checking.as_json:
        print(json_line({"session_id": recorded.begun.session, **outcome_fields(outcome)}))
    else:
        report.end(outcome)
    if checking.keep:
        print(f"kept: {scratch.root}", file=sys.stderr)
    return 0 if outcome.as_recorded else 1


def _fail(text: str) -> int:
    print(f"kimi: {text}", file=sys.stderr)
    return 2
