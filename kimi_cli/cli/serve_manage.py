"""`kimi serve ps|status|logs|stop|restart`: what runs, and how to end it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from kimi_cli.cli.output import json_line
from kimi_cli.cli.serve_output import FAILED, USAGE, fail, pane

if TYPE_CHECKING:
    from pathlib import Path

    from kimi_cli.frontends.serve.log_view import Tail
    from kimi_cli.frontends.serve.server_view import Figures
    from kimi_cli.serve.state import Server

TAIL = 100
ONE_TOKEN_SECONDS = 30.0
RATE_SECONDS = 1.0

Name = Annotated[
    str,
    typer.Argument(
        help="A server's name, model or port; the only one when left out.",
        metavar="[NAME]",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON.")]


def ps(
    every: Annotated[bool, typer.Option("--all", "-a", help="Also those that have ended.")] = False,
    as_json: AsJson = False,
) -> None:
    """List the servers that run."""
    from kimi_cli.frontends.serve.server_view import server_fields, server_lines
    from kimi_cli.frontends.serve.stopping import remains
    from kimi_cli.serve.state import list_servers

    known = list_servers(_home())
    # They hold memory and their port until they are stopped.
    left = [server.name for server in known if remains(server)]
    found = [server for server in known if every or server.alive or server.name in left]
    if as_json:
        print(json_line([server_fields(server) for server in found]))
    elif found:
        out = pane(sys.stdout)
        out.say(server_lines(found, out.width, time.time(), left))
    else:
        more = "; --all lists those that have ended" * bool(known)
        print(f"kimi: no server runs: kimi serve MODEL starts one{more}", file=sys.stderr)


def status(name: Name = "", as_json: AsJson = False) -> None:
    """Ask a server for one token, and show what it does. Exit code 1 if it does not answer."""
    from kimi_cli.frontends.serve import server_view as view
    from kimi_cli.frontends.serve.spans import Span, dotted, wrapped
    from kimi_cli.serve.running import UP

    with _told(as_json, FAILED):
        server = _find(name)
    up = server.state.progress.stage in UP
    problem, took, figures = _asked(server) if up else ("", 0.0, None)
    answers = up and not problem
    if as_json:
        fields = view.server_fields(server)
        fields["answers"] = answers
        fields["seconds_to_answer"] = round(took, 3) if answers else None
        fields["problem"] = problem or None
        fields["metrics"] = figures and {
            "running": figures.running,
            "waiting": figures.waiting,
            "kv_cache_share": figures.cache,
            "prefix_cache_hit_share": figures.hits,
            "tokens_per_second": figures.rate and round(figures.rate, 1),
        }
        print(json_line(fields))
    else:
        out = pane(sys.stdout)
        lines = view.status_lines(server, out.width, time.time())
        if problem:
            lines += wrapped(f"does not answer: {problem}", out.width, "bad", "  ✗ ")
        elif up:
            said = Span(f"✓ one token in {took:.1f} s", "good")
            lines += dotted([said, *(view.figure_spans(figures) if figures else ())], out.width)
        out.say(lines)
    raise typer.Exit(0 if answers else FAILED)


def logs(
    name: Name = "",
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the server ends.")
    ] = False,
    count: Annotated[int, typer.Option("-n", help="The last N lines.", metavar="N", min=0)] = TAIL,
) -> None:
    """Show what vLLM printed, also of a server that has ended."""
    from kimi_cli.frontends.serve import log_view

    with _told(False, USAGE):
        server = _find(name)
    try:
        tail = log_view.Tail(server.log)
    except OSError as error:
        fail("no-log", f"{server.log}: {error.strerror}", False, FAILED)
    with tail:
        if not server.log.stat().st_size:
            yet = " yet" * server.alive
            print(f"kimi: vLLM printed nothing{yet}", file=sys.stderr)
        lines = tail.last(count)
        for line in lines if follow else [*lines, *tail.rest()][-count:] if count else []:
            print(line)
        sys.stdout.flush()
        if follow:
            _follow(server, tail)


def _follow(server: Server, tail: Tail) -> None:
    """Print further lines; on a terminal a progress bar is drawn below them until its line ends."""
    from kimi_cli.frontends.serve import log_view
    from kimi_cli.frontends.serve.spans import Span

    out = pane(sys.stdout)
    try:
        for lines in log_view.follow(server, tail):
            if lines:
                out.draw([])
                out.say((Span(line),) for line in lines)
            out.draw([(Span(tail.unfinished),)] if tail.unfinished else [])
    finally:
        out.close()


def stop(
    name: Name = "",
    every: Annotated[bool, typer.Option("--all", help="All that run.")] = False,
    now: Annotated[
        bool, typer.Option("--now", help="Without waiting for requests in work.")
    ] = False,
) -> None:
    """Stop a server: let requests in work finish, then end every process of it."""
    from kimi_cli.serve.state import list_servers

    if every and name:
        fail("usage", "either a name or --all", False, USAGE)
    with _told(False, USAGE):
        found = list_servers(_home()) if every else [_find(name)]
    # Of one that was killed something may be left.
    doomed = [server for server in found if not every or _may_be_left(server)]
    if not doomed:
        print("kimi: no server runs", file=sys.stderr)
    failed = [server for server in doomed if not _stopped(server, now)]
    raise typer.Exit(FAILED if failed else 0)


def restart(
    name: Name = "",
    now: Annotated[
        bool, typer.Option("--now", help="Without waiting for requests in work.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Don't wait until it is ready.")
    ] = False,
) -> None:
    """Stop a server, and start it in the background as it was asked for."""
    from kimi_cli.cli import serve_start

    with _told(False, USAGE):
        server = _find(name)
    if not _stopped(server, now):
        raise typer.Exit(FAILED)
    raise typer.Exit(serve_start.again(server, wait=not no_wait, as_json=False))


def _stopped(server: Server, now: bool) -> bool:
    """Stop it and show that; whether nothing of it is left."""
    from kimi_cli.frontends.serve.stopping import stop_server

    return stop_server(server, pane(sys.stdout), now=now)


def _may_be_left(server: Server) -> bool:
    trouble = server.state.trouble
    return server.alive or bool(trouble and trouble.kind == "lost")


def _asked(server: Server) -> tuple[str, float, Figures | None]:
    """Why it does not answer, or how long that took and what it does."""
    from kimi_cli.frontends.serve.server_view import figures
    from kimi_cli.serve import client

    state = server.state
    began = time.monotonic()
    try:
        problem = client.one_token(
            state.base_url, server.key, state.launch.served_name, ONE_TOKEN_SECONDS
        )
    except OSError as error:
        problem = f"its key can't be read: {error}"
    took = time.monotonic() - began
    try:
        before, at = client.metrics(state.base_url), time.monotonic()
        time.sleep(RATE_SECONDS)
        after = client.metrics(state.base_url)
    except client.NoAnswer:
        return problem, took, None
    return problem, took, figures(before, after, time.monotonic() - at)


def _home() -> Path:
    from kimi_cli.settings import kimi_home

    return kimi_home(os.environ)


def _find(name: str) -> Server:
    from kimi_cli.serve.state import find_server

    return find_server(_home(), name)


@contextmanager
def _told(as_json: bool, code: int) -> Iterator[None]:
    """Say that no server is meant, and end."""
    from kimi_cli.serve.state import NoServer

    try:
        yield
    except NoServer as error:
        fail("no-server", str(error), as_json, code)
