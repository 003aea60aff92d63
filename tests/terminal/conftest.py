"""Fixtures of the tests that drive the interactive `kimi` in a pseudo-terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.conftest import kimi, outside, project, serve
from tests.support.program import Kimi
from tests.support.server import ScriptedServer
from tests.support.tty import Tty

__all__ = ["kimi", "outside", "project", "serve", "start"]


@pytest.fixture
def start(kimi: Kimi, serve: Callable[..., ScriptedServer]) -> Iterator[Callable[..., Tty]]:
    """Starts `kimi` on a terminal with a scripted model, ready to type: `start(script, *args)`."""
    terminals: list[Tty] = []

    def begin(script: Any = (), *args: str, ready: str = "Type a task", **options: Any) -> Tty:
        server = script if isinstance(script, ScriptedServer) else serve(script)
        terminal = Tty(kimi, *args, server=server, **options)
        terminals.append(terminal)
        terminal.wait(ready)
        return terminal

    yield begin
    for terminal in terminals:
        terminal.process.close(force=True)
