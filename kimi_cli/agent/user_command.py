"""A command that the user runs by themselves, beside or between the turns."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from kimi_cli.protocol.sandbox import Grant
from kimi_cli.protocol.workspace import Processes, Task
from kimi_cli.tools.shell import follow, outcome_of
from kimi_cli.tools.shell_output import excerpt

THEIR_OWN = Grant(network=True, unconfined=True)
"""The user may do what the user may do: the sandbox is for what the model does."""
GRACE = 0.3
PATIENCE = 0.8


@dataclass(frozen=True, slots=True)
class UserCommand:
    """One that ended, or was moved to the background (``task`` is its id there then). ``code`` is
    None for one without exit status: it still runs, or was killed. ``output`` is cut for the model;
    ``output_path`` has the whole where it was cut, or goes on. ``outcome`` says in words how it
    ended, "" for success."""

    command: str
    code: int | None
    seconds: float
    output: str
    outcome: str = ""
    output_path: str | None = None
    task: str | None = None
    stopped: bool = False

    @property
    def words(self) -> str:
        """What the model may be told of it."""
        state = self.outcome or "exit status 0"
        if self.task and self.code is None and not self.stopped:
            state = f"it still runs, as background task {self.task}"
        return f"[The user ran a command of their own: {state}]\n$ {self.command}\n{self.output}"


class UserCommands:
    """Those of one session; several may run at once."""

    def __init__(self, processes: Processes, cwd: Path) -> None:
        self._processes = processes
        self._cwd = cwd
        self._running: set[Task] = set()
        self._stopping: set[asyncio.Task[object]] = set()

    async def run(self, command: str, show: Callable[[str], None]) -> UserCommand:
        """Run a command to its end, or until it is moved to the background; ``show`` gets its
        output as it comes. Cancelled, it stops the command. Raises OSError when it can't be
        started."""
        task = await self._processes.start(command, cwd=self._cwd, grant=THEIR_OWN)
        self._running.add(task)
        try:
            result = await follow(task, None, show)
        except asyncio.CancelledError:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(task.stop(GRACE), PATIENCE)
            raise
        finally:
            self._running.discard(task)
        if result is not None and result.survivors:
            task.to_background()
        running = result is None
        output = await asyncio.to_thread(excerpt, task.output_path, 0, running)
        task.shown = output.end
        kept = task.background or output.cut
        if not kept:
            task.output_path.unlink(missing_ok=True)
        return UserCommand(
            command,
            result.code if result else None,
            task.seconds,
            output.text or ("(no output yet)\n" if running else "(no output)\n"),
            outcome_of(result) if result else "",
            str(task.output_path) if kept else None,
            task.id if task.background else None,
            result is not None and result.reason == "stopped",
        )

    def stop(self) -> None:
        """Stop those that are waited for; returns at once."""
        for task in self._running:
            stopping: asyncio.Task[object] = asyncio.create_task(task.stop(GRACE))
            self._stopping.add(stopping)
            stopping.add_done_callback(self._stopping.discard)
