"""What is known of servers on disk, whoever ended and however."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kimi_cli.serve import state, sweep
from kimi_cli.serve.facts import NodeCommand
from kimi_cli.serve.running import Launch, Progress, Request, ServerState, Stage
from kimi_cli.serve.starting import ServerExists, start
from kimi_cli.serve.state import NoServer

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="vLLM and its keeper run on Linux")


def a_launch(name: str, port: int = 8000, model: str = "kimi-k2.5") -> Launch:
    command = NodeCommand("localhost", 0, ("vllm", "serve", model), ())
    request = Request(model, extra=("--x", "é"))
    return Launch(name, request, (command,), "127.0.0.1", port, model, f"org/{model}", 1000)


def made(home: Path, launch: Launch, stage: Stage = "ready", started: float = 0.0) -> Path:
    folder = state.servers_folder(home) / launch.name
    folder.mkdir(parents=True)
    state.write(folder, ServerState("ab12", launch, 1, started, Progress(stage, started)))
    (folder / state.LOCK).touch()
    return folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """The lock, as a keeper holds it."""
    with open(folder / state.LOCK, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    folder = made(tmp_path, a_launch("one"))
    was = state.read(folder)
    assert was.launch == a_launch("one")
    assert (folder / state.STATE).stat().st_mode & 0o777 == 0o600
    changed = replace(was, notes=("a", "b"), context=5)
    state.write(folder, changed)
    assert state.read(folder) == changed
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_server_without_a_keeper_is_lost(tmp_path: Path) -> None:
    folder = made(tmp_path, a_launch("one"), "ready")
    made(tmp_path, a_launch("two"), "stopped", started=5.0)
    with held(folder):
        (two, one) = state.list_servers(tmp_path)
        assert (one.alive, one.state.progress.stage) == (True, "ready")
        assert (two.alive, two.state.progress.stage) == (False, "stopped")
    one = state.list_servers(tmp_path)[1]
    assert (one.alive, one.state.progress.stage) == (False, "failed")
    assert one.state.trouble
    assert one.state.trouble.kind == "lost"


def test_no_folder_and_rubbish_are_no_servers(tmp_path: Path) -> None:
    assert state.list_servers(tmp_path) == []
    folder = made(tmp_path, a_launch("one"))
    (folder / state.STATE).write_text('{"half": ')
    (state.servers_folder(tmp_path) / "ports").mkdir()
    assert state.list_servers(tmp_path) == []


@pytest.mark.parametrize("name", ["one", "kimi-k2.5", "org/KIMI-K2.5", "8000"])
def test_a_server_is_found_by_any_of_its_names(tmp_path: Path, name: str) -> None:
    made(tmp_path, a_launch("one"))
    made(tmp_path, a_launch("two", 8001, "other"))
    assert state.find_server(tmp_path, name).name == "one"


def test_the_one_that_runs_is_meant(tmp_path: Path) -> None:
    with pytest.raises(NoServer, match="kimi serve MODEL"):
        state.find_server(tmp_path)
    one = made(tmp_path, a_launch("one"))
    assert state.find_server(tmp_path).name == "one"
    two = made(tmp_path, a_launch("two", 8001), started=1.0)
    # Where none runs, the last one.
    assert state.find_server(tmp_path).name == "two"
    with held(one), held(two), pytest.raises(NoServer, match="which one"):
        state.find_server(tmp_path)
    with pytest.raises(NoServer, match="no server is called 'three'; there are"):
        state.find_server(tmp_path, "three")
    with held(one):
        assert state.find_server(tmp_path).name == "one"
        assert state.find_server(tmp_path, "kimi-k2.5").name == "one"


def test_a_folder_is_known_however_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "models" / "m"
    model.mkdir(parents=True)
    (tmp_path / "link").symlink_to(model)
    made(tmp_path, replace(a_launch("one"), repo=str(model)))
    server = state.find_server(tmp_path)
    monkeypatch.chdir(tmp_path)
    for name in (f"{model}/", "models//m", "./models/m", "link"):
        assert state.means(server, name), name
    assert not state.means(server, "models")


def test_a_name_is_taken_as_long_as_its_keeper_lives(tmp_path: Path) -> None:
    folder = made(tmp_path, a_launch("one"))
    with held(folder), pytest.raises(ServerExists):
        start(a_launch("one"), tmp_path, dict(os.environ))


def test_processes_of_another_boot_are_not_ours(tmp_path: Path) -> None:
    mine = sweep.process(os.getpid())
    assert mine
    state.write_processes(tmp_path, [mine, mine._replace(started=1)])
    assert state.read_processes(tmp_path) == [mine]
    noted = tmp_path / state.PROCESSES
    noted.write_text(noted.read_text().replace(sweep.boot_id(), "another"))
    assert state.read_processes(tmp_path) == []
    noted.write_text("")
    assert state.read_processes(tmp_path) == []


def test_what_a_lost_keeper_left_is_ended_and_nothing_else(tmp_path: Path) -> None:
    folder = made(tmp_path, a_launch("one"))
    other = subprocess.Popen(["sleep", "600"])
    noted = subprocess.Popen(["sleep", "600"], env={})
    marked = subprocess.Popen(["sleep", "600"], env={sweep.MARK: "ab12"})
    try:
        procs = [sweep.process(one.pid) for one in (noted, other)]
        assert procs[0] and procs[1]
        # The second number belongs to somebody else by now.
        stale = procs[1]._replace(started=procs[1].started - 5)
        state.write_processes(folder, [procs[0], stale])
        server = state.find_server(tmp_path)
        with held(folder):
            assert state.sweep_dead(server) == []
            assert noted.poll() is None
        assert state.sweep_dead(server) == []
        assert noted.wait() == marked.wait() == -15
        assert other.poll() is None
    finally:
        for process in (other, noted, marked):
            process.kill()
            process.wait()


def test_nobody_is_signalled_where_the_keeper_is_gone(tmp_path: Path) -> None:
    folder = made(tmp_path, a_launch("one"))
    bystander = subprocess.Popen(["sleep", "600"])
    try:
        (folder / state.LOCK).write_text(f"{bystander.pid}\n")
        server = state.find_server(tmp_path)
        state.ask_stop(server)
        assert state.stopped(server, 0.0)
        time.sleep(0.1)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
