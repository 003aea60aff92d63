"""Stops a server and shows how that goes."""

from __future__ import annotations

import time

from kimi_cli.frontends.plain import clean, seconds
from kimi_cli.frontends.serve.meter import Meter
from kimi_cli.frontends.serve.pane import Pane
from kimi_cli.frontends.serve.progress_view import stopping_line
from kimi_cli.frontends.serve.signals import Interrupts
from kimi_cli.frontends.serve.spans import Line, wrapped
from kimi_cli.serve import state
from kimi_cli.serve.running import UP
from kimi_cli.serve.state import Server

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
    pane.say(stopped_lines(server, [proc.pid for proc in left], pane.width, before=over))
    return not left


def stopped_lines(
    server: Server, left: list[int], width: int | None, *, before: bool = False
) -> list[Line]:
    """That it has stopped, `before` anybody asked; `left` are processes that could not be ended."""
    now = server.state
    took = seconds(now.ended - now.started) if now.ended and not before else ""
    what = "had ended before" if before else "stopped" + f" after {took}" * bool(took)
    what = f"{clean(now.launch.name)} {what}"
    if left:
        pids = ", ".join(map(str, left))
        return wrapped(f"{what}, but these processes can't be ended: {pids}", width, "bad", "  ! ")
    return wrapped(f"{what} · no process of it is left", width)
