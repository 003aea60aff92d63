"""From what was asked to a server that runs: prepare, ask, start, show."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import typer

from kimi_cli.cli.output import json_line
from kimi_cli.cli.serve_nodes import head_is_here, look, with_head, with_programs
from kimi_cli.cli.serve_output import FAILED, GOOD, USAGE, fail, pane, show, width
from kimi_cli.cli.serve_programs import environment, usable_vllm
from kimi_cli.serve.facts import NoPlan
from kimi_cli.serve.not_ready import NotReady
from kimi_cli.serve.running import Request

if TYPE_CHECKING:
    from kimi_cli.frontends.serve.pane import Pane
    from kimi_cli.frontends.serve.spans import Line
    from kimi_cli.serve.installed import Vllm
    from kimi_cli.serve.prepare import Ready
    from kimi_cli.serve.running import Launch
    from kimi_cli.serve.state import Server

USAGE_KINDS = ("unknown-model", "unreadable-model", "name", "extra", "gpus", "nodes", "usage")
"""Refusals of what was asked; others are about the computer."""


def run(request: Request, *, detach: bool, wait: bool, as_json: bool) -> int:
    """Start a server and show it: until it is over, or with `detach` until it is up, or without
    `wait` not at all. Returns the exit code."""
    from kimi_cli.frontends.serve.progress_view import head_lines
    from kimi_cli.frontends.serve.signals import Interrupts
    from kimi_cli.frontends.serve.spans import wrapped
    from kimi_cli.frontends.serve.viewer import Viewer
    from kimi_cli.serve import starting
    from kimi_cli.settings import kimi_home

    out = pane(sys.stderr if as_json else sys.stdout)
    home = kimi_home(os.environ)
    with _told(as_json):
        request, lock = _with_port(with_head(request), home)
        ready = _prepared(request, home, out, as_json)
        if _must_ask(ready, as_json):
            ready = _prepared(replace(request, trusted=True), home, out, as_json)
        _check_name(ready.launch.name, home)
    out.say(head_lines(ready.launch, out.width))
    out.say(_others(ready.launch, home, out.width))
    with Interrupts() as interrupts:
        try:
            server, owner = starting.start(
                ready.launch, home, environment(), port_lock=lock, attached=not detach
            )
        except (starting.ServerExists, OSError) as error:
            fail("start", str(error), as_json, FAILED)
        finally:
            if lock is not None:
                os.close(lock)
        if not wait:
            words = f"{server.name} is starting · kimi serve status {server.name}"
            out.say(wrapped(words, out.width))
            return _done(server, GOOD, as_json)
        viewer = Viewer(server, out, stay=not detach)
        try:
            last = viewer.run(interrupts)
        finally:
            if owner is not None:
                os.close(owner)
        stage = last.progress.stage
        code = GOOD
        if stage == "failed":
            code = FAILED
        elif interrupts.count and (detach or stage != "stopped"):
            code = interrupts.code
        elif stage == "stopped" and detach:
            code = FAILED
        elif detach:
            words = f"it stays in the background · kimi serve stop {server.name}"
            out.say(wrapped(words, out.width, "dim"))
        return _done(viewer.server, code, as_json)


def again(server: Server, *, wait: bool, as_json: bool) -> int:
    """Start a server that was stopped, as it was asked for, in the background."""
    launch = server.state.launch
    wish = replace(launch.request.wish, port=launch.port)
    # A folder may have been named as seen from another one.
    model = launch.repo if os.path.isabs(launch.repo) else launch.request.model
    request = replace(launch.request, model=model, wish=wish, name=launch.name, port_given=True)
    return run(request, detach=True, wait=wait, as_json=as_json)


def print_commands(request: Request, as_json: bool, *, alike: bool = False) -> int:
    """Print the command of each node; returns the exit code. `alike`: the nodes are not looked at
    but taken to be like this computer."""
    from kimi_cli.frontends.serve.commands_view import command_fields, command_lines
    from kimi_cli.settings import kimi_home

    with _told(as_json):
        # Nothing runs: whoever copies the commands reads what they allow.
        trusted = replace(request, trusted=True)
        home, out = kimi_home(os.environ), pane(sys.stderr)
        ready = _prepared(trusted, home, out, as_json, alike=alike, to_start=False)
    if as_json:
        print(json_line(command_fields(ready.launch)))
    else:
        show(command_lines(ready.launch, width(sys.stdout)), sys.stdout)
    return GOOD


def _prepared(
    request: Request,
    home: Path,
    out: Pane,
    as_json: bool,
    *,
    alike: bool = False,
    to_start: bool = True,
) -> Ready:
    """Raises NotReady, typer.Exit."""
    from kimi_cli.frontends.serve.spans import Span
    from kimi_cli.serve.prepare import Ready, prepare

    vllm, env = usable_vllm(), environment()
    if vllm is not None:
        # Asking it for its options takes a quarter of a minute, the first time.
        version = f" {vllm.version}" * bool(vllm.version)
        words = f"looks at vLLM{version} and this computer"
        out.draw([(Span(f"  {words}", "dim"),)])
        if not out.live:
            show([f"kimi: {words}"], sys.stderr)
    try:
        seen = look(request, vllm, env, alike=alike or request.ray)
        found = prepare(request, env, home, vllm, machine=seen.machine)
        if request.ray and to_start and isinstance(found, Ready):
            _check_ray(found, vllm, env)
    finally:
        out.close()
    if isinstance(found, NoPlan):
        _no_fit(request, found, as_json)
    return replace(found, launch=with_programs(found.launch, seen))


def _check_ray(ready: Ready, vllm: Vllm | None, env: Mapping[str, str]) -> None:
    from kimi_cli.serve.ray import check_ray

    if trouble := check_ray(ready.plan, env, vllm.path if vllm else ""):
        raise NotReady(trouble.kind, trouble.what, trouble.todo)


def _with_port(request: Request, home: Path) -> tuple[Request, int | None]:
    """The request with the port that it gets, and the port's lock; None where the port is another
    computer's. Raises NotReady."""
    from kimi_cli.serve.naming import name_of
    from kimi_cli.serve.ports import PortTaken, take

    if not head_is_here(request):
        return request, None
    wish = request.wish
    name = request.name or name_of(request.model)
    try:
        port, lock = take(home, wish.port, request.port_given, host=wish.host, name=name)
    except PortTaken as error:
        if lost := _lost(home, port=wish.port):
            raise _left(lost, str(error), "port") from None
        todo = "choose another one with --port" if request.port_given else ""
        raise NotReady("port", str(error), todo) from None
    return replace(request, wish=replace(wish, port=port)), lock


def _check_name(name: str, home: Path) -> None:
    """Raises NotReady where processes are left of that server's, which nobody could find once a
    new one has its name."""
    if lost := _lost(home, name=name):
        raise _left(lost, f"vLLM still runs of a server called {name}", "lost")


def _lost(home: Path, *, name: str = "", port: int = 0) -> Server | None:
    """The server of that name or port whose keeper was killed and whose processes are there."""
    from kimi_cli.frontends.serve.stopping import remains
    from kimi_cli.serve.state import list_servers

    for server in list_servers(home):
        meant = server.name == name or server.state.launch.port == port
        if meant and remains(server):
            return server
    return None


def _left(server: Server, what: str, kind: str) -> NotReady:
    message = f"{what}: what is left of {server.name}, whose keeper was killed"
    return NotReady(kind, message, "end it first", (f"kimi serve stop {server.name}",))


def _others(launch: Launch, home: Path, width: int | None) -> list[Line]:
    """That another server has this model already."""
    from kimi_cli.frontends.serve.spans import wrapped
    from kimi_cli.serve.running import LOADING, UP
    from kimi_cli.serve.state import list_servers

    lines: list[Line] = []
    for server in list_servers(home):
        other, stage = server.state.launch, server.state.progress.stage
        same = (other.repo or other.request.model) == (launch.repo or launch.request.model)
        if same and server.alive and stage in (*LOADING, *UP):
            verb = "runs" if stage in UP else "loads"
            words = f"{other.name} {verb} this model already: kimi --local {other.name}"
            lines += wrapped(words, width, "warn", "! ", "  ")
    return lines


def _must_ask(ready: Ready, as_json: bool) -> bool:
    """Whether there is foreign code to be run, which the user has now allowed. Raises NotReady
    where that is not so."""
    from kimi_cli.frontends.plain import clean
    from kimi_cli.serve.prepare import needs_trust

    whose = needs_trust(ready.plan)
    if not whose or ready.launch.request.trusted:
        return False
    what = f"{clean(whose)} brings code of its own, which vLLM runs (--trust-remote-code)"
    if as_json or not (sys.stdin and sys.stdin.isatty() and sys.stderr.isatty()):
        raise NotReady("usage", f"{what}; without a terminal to ask on, --yes allows it")
    print(f"! {what}\n  run it? [y/N] ", end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if answer.strip().lower() not in ("y", "yes"):
        print("\n" * (not answer), end="", file=sys.stderr)
        raise NotReady("usage", "nothing was started")
    return True


def _no_fit(request: Request, refused: NoPlan, as_json: bool) -> NoReturn:
    from kimi_cli.frontends.serve.plan_view import Asked, result_lines

    if as_json:
        fail("no-fit", refused.why, True, FAILED)
    wish = request.wish
    given = {
        "--gpus": request.gpus,
        "--nodes": ",".join(request.hosts),
        "--context": wish.context,
        "--sessions": wish.sessions,
        "--variant": wish.variant,
        "--kv-dtype": wish.kv_dtype,
        "--utilisation": wish.utilisation,
        "--tensor-parallel": wish.tensor_parallel,
        "--pipeline-parallel": wish.pipeline_parallel,
        "--data-parallel": wish.data_parallel,
        "--decode-context-parallel": wish.decode_context_parallel,
    }
    options = {name: str(value) for name, value in given.items() if value}
    asked = Asked(request.model, options, ("kimi", "serve"))
    show(result_lines(refused, asked, (), None, width(sys.stderr)), sys.stderr)
    raise typer.Exit(FAILED)


def _done(server: Server, code: int, as_json: bool) -> int:
    if as_json:
        from kimi_cli.frontends.serve.server_view import server_fields
        from kimi_cli.serve import state

        print(json_line(server_fields(state.look(server.folder) or server)))
    return code


@contextmanager
def _told(as_json: bool) -> Iterator[None]:
    """Say why nothing can be started, and end."""
    try:
        yield
    except NotReady as error:
        todo = "\n".join((error.todo, *(f"  {line}" for line in error.commands))).strip("\n")
        code = USAGE if error.kind in USAGE_KINDS else FAILED
        fail(error.kind, error.message, as_json, code, todo)
