"""The keeper and a program in vLLM's place: up, repaired, stopped, lost; and nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from kimi_cli.serve import client, starting, state, sweep
from kimi_cli.serve.book import Book
from kimi_cli.serve.facts import NodeCommand, Wish
from kimi_cli.serve.nodes import node_environment, sweep_node
from kimi_cli.serve.running import UP, Launch, Progress, Request, ServerState
from kimi_cli.serve.state import Server

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="vLLM and its keeper run on Linux")
ENGINE = Path(__file__).parent.parent / "support" / "fake_engine.py"
SECONDS = 60.0
Start = Callable[..., Server]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def a_launch(
    *behaviours: str, wish: Wish | None = None, extra: tuple[str, ...] = (), parser: str = "hermes"
) -> Launch:
    """A server of one node for each behaviour."""
    port = free_port()
    commands = tuple(
        NodeCommand(
            "localhost", rank, (sys.executable, str(ENGINE), behaviour, str(port), *extra), ()
        )
        for rank, behaviour in enumerate(behaviours)
    )
    request = Request("tiny", wish or Wish(), extra)
    place = ("127.0.0.1", port, "tiny", "/models/tiny")
    return Launch("tiny", request, commands, *place, 40_000, tool_parser=parser)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    ends: list[int] = []

    def begin(launch: Launch, *, attached: bool = False) -> Server:
        server, owner = starting.start(launch, tmp_path, dict(os.environ), attached=attached)
        if owner is not None:
            ends.append(owner)
            start.owner = owner  # type: ignore[attr-defined]
        return server

    start = begin
    yield begin
    for server in state.list_servers(tmp_path):
        state.ask_stop(server, now=True)
        assert state.stopped(server, SECONDS)
        assert left(server) == []


def until(server: Server, there: Callable[[ServerState], bool]) -> ServerState:
    deadline = time.monotonic() + SECONDS
    while not there(now := state.read(server.folder)):
        assert time.monotonic() < deadline, (now, server.log.read_text())
        time.sleep(0.02)
    return now


def up(server: Server) -> ServerState:
    return until(server, lambda now: now.progress.stage in UP)


def over(server: Server) -> ServerState:
    assert state.stopped(server, SECONDS)
    return state.read(server.folder)


def left(server: Server) -> list[sweep.Proc]:
    """What still runs of a server, as far as anything tells."""
    return [*state.read_processes(server.folder), *sweep.marked(server.state.id)]


def test_it_is_ready_when_it_was_proved(start: Start, tmp_path: Path) -> None:
    server = start(a_launch("serves"))
    now = up(server)
    assert now.progress.stage == "ready", now.checks
    assert [(check.name, check.ok) for check in now.checks] == [("chat", True), ("tool call", True)]
    assert now.context == 4242
    assert now.started <= (now.answered or 0) <= (now.ready or 0)
    # The head and its worker, which says nothing of itself.
    assert len(state.read_processes(server.folder)) == 2
    assert state.find_server(tmp_path).alive
    assert server.key
    assert server.key not in (server.folder / state.STATE).read_text()
    assert server.key not in (server.folder / state.LAUNCH).read_text()


def test_without_a_tool_parser_it_is_limited(start: Start) -> None:
    now = up(start(a_launch("serves", parser="")))
    assert now.progress.stage == "limited"
    assert [(check.name, check.ok) for check in now.checks] == [
        ("chat", True),
        ("tool call", False),
    ]


def test_a_stop_lets_the_server_end_by_itself(start: Start) -> None:
    server = start(a_launch("serves"))
    up(server)
    state.ask_stop(server)
    assert over(server).progress.stage == "stopped"
    assert "ended well" in server.log.read_text()
    assert left(server) == []


def test_the_key_stays_from_start_to_start(start: Start) -> None:
    keys = []
    for _ in range(2):
        server = start(a_launch("loads"))
        keys.append(server.key)
        state.ask_stop(server)
        assert state.stopped(server, SECONDS)
    assert keys[0] == keys[1] != ""


def test_a_second_wish_to_stop_waits_for_nothing(start: Start) -> None:
    server = start(a_launch("slow to end"))
    up(server)
    state.ask_stop(server)
    until(server, lambda now: now.progress.stage == "stopping")
    assert not state.stopped(server, 0.5)
    state.ask_stop(server)
    assert over(server).progress.stage == "stopped"
    assert left(server) == []


def test_a_load_is_stopped(start: Start) -> None:
    server = start(a_launch("loads"))
    until(server, lambda now: now.keeper_pid > 0)
    state.ask_stop(server)
    assert over(server).progress.stage == "stopped"
    assert left(server) == []


def test_it_ends_with_whoever_holds_it(start: Start) -> None:
    server = start(a_launch("serves"), attached=True)
    up(server)
    os.close(start.owner)  # type: ignore[attr-defined]
    assert over(server).progress.stage == "stopped"
    assert left(server) == []


def test_a_context_without_room_is_made_smaller(start: Start) -> None:
    server = start(a_launch("no room"))
    now = up(server)
    assert [dict(repair.set) for repair in now.repairs] == [{"--max-model-len": "20000"}]
    assert now.notes == (now.repairs[0].why,)
    assert now.trouble is None
    assert now.launch.commands[0].argv[-2:] == ("--max-model-len", "20000")


@pytest.mark.parametrize("extra", [(), ("--max-model-len=40000",), ("--max_model_len", "40000")])
def test_what_the_user_set_is_not_repaired(start: Start, extra: tuple[str, ...]) -> None:
    wish = Wish() if extra else Wish(context=40_000)
    server = start(a_launch("no room", wish=wish, extra=extra))
    now = over(server)
    assert now.progress.stage == "failed"
    assert now.repairs == ()
    assert now.trouble
    assert "20,000" in now.trouble.what + now.trouble.todo


def test_a_start_that_fails_says_the_cause(start: Start) -> None:
    server = start(a_launch("dies"))
    now = over(server)
    assert now.progress.stage == "failed"
    assert now.trouble
    assert "something that nobody has seen before" in now.trouble.evidence
    assert left(server) == []


def test_a_program_that_is_gone_is_no_fault_of_the_keeper(start: Start) -> None:
    launch = a_launch("serves")
    command = replace(launch.commands[0], argv=("/no/such/vllm", "serve"))
    now = over(start(replace(launch, commands=(command,))))
    assert now.progress.stage == "failed"
    assert now.trouble
    assert now.trouble.kind == "start"
    assert "/no/such/vllm can't be started on localhost: No such file" in now.trouble.what


def test_what_can_not_be_written_is_written_later(tmp_path: Path) -> None:
    launch = a_launch("serves")
    now = time.time()
    state.write(tmp_path, ServerState("ab", launch, 0, now, Progress("starting", now)))
    book = Book(tmp_path)
    mine = sweep.process(os.getpid())
    assert mine
    # As on a full disk, no new file can be made.
    blocks = [tmp_path / f".{name}.{os.getpid()}" for name in (state.STATE, state.PROCESSES)]
    for block in blocks:
        block.mkdir()
    book.begin()
    book.note(lambda: [mine], now=True)
    book.say("ready")
    assert state.read(tmp_path).keeper_pid == 0
    for block in blocks:
        block.rmdir()
    book.note(lambda: [mine], now=True)
    assert state.read(tmp_path) == book.state
    assert book.state.progress.stage == "ready"
    assert state.read_processes(tmp_path) == [mine]


def test_what_lies_beside_vllm_is_found_first() -> None:
    command = NodeCommand("localhost", 0, ("/opt/venv/bin/vllm", "serve"), ())
    env = node_environment(command, "ab", "key", {"PATH": "/usr/bin", "KIMI_API_KEY": "sk"})
    assert env == {
        "PATH": "/opt/venv/bin:/usr/bin",
        "VLLM_API_KEY": "key",
        sweep.MARK: "ab",
        "PYTHONUNBUFFERED": "1",
    }


def until_there(path: Path) -> None:
    deadline = time.monotonic() + SECONDS
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_ssh_that_hangs_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = tmp_path / "pid"
    program = tmp_path / "ssh"
    program.write_text(
        f"#!/bin/sh\necho $$ >{noted}.part && mv {noted}.part {noted}\nexec sleep 600\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    async def sweep_and_give_up() -> None:
        work = asyncio.ensure_future(sweep_node(NodeCommand("gpu2", 1, ("vllm",), ()), "ab"))
        await asyncio.to_thread(until_there, noted)
        work.cancel()
        await asyncio.wait([work])

    asyncio.run(sweep_and_give_up())
    pid = int(noted.read_text())
    deadline = time.monotonic() + SECONDS
    while sweep.process(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_server_that_dies_is_told_of(start: Start) -> None:
    server = start(a_launch("serves"))
    keeper = up(server).keeper_pid
    head = next(proc for proc in sweep.marked(server.state.id) if proc.pid != keeper)
    os.kill(head.pid, signal.SIGKILL)
    now = over(server)
    assert now.progress.stage == "failed"
    assert now.trouble
    assert left(server) == []


def test_one_lost_node_ends_all(start: Start) -> None:
    server = start(a_launch("serves", "other node"))
    up(server)
    second = next(proc for proc in sweep.marked(server.state.id) if title(proc) == "other node")
    os.kill(second.pid, signal.SIGKILL)
    now = over(server)
    assert now.trouble
    assert now.trouble.what.startswith("node 1 (localhost) ended")
    assert left(server) == []


def test_without_its_keeper_a_server_ends(start: Start, tmp_path: Path) -> None:
    server = start(a_launch("serves"))
    now = up(server)
    os.kill(now.keeper_pid, signal.SIGKILL)
    assert state.stopped(server, SECONDS)
    lost = state.find_server(tmp_path)
    assert lost.state.trouble
    assert lost.state.trouble.kind == "lost"
    # The head was told by the kernel; its worker does not listen, and is found all the same.
    assert state.sweep_dead(lost) == []
    assert left(server) == []
    with pytest.raises(client.NoAnswer):
        client.ask(now.base_url, "/health")


def test_the_port_is_held_as_long_as_the_keeper_lives(start: Start, tmp_path: Path) -> None:
    from kimi_cli.serve.ports import PortTaken, take

    launch = a_launch("loads")
    _, lock = take(tmp_path, launch.port, exact=True)
    server, _ = starting.start(launch, tmp_path, dict(os.environ), port_lock=lock)
    os.close(lock)
    with pytest.raises(PortTaken):
        take(tmp_path, launch.port, exact=True)
    state.ask_stop(server)
    assert state.stopped(server, SECONDS)
    _, lock = take(tmp_path, launch.port, exact=True)
    os.close(lock)


def title(proc: sweep.Proc) -> str:
    words = Path(f"/proc/{proc.pid}/cmdline").read_bytes().split(b"\0")
    return words[2].decode() if len(words) > 2 else ""
