"""What a keeper writes down of its server, for all who look."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from kimi_cli.serve import state
from kimi_cli.serve.running import Progress, ServerState, Stage
from kimi_cli.serve.sweep import Proc

NOTE_SECONDS = 2.0
UP_NOTE_SECONDS = 30.0
"""While it starts, processes come and go."""


class Book:
    """The state of a server, written whenever it changes. What can't be written, as on a full disk,
    ends no server: it is tried again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.state = replace(state.read(folder), keeper_pid=os.getpid())
        self._written: ServerState | None = None
        self._next_note = 0.0

    @property
    def stage(self) -> Stage:
        return self.state.progress.stage

    def begin(self) -> None:
        """The keeper is there, and hears."""
        self._write()

    def say(self, stage: Stage, **changes: object) -> None:
        """It has come to a stage; `changes` are fields of the state."""
        now = time.time()
        ended = now if stage in ("stopped", "failed") else None
        progress = Progress(stage, now)
        self.state = replace(self.state, progress=progress, ended=ended, **changes)  # type: ignore[arg-type]
        self._write()

    def show(self, progress: Progress) -> None:
        """How far a start is."""
        self.state = replace(self.state, progress=progress)
        self._write()

    def note(self, find: Callable[[], Sequence[Proc]], *, now: bool = False) -> None:
        """Note which processes there are, now and then; `now`: at once."""
        moment = time.monotonic()
        if now or moment >= self._next_note:
            up = self.state.ready is not None
            self._next_note = moment + (UP_NOTE_SECONDS if up else NOTE_SECONDS)
            self._write()
            found = find()
            with contextlib.suppress(OSError):
                state.write_processes(self._folder, found)

    def _write(self) -> None:
        if self.state != self._written:
            with contextlib.suppress(OSError):
                state.write(self._folder, self.state)
                self._written = self.state
