"""The agent as a library: `from kimi_cli.agent import ...` in a process that is not `kimi`."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from kimi_cli.agent import Opened, Setup, SetupError, StopReason, open_session
from kimi_cli.protocol.event import Event
from kimi_cli.protocol.events import (
    Confined,
    SessionStarted,
    ToolResult,
    TurnEnded,
)
from kimi_cli.protocol.live import ToolOutputDelta
from tests.support.program import Kimi
from tests.support.recorded import Recorded
from tests.support.replies import Reply, text, tool_calls
from tests.support.server import ScriptedServer

Serve = Callable[..., ScriptedServer]


def setup_for(kimi: Kimi, server: ScriptedServer, cwd: Path | None = None) -> Setup:
    return Setup(env=kimi.environment(server), home=kimi.home, cwd=cwd or kimi.cwd)


def test_a_turn_in_a_few_lines(kimi: Kimi, serve: Serve) -> None:
    server = serve([tool_calls([("read", {"path": "calc.py"})]), text("It subtracts.")])
    heard: list[Event] = []

    async def drive() -> tuple[Opened, TurnEnded]:
        opened = await open_session(setup_for(kimi, server))
        async with opened.session as session:
            session.subscribe(heard.append)
            return opened, await session.run_turn("what does add do?")

    opened, ended = asyncio.run(drive())
    assert (ended.reason, ended.answer, ended.steps) == (StopReason.DONE, "It subtracts.", 2)
    assert [type(e) for e in opened.events] == [SessionStarted, Confined]
    assert [e.name for e in heard if isinstance(e, ToolResult)] == ["read"]
    assert kimi.sessions()[-1].name == opened.session.id


def test_two_sessions_in_one_process(kimi: Kimi, serve: Serve, tmp_path: Path) -> None:
    """Each works in its own folder; the process's working directory stays where it is."""
    other = tmp_path / "other"
    other.mkdir()
    both = threading.Barrier(2, timeout=30)

    def script(index: int, request: Recorded) -> Reply:
        if request.messages[-1]["role"] == "tool":
            return text("done")
        # Neither is answered before both have asked: they run at the same time.
        both.wait()
        content = request.messages[-1]["content"]
        return tool_calls(
            [
                ("write", {"path": "mine.txt", "content": content}),
                ("shell", {"command": "pwd > where"}),
            ]
        )

    server = serve(script)

    async def one(cwd: Path, prompt: str) -> TurnEnded:
        opened = await open_session(replace(setup_for(kimi, server, cwd), yolo=True))
        async with opened.session as session:
            return await session.run_turn(prompt)

    async def drive() -> list[TurnEnded]:
        return list(await asyncio.gather(one(kimi.cwd, "first"), one(other, "second")))

    before = os.getcwd(), dict(os.environ)
    ends = asyncio.run(drive())
    assert [e.reason for e in ends] == [StopReason.DONE, StopReason.DONE]
    assert (os.getcwd(), dict(os.environ)) == before
    assert [(p / "mine.txt").read_text() for p in (kimi.cwd, other)] == ["first", "second"]
    assert [Path((p / "where").read_text().strip()) for p in (kimi.cwd, other)] == [kimi.cwd, other]


def test_cancelling_the_caller_ends_the_turn(kimi: Kimi, serve: Serve) -> None:
    server = serve([tool_calls([("shell", {"command": "echo running; sleep 60"})])])

    async def drive() -> list[str]:
        opened = await open_session(replace(setup_for(kimi, server), yolo=True))
        ends: list[str] = []
        printed = asyncio.Event()

        def note(event: Event) -> None:
            if isinstance(event, ToolOutputDelta):
                printed.set()
            elif isinstance(event, ToolResult | TurnEnded):
                ends.append(event.status if isinstance(event, ToolResult) else event.reason)

        async with opened.session as session:
            session.subscribe(note)
            turn = asyncio.create_task(session.run_turn("go"))
            async with asyncio.timeout(30):
                await printed.wait()
            turn.cancel()
            with pytest.raises(asyncio.CancelledError):
                await turn
        return ends

    assert asyncio.run(drive()) == ["interrupted", StopReason.INTERRUPTED]


def test_what_is_in_the_way_is_said(kimi: Kimi, serve: Serve) -> None:
    server = serve()

    async def drive(setup: Setup) -> None:
        await open_session(setup)

    base = setup_for(kimi, server)
    for setup, words in (
        (replace(base, resume="zzzz"), "no session"),
        (replace(base, flags={"thinking": "sideways"}), "thinking"),
        (replace(base, flags={"model": "kimi-k2-thinking"}, media=frozenset({"image"})), "images"),
    ):
        with pytest.raises(SetupError, match=words):
            asyncio.run(drive(setup))
    assert not list(kimi.home.glob("sessions/*/*"))


def test_setup_from_the_environment(kimi: Kimi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KIMI_HOME", str(kimi.home))
    setup = Setup.from_env(cwd=str(kimi.cwd), flags={"model": "kimi-k3"}, keep=False)
    assert (setup.home, setup.cwd) == (kimi.home, kimi.cwd)
    assert setup.env["KIMI_HOME"] == str(kimi.home) and setup.env is not os.environ
    assert (setup.flags, setup.yolo, setup.keep) == ({"model": "kimi-k3"}, False, False)


def test_importing_costs_nothing() -> None:
    code = "import sys, kimi_cli.agent; print([m for m in sys.modules if m.startswith('kimi')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.stdout.strip() == "['kimi_cli', 'kimi_cli.agent']"
