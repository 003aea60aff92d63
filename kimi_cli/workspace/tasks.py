"""A command as the rest of kimi sees it, and the environment commands get."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from kimi_cli.protocol.workspace import ProcessResult
from kimi_cli.workspace.box import Box
from kimi_cli.workspace.launch import KEYS

# How long ``stop`` waits beyond the grace: past the supervisor's own patience with processes that
# can't be killed, so that only a helper that hangs gets here.
_STOP_PATIENCE = 7.0

_NEUTRAL = {
    # Output goes to a file: a pager would only cut it, and some wait for a key.
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "MANPAGER": "cat",
    "SYSTEMD_PAGER": "cat",
    "TERM": "dumb",
    # Nobody can answer: an editor returns at once and leaves the text as it is, a prompt fails.
    "EDITOR": "true",
    "VISUAL": "true",
    "GIT_EDITOR": "true",
    "GIT_TERMINAL_PROMPT": "0",
    "DEBIAN_FRONTEND": "noninteractive",
    # Into a file Python would hold output back by the block: lost when the command is stopped, and
    # out of order with stderr.
    "PYTHONUNBUFFERED": "1",
}
# Keys of ours; files that a non-interactive shell would run first; colour forced upon a file.
_REMOVED = KEYS | {"BASH_ENV", "ENV", "OLDPWD", "FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS"}


def command_environment(base: Mapping[str, str]) -> dict[str, str]:
    """The environment of commands: ``base`` without our secrets and without what makes programs
    wait for a person. NO_COLOR stays unset: no terminal, no colour, and tests may look at it."""
    return {name: value for name, value in base.items() if name not in _REMOVED} | _NEUTRAL


def encode(text: str) -> bytes:
    """Text as an argument, path or variable of a process; raises OSError when it can't be one."""
    try:
        data = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        raise OSError(f"not valid Unicode: {error.object[error.start : error.end]!r}") from None
    if b"\0" in data:
        raise OSError("it contains a NUL character")
    return data


class Command:
    """A command started by the runner: implements ``Task`` of the protocol.

    ``box`` is what it was confined to, None when it was not. ``put_back`` says, once the command
    and all it left are gone, what was put back of what it should not have changed.
    """

    def __init__(
        self,
        number: int,
        command: str,
        output_path: Path,
        background: bool,
        order_stop: Callable[[int, float], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self.id = f"t{number}"
        self.command = command
        self.output_path = output_path
        self.background = background
        self.result: ProcessResult | None = None
        self.shown = 0
        self.movable = False
        self.box: Box | None = None
        self.box_opened = False
        self.put_back: tuple[str, ...] = ()
        self.started: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._moved: asyncio.Future[None] = loop.create_future()
        self._swept: asyncio.Future[None] = loop.create_future()
        self._order_stop = order_stop
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.result.seconds if self.result else time.monotonic() - self._began

    @property
    def over(self) -> bool:
        """Whether nothing of the command is left."""
        return self._swept.done()

    async def wait(self, timeout: float | None) -> ProcessResult | None:
        if self.result is None:
            ends = [self._ended, self._moved] if self.movable else [self._ended]
            await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        return self.result

    async def stop(self, grace: float = 2.0) -> ProcessResult:
        if not self.over:
            self._order_stop(self.number, grace)
            await asyncio.wait([self._swept], timeout=grace + _STOP_PATIENCE)
        return self.result or ProcessResult(None, None, self.seconds, (), "stopped")

    def to_background(self) -> None:
        self.background = True
        if not self._moved.done():
            self._moved.set_result(None)

    def note_started(self) -> None:
        if not self.started.done():
            self.started.set_result(None)

    def note_failed(self, error: OSError) -> None:
        """The command was never started."""
        if not self.started.done():
            self.started.set_exception(error)
            # Nobody asks when ``start`` itself was cancelled.
            self.started.exception()
        self._end(ProcessResult(None, None, 0.0, (), "failed"))
        self._finish()

    def note_exit(self, result: ProcessResult) -> None:
        """The command's own process has ended."""
        self._end(result)

    def note_swept(self, survivors: Sequence[str]) -> None:
        """Nothing is left, but for ``survivors`` that can't be killed."""
        if self.result is not None:
            self.result = replace(self.result, survivors=tuple(survivors))
        self._finish()

    def note_lost(self) -> None:
        """Whoever watched over the command is gone."""
        self.note_failed(OSError("the helper process was killed"))
        if self.result is not None and self.result.reason == "failed":
            self.result = replace(self.result, seconds=self.seconds, reason="lost")

    def _end(self, result: ProcessResult) -> None:
        if self.result is None:
            self.result = result
        if not self._ended.done():
            self._ended.set_result(None)

    def _finish(self) -> None:
        if not self._swept.done():
            self._swept.set_result(None)
