"""``kimi demo``: sets the stage, the front end plays."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

PACE_SECONDS = 0.02


def run_demo(*, keep: bool, pace: bool, recording: Path | None = None) -> int:
    """Run the demo in a temporary folder; returns the exit code, 0 only when the tests really
    turned from red to green. ``recording`` replaces the session that comes with the program."""
    from rich.console import Console

    from kimi_cli.agent import Setup, open_session
    from kimi_cli.cli.event_loop import run as run_loop
    from kimi_cli.frontends.demo import RECORDING, environment, make_project, show
    from kimi_cli.protocol.events import (
        UserMessage,
    )
    from kimi_cli.protocol.messages import TextPart
    from kimi_cli.store.events_file import read_events
    from kimi_cli.store.replay import RecordedProvider

    folder = Path(tempfile.mkdtemp(prefix="kimi-demo-")).resolve()
    console = Console(highlight=False)
    try:
        try:
            root = make_project(folder)
            env = environment(folder)
        except Exception as error:
            # Whatever git or the disk has against it, the user needs the one line.
            why = " ".join(str(error).split())[:200] if shutil.which("git") else "there is no git"
            print(f"kimi: the demo needs a temporary folder and git: {why}", file=sys.stderr)
            return 2
        events = read_events(recording or RECORDING).events
        said = next(e for e in events if isinstance(e, UserMessage))
        prompt = "".join(p.text for p in said.parts if isinstance(p, TextPart))
        setup = Setup(
            env=env,
            home=folder / "home",
            cwd=root,
            yolo=True,
            keep=False,
            provider=RecordedProvider(events, pace=PACE_SECONDS if pace else 0.0),
        )

        async def play() -> int:
            opened = await open_session(setup)
            return await show(opened.session, prompt, root, console)

        return run_loop(play())
    finally:
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
