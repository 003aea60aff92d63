"""A step must not cost more the longer the session is: counted in function calls, not in time."""

from __future__ import annotations

import asyncio
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from kimi_cli.agent import Setup, StopReason, open_session
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.live import StepStarted
from tests.support import scripts
from tests.support.server import ScriptedServer

STEPS = 80


def test_the_work_of_a_step_does_not_grow(tmp_path: Path) -> None:
    calls = 0
    at_step: list[int] = []

    def count(frame: Any, kind: str, argument: object) -> None:
        nonlocal calls
        calls += kind in ("call", "c_call")

    def note(event: Event) -> None:
        if isinstance(event, StepStarted):
            at_step.append(calls)

    async def run(base_url: str) -> StopReason:
        flags = {"endpoint.base_url": base_url, "endpoint.dialect": "moonshot"}
        env = {"PATH": os.environ["PATH"], "KIMI_API_KEY": "sk-test-key"}
        setup = Setup(env=env, home=tmp_path / "kimi", flags=flags, cwd=tmp_path, yolo=True)
        opened = await open_session(setup)
        opened.session.subscribe(note)
        sys.setprofile(count)
        try:
            return (await opened.session.run_turn("Go.")).reason
        finally:
            sys.setprofile(None)
            await opened.session.close()

    with ScriptedServer(scripts.shell_steps(STEPS), strict=False, keep=False) as server:
        assert asyncio.run(run(server.base_url)) is StopReason.DONE
    costs = [after - before for before, after in pairwise(at_step)]
    assert len(costs) == STEPS
    first, last = min(costs[:20]), min(costs[-20:])
    # 60 steps lie between, each with two messages: to project or encode them again takes dozens of
    # calls each. A larger body goes out in more pieces, which is a hundred calls or so.
    assert last - first < 600
