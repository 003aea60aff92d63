"""Stops a server and shows how that goes."""

from __future__ import annotations

import time

from kimi_cli.frontends.plain import clean, seconds
from kimi_cli.frontends.serve.meter import Meter
from kimi_cli.frontends.serve.pane import Pane
from kimi_cli.frontends.serve.progress_view import stopping_line
from kimi_cli.frontends.serve.signals import Interrupts
from kimi_cli.frontends.serve.spans import Line, wrapped
from kimi_cli.serve import state, sweep
from kimi_cli.serve.running import UP
from kimi_cli.serve.state import Server
from kimi_cli.serve.sweep import Proc

POLL_SECONDS = 0.1
PATIENCE = 120.0
"""Longer than a keeper takes that lets requests finish and then ends everything."""
GIVE_UP = 3


def stop_server(server: Server, pane: Pane, *, now: bool, patience: float = PATIENCE) -> bool:
    """Stop it, or end what is left of one that is dead; whether nothing of it is left. An
    interrupt ends it without waiting for requests in work, three leave. A keeper that does not
    answer within `patience` seconds is killed, and its processes are ended from here."""
    meter = Meter(server.state.base_url) if server.state.progress.stage in UP else None
    began = time.time()
    over = not server.alive
    remained = remains(server)
    if server.alive and not pane.live:
        pane.say(begun_lines(server, pane.width, now=now))
    asked = -1
    with Interrupts() as interrupts:
        try:
            while server.alive and interrupts.count < GIVE_UP:
                if interrupts.count > asked and server.state.keeper_pid:
                    asked = interrupts.count
                    state.ask_stop(server, now=now or asked > 0)
                if time.time() - began > patience:
                    state.kill_keeper(server)
                running = meter.latest.running if meter and meter.latest else None
                pane.draw([stopping_line(running, began, time.time(), pane.width or 0)])
                time.sleep(POLL_SECONDS)
                server = state.look(server.folder) or server
        finally:
            pane.close()
            if meter:
                meter.stop()
    if server.alive:
        return False
    left = state.sweep_dead(server)
    pids = [proc.pid for proc in left]
    pane.say(stopped_lines(server, pids, pane.width, before=over, remained=bool(remained)))
    return not left


def remains(server: Server) -> list[Proc]:
    """The processes of a server whose keeper was killed, those that can be told: written down, or
    marked in their environment. None of another server."""
    trouble = server.state.trouble
    if server.alive or trouble is None or trouble.kind != "lost":
        return []
    noted = state.read_processes(server.folder)
    return list(dict.fromkeys([*noted, *sweep.marked(server.state.id)]))


def begun_lines(server: Server, width: int | None, *, now: bool) -> list[Line]:
    """That it is being stopped, where nothing can be drawn anew meanwhile."""
    from kimi_cli.serve.finish import DRAIN_SECONDS

    words = f"stopping {clean(server.name)}"
    if server.state.progress.stage in UP and not now:
        words += f": requests in work finish first, at most {DRAIN_SECONDS} s"
    return wrapped(words, width)


def stopped_lines(
    server: Server,
    left: list[int],
    width: int | None,
    *,
    before: bool = False,
    remained: bool = False,
) -> list[Line]:
    """That it has stopped, `before` anybody asked; what `remained` of it then was ended now.
    `left` are processes that could not be ended."""
    now = server.state
    took = seconds(now.ended - now.started) if now.ended and not before else ""
    what = "had ended before" if before else "stopped" + f" after {took}" * bool(took)
    what = f"{clean(now.launch.name)} {what}"
    if left:
        pids = ", ".join(map(str, left))
        return wrapped(f"{what}, but these processes can't be ended: {pids}", width, "bad", "  ! ")
    if remained:
        what = f"{clean(now.launch.name)} had lost its keeper · what was left of it was ended"
    return wrapped(f"{what} · no process of it is left", width)
