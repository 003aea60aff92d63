"""Sessions in this process, over real HTTP and real files."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from kimi_cli.agent import Opened, Setup, open_session
from kimi_cli.protocol.event import Event
from tests.support.replies import Reply
from tests.support.server import ScriptedServer

FAST = {
    "retry.base_seconds": 0.01,
    "retry.cap_seconds": 0.02,
    "endpoint.dialect": "moonshot",
    "endpoint.api_key": "sk-test-key",
}


class Stage:
    """A session under test: its server, its events so far."""

    def __init__(self, opened: Opened, server: ScriptedServer) -> None:
        self.opened = opened
        self.session = opened.session
        self.server = server
        self.events: list[Event] = []
        self.session.subscribe(self.events.append)

    def of(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def sent(self, request: int) -> list[dict[str, Any]]:
        """The messages of a request, by number from 0 or from the end."""
        return list(self.server.requests[request].messages)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a test that is a coroutine."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = pyfuncitem._fixtureinfo.argnames
    asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in wanted}))
    return True


StageMaker = Callable[..., AbstractAsyncContextManager[Stage]]


@pytest.fixture
def stage(tmp_path: Path) -> StageMaker:
    """``async with stage([replies], yolo=True, flags={...}) as s``."""
    work = tmp_path / "work"
    work.mkdir()

    @asynccontextmanager
    async def make(script: Sequence[Reply] | Any, **options: Any) -> Any:
        flags = {**FAST, **options.pop("flags", {})}
        with ScriptedServer(script) as server:
            setup = Setup(
                env={"PATH": os.environ["PATH"]},
                home=tmp_path / "home",
                cwd=work,
                flags={**flags, "endpoint.base_url": server.base_url},
                **options,
            )
            opened = await open_session(setup)
            scene = Stage(opened, server)
            try:
                yield scene
            finally:
                await opened.session.close()
            assert server.rejected == []

    return make
