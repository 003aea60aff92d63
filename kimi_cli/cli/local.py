"""``kimi --local``: the place of a server that `kimi serve` runs here, started first if need be."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from kimi_cli.cli.exit_codes import EXIT_CODES
from kimi_cli.cli.starting import GaveUp, UsageError, tell
from kimi_cli.protocol.stops import StopReason

if TYPE_CHECKING:
    from kimi_cli.agent import Place
    from kimi_cli.serve.state import Server

POLL_SECONDS = 0.2
SIGNALLED = 128
SHOWN_FAILURES = 3


def local_place(wanted: str, home: Path, *, terminal: bool) -> Place:
    """Where ``--local`` leads: to the server that ``wanted`` means ("": the only one), once it is
    ready. With a name and no such server one is started; what goes on is shown on stderr.
    ``terminal``: somebody sits there, who sees which of several was taken. Raises UsageError,
    GaveUp."""
    from dataclasses import replace

    from kimi_cli.agent.local import Ambiguous, about, pick, place_of, running
    from kimi_cli.serve.state import list_servers

    wanted = wanted.strip()
    servers = list_servers(home)
    try:
        server = pick(servers, wanted, newest=terminal)
        if server is None and wanted:
            _start(wanted, servers)
            server = pick(list_servers(home), wanted, newest=True)
    except Ambiguous as error:
        raise UsageError(str(error)) from None
    if server is None:
        raise UsageError(_none(servers, wanted))
    server = _ready(server)
    try:
        place = place_of(server)
    except OSError as error:
        raise UsageError(f"the key of {server.name}: {error.strerror}: {error.filename}") from None
    if not wanted and len(running(servers)) > 1:
        which = f"of several local servers this is {server.name}, {about(server)}"
        place = replace(place, notes=(which, *place.notes))
    return place


def _start(wanted: str, servers: list[Server]) -> None:
    from contextlib import redirect_stdout

    import typer

    from kimi_cli.cli.serve_start import run
    from kimi_cli.serve.running import Request

    try:
        # What a run prints on standard output is its answer.
        with redirect_stdout(sys.stderr):
            code = run(Request(wanted), detach=True, wait=True, as_json=False)
    except typer.Exit as end:
        code = end.exit_code
    if code >= SIGNALLED:
        raise _gave_up(f"the start of {wanted} was interrupted", code)
    if code:
        lines = [f"no local server was started for {wanted!r}", *_others(servers)]
        raise UsageError("\n".join(lines))


def _others(servers: list[Server]) -> list[str]:
    """The servers that may have been meant: those that run, and the last ones that failed."""
    from kimi_cli.agent.local import about, again, running, why_over

    lines = [f"  {one.name} runs: {about(one)}" for one in running(servers)]
    failed = [one for one in servers if one.state.progress.stage == "failed"][:SHOWN_FAILURES]
    return lines + [f"  {one.name} failed: {why_over(one)}; {again(one)}" for one in failed]


def _none(servers: list[Server], wanted: str) -> str:
    """That no server runs, how to get one, and why the last ones failed."""
    if wanted:
        return f"the local server for {wanted!r} ended at once: `kimi serve ps` shows it"
    first = "no local server runs: `kimi serve MODEL` starts one, and --local MODEL does too"
    return "\n".join([first, *_others(servers)])


def _ready(server: Server) -> Server:
    """The server as it is when it is ready. Raises UsageError when it fails before, GaveUp when the
    user has enough."""
    from kimi_cli.agent.local import is_up, running, why_over
    from kimi_cli.frontends.serve.signals import Interrupts
    from kimi_cli.serve.state import look

    line = _Line()
    now: Server | None = server
    with Interrupts() as interrupts:
        while now is not None and not is_up(now):
            if interrupts.count:
                line.end()
                raise _gave_up(
                    f"not waiting for {server.name} any longer; it goes on by itself, and `kimi"
                    f" serve stop {server.name}` ends it",
                    interrupts.code,
                )
            if not running([now]):
                break
            line.show(now)
            time.sleep(POLL_SECONDS)
            now = look(server.folder)
    line.end()
    if now is None or not is_up(now):
        why = why_over(now) if now else "it is gone"
        raise UsageError(f"the local server {server.name} has not come up: {why}")
    return now


def _gave_up(message: str, code: int) -> GaveUp:
    """For the exit code of a signal."""
    ended = code == EXIT_CODES[StopReason.TERMINATED]
    return GaveUp(message, StopReason.TERMINATED if ended else StopReason.INTERRUPTED)


class _Line:
    """How far a start is, on stderr: one line that changes where that is a terminal, elsewhere one
    for each stage."""

    def __init__(self) -> None:
        self._redraws = bool(sys.stderr and sys.stderr.isatty())
        self._stage = ""
        self._drawn = False

    def show(self, server: Server) -> None:
        from kimi_cli.frontends.plain import clean
        from kimi_cli.frontends.serve.progress_view import progress_words

        state = server.state
        words = clean(f"waiting for {server.name}: {progress_words(state, time.time())}")
        if self._redraws:
            self._draw(f"kimi: {words}"[: _columns() - 1])
        elif state.progress.stage != self._stage:
            tell(words)
        self._stage = state.progress.stage

    def end(self) -> None:
        if self._drawn:
            self._draw("")

    def _draw(self, text: str) -> None:
        import contextlib

        self._drawn = True
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()


def _columns() -> int:
    import os

    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80
