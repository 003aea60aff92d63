"""Follows a server that a keeper starts, until it is up or over."""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress
from dataclasses import replace

from kimi_cli.frontends.serve.meter import Meter
from kimi_cli.frontends.serve.pane import Pane
from kimi_cli.frontends.serve.progress_view import (
    Story,
    failed_lines,
    live_lines,
    progress_words,
    ready_lines,
    stopping_line,
)
from kimi_cli.frontends.serve.server_view import figures_line
from kimi_cli.frontends.serve.signals import Interrupts
from kimi_cli.frontends.serve.spans import Line, wrapped
from kimi_cli.frontends.serve.stopping import stopped_lines
from kimi_cli.serve import state
from kimi_cli.serve.running import LOADING, OVER, UP, Progress, ServerState
from kimi_cli.serve.state import Server

POLL_SECONDS = 0.1
LOCK_SECONDS = 1.0
"""Between two looks whether the keeper still lives."""
HEARTBEAT_SECONDS = 30.0
GIVE_UP = 3
"""So many interrupts leave, whatever the keeper does."""
END_SECONDS = 10.0


class Viewer:
    """Shows one server on a pane. With `stay` also once it is up, until it is over."""

    def __init__(self, server: Server, pane: Pane, *, stay: bool) -> None:
        self._server = server
        self._pane = pane
        self._stay = stay
        self._story = Story(server.state.progress)
        self._written = 0
        self._next_look = 0.0
        self._last_line = time.monotonic()
        self._waited_for = ""
        self._up = False
        self._heeded = 0
        self._stopping_since: float | None = None
        self._meter: Meter | None = None

    @property
    def server(self) -> Server:
        """The server as it was seen last."""
        return self._server

    def run(self, interrupts: Interrupts) -> ServerState:
        """Follow it; the first interrupt stops it, a second one at once. The last state seen."""
        try:
            while True:
                self._look()
                now = self._server.state
                self._show(now)
                if now.progress.stage in OVER:
                    self._ended(now)
                    return now
                if self._up and not self._stay and not interrupts.count:
                    return now
                if interrupts.count >= GIVE_UP:
                    return now
                if interrupts.count > self._heeded:
                    self._stop(interrupts.count)
                time.sleep(POLL_SECONDS)
        finally:
            self._pane.close()

    def _look(self) -> None:
        moment = time.monotonic()
        if moment >= self._next_look:
            self._next_look = moment + LOCK_SECONDS
            if found := state.look(self._server.folder):
                self._take(found)
        with suppress(OSError, ValueError):
            written = os.stat(self._server.folder / state.STATE).st_mtime_ns
            if written != self._written and self._server.alive:
                self._take(replace(self._server, state=state.read(self._server.folder)))
                self._written = written

    def _take(self, found: Server) -> None:
        now = self._server.state
        if found.state.id == now.id:
            self._server = found
        else:
            # Another one runs under its name, so that it was stopped before.
            stopped = replace(now, progress=Progress("stopped", time.time()))
            self._server = replace(self._server, state=stopped, alive=False)

    def _stop(self, count: int) -> None:
        # A keeper that has hardly begun has not said yet where it is to be reached.
        if self._server.state.keeper_pid:
            state.ask_stop(self._server, now=count > 1)
            self._heeded = count
            self._stopping_since = self._stopping_since or time.time()

    def _show(self, now: ServerState) -> None:
        lines = self._story.told(now, self._pane.width)
        stage = now.progress.stage
        if stage in UP and not self._up:
            self._up = True
            lines += ready_lines(now, self._pane.width)
            if self._stay:
                self._meter = Meter(now.base_url)
        if not self._pane.live and stage in LOADING:
            lines += self._heartbeat(now, bool(lines))
        if lines:
            self._last_line = time.monotonic()
            self._pane.say(lines)
        self._pane.draw(self._live(now))

    def _live(self, now: ServerState) -> list[Line]:
        width = self._pane.width or 0
        stage = now.progress.stage
        shown = self._meter.latest if self._meter else None
        if stage in OVER:
            return []
        if stage == "stopping" or self._stopping_since:
            since = self._stopping_since or now.progress.since
            return [stopping_line(shown.running if shown else None, since, time.time(), width)]
        if stage in UP:
            return [figures_line(shown, width)] if self._stay else []
        return live_lines(now, time.time(), width, colour=self._pane.colour)

    def _heartbeat(self, now: ServerState, others: bool) -> list[Line]:
        """A sign of life where nothing can be drawn anew."""
        # How long it has waited is no news.
        waits_for = re.sub(r"\d+", "", now.progress.waiting)
        news = waits_for and waits_for != self._waited_for
        self._waited_for = waits_for
        due = time.monotonic() - self._last_line >= HEARTBEAT_SECONDS and not others
        return wrapped(progress_words(now, time.time()), None) if news or due else []

    def _ended(self, now: ServerState) -> None:
        if self._meter:
            self._meter.stop()
        failed = now.progress.stage == "failed"
        if failed:
            self._pane.say(failed_lines(now, self._server.log, self._pane.width))
        # The keeper says so before it leaves, and only then its word is the last one.
        if self._server.alive:
            state.stopped(self._server, END_SECONDS)
        # One that was killed has ended nothing.
        left = [proc.pid for proc in state.sweep_dead(self._server)]
        if left or not failed:
            self._pane.say(stopped_lines(self._server, left, self._pane.width))
