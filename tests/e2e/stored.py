"""What tests of stored sessions share."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.program import Kimi, Running
from tests.support.server import ScriptedServer

DAY = 86_400


@contextmanager
def held(kimi: Kimi, session: str, server: ScriptedServer) -> Iterator[Running]:
    """Another process that works on the session; the server's next reply must stall."""
    before = len(server.requests)
    holder = kimi.start("-p", "hold", "-r", session, server=server)
    holder.until(lambda: len(server.requests) > before, "request")
    try:
        yield holder
    finally:
        holder.kill()


def ids(kimi: Kimi) -> list[str]:
    return sorted(folder.name for folder in kimi.sessions())


def aged(kimi: Kimi, session: str, days: float) -> None:
    (folder,) = [folder for folder in kimi.sessions() if folder.name == session]
    then = time.time() - days * DAY
    os.utime(folder / "events.jsonl", (then, then))


def begun(kimi: Kimi, server: ScriptedServer, *prompts: str) -> list[str]:
    """A session for each prompt, the oldest first, each an hour older than the next."""
    made = []
    for prompt in prompts:
        run = kimi("-p", prompt, server=server)
        assert run.code == 0, run.err
        made.append(run.err.split()[-3])
    for age, session in enumerate(reversed(made)):
        aged(kimi, session, age / 24)
    return made
