"""Nodes over ssh: what is run there, that it ends, and what is found out beforehand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from string import ascii_letters, digits

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.serve.catalogue import find_model
from kimi_cli.serve.facts import EnvVar, NodeCommand, Plan
from kimi_cli.serve.find_nodes import Nodes, find_nodes
from kimi_cli.serve.planner import plan
from kimi_cli.serve.remote import (
    BadHost,
    NoSsh,
    check_host,
    is_here,
    ssh_argv,
    ssh_trouble,
    sweep_argv,
)
from kimi_cli.serve.sweep import marked
from tests.support import gpu_programs
from tests.support.ssh import StandIn

SYSTEM = "/usr/bin:/bin"
SECRET = 'it\'s a "key" $HOME'

WORKER = """\
#!{python} -u
# Stands for vLLM: a child of its own, and both write over their environment as setproctitle does.
import ctypes, os, signal, sys, time
place = int(open("/proc/self/stat").read().rsplit(") ", 1)[1].split()[47])
end = int(open("/proc/self/stat").read().rsplit(") ", 1)[1].split()[48])
ctypes.memset(place, 0, end - place)
stubborn = "stubborn" in sys.argv
def leave(*_):
    print("told")
    if not stubborn:
        os.kill(child, signal.SIGKILL)
        os._exit(3)
signal.signal(signal.SIGTERM, leave)
child = os.fork()
if not child:
    while True: time.sleep(60)
print("argv", sys.argv[1:])
print("env", {{name: os.environ.get(name) for name in {names!r}}})
print("pids", os.getpid(), child)
if "fail" in sys.argv:
    os.kill(child, signal.SIGKILL)
    sys.exit(7)
while True: time.sleep(60)
"""
NAMES = ("A_B", "VLLM_API_KEY", "KIMI_SERVER_ID", "HOME", "FROM_HERE")


@pytest.fixture
def stand_in(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path / "ssh")


@pytest.fixture
def env(stand_in: StandIn) -> dict[str, str]:
    return {**os.environ, "PATH": f"{stand_in.bin}:{os.environ['PATH']}", "FROM_HERE": "yes"}


@pytest.fixture
def worker(tmp_path: Path) -> str:
    path = tmp_path / "a folder" / "vllm"
    path.parent.mkdir()
    path.write_text(WORKER.format(python=sys.executable, names=NAMES))
    path.chmod(0o755)
    return str(path)


@contextmanager
def started(
    command: NodeCommand, server_id: str, env: dict[str, str], *, grace: int = 600
) -> Iterator[subprocess.Popen[bytes]]:
    argv, given = ssh_argv(command, server_id, SECRET, env, grace=grace)
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT, env=env) as run:
        assert run.stdin and run.stdout
        run.stdin.write(given)
        run.stdin.flush()
        try:
            yield run
        finally:
            run.kill()


def line(run: subprocess.Popen[bytes], start: str) -> str:
    assert run.stdout
    for raw in run.stdout:
        if raw.decode().startswith(start + " "):
            return raw.decode()[len(start) :].strip()
    raise AssertionError(f"nothing began with {start}")


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except OSError:
        return False


def until(done: Callable[[], bool]) -> None:
    """Waits, by doing something that takes a while, until it is so."""
    for _ in range(400):
        if done():
            return
        subprocess.run([sys.executable, "-c", "0"], check=True)
    raise AssertionError("it never came to be")


def unique(tmp_path: Path) -> str:
    return f"{tmp_path.parent.name}-{tmp_path.name}-{os.getpid()}"


# --- names ---


@pytest.mark.parametrize("host", ["gpu1", "me@gpu1", "10.0.0.7", "fe80::1", "a_b.c-d", "me@::1"])
def test_names_of_hosts(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize(
    "host",
    [
        "",
        "-oProxyCommand=x",
        "me@-x",
        "a b",
        "a;b",
        "$(a)",
        "a\nb",
        "gpu1:22",
        "a/b",
        "@a",
        "a@",
        "é",
    ],
)
def test_what_is_no_name_of_a_host(host: str) -> None:
    with pytest.raises(BadHost):
        check_host(host)


@given(st.text(max_size=30))
def test_no_name_is_an_option_or_means_something_to_a_shell(text: str) -> None:
    try:
        check_host(text)
    except BadHost:
        return
    assert text[0] != "-" and "@-" not in text
    assert not set(text) - {*ascii_letters, *digits, *"_.:@%+-"}


def test_this_computer() -> None:
    for host in ("localhost", "127.0.0.1", "127.0.0.9", "::1", os.uname().nodename):
        if host != "::1" or Path("/proc/net/if_inet6").exists():
            assert is_here(host), host
    for host in ("node-b", "192.0.2.77", "someone@localhost", "localhost.example.org"):
        assert not is_here(host), host


# --- running ---


def test_a_command_runs_with_its_arguments_and_environment(
    stand_in: StandIn, env: dict[str, str], worker: str, tmp_path: Path
) -> None:
    stand_in.host("node-b", SYSTEM, home=str(tmp_path))
    words = ("serve", "it's", '{"a": "b c"}', "$HOME", "*", "", "-x")
    command = NodeCommand(
        "node-b", 1, (worker, *words), (EnvVar("A_B", "x y'z", ""), EnvVar("S", "", "", True))
    )
    server = unique(tmp_path)
    with started(command, server, env) as run:
        assert line(run, "argv") == str(list(words))
        shown = eval(line(run, "env"))
    assert shown == {
        "A_B": "x y'z",
        "VLLM_API_KEY": SECRET,
        "KIMI_SERVER_ID": server,
        "HOME": str(tmp_path),
        "FROM_HERE": None,
    }
    until(lambda: not marked(server))
    (call,) = stand_in.calls()
    assert call["host"] == "node-b"
    assert "a key" not in str(call) and "A_B" not in str(call)


def test_the_exit_code_comes_back(
    stand_in: StandIn, env: dict[str, str], worker: str, tmp_path: Path
) -> None:
    stand_in.host("node-b", SYSTEM)
    with started(NodeCommand("node-b", 1, (worker, "fail"), ()), unique(tmp_path), env) as run:
        assert run.wait(60) == 7


def test_no_such_program_there(stand_in: StandIn, env: dict[str, str], tmp_path: Path) -> None:
    stand_in.host("node-b", SYSTEM)
    gone = NodeCommand("node-b", 1, ("no-such-vllm", "serve"), ())
    with started(gone, unique(tmp_path), env) as run:
        assert run.stdout
        assert b"no-such-vllm" in run.stdout.read()
        assert run.wait(60) == 127


@pytest.mark.parametrize("way", ["stdin is closed", "ssh is killed", "at once"])
def test_it_ends_with_its_connection(
    way: str, stand_in: StandIn, env: dict[str, str], worker: str, tmp_path: Path
) -> None:
    stand_in.host("node-b", SYSTEM)
    server = unique(tmp_path)
    with started(NodeCommand("node-b", 1, (worker,), ()), server, env) as run:
        assert run.stdin
        if way == "at once":
            run.stdin.close()
            assert run.wait(60) in (3, 143)
        else:
            pids = [int(pid) for pid in line(run, "pids").split()]
            if way == "ssh is killed":
                run.kill()
            run.stdin.close()
            if way == "stdin is closed":
                assert run.wait(60) == 3
            until(lambda: not any(map(runs, pids)))
    until(lambda: not marked(server))


def test_what_does_not_listen_is_killed(
    stand_in: StandIn, env: dict[str, str], worker: str, tmp_path: Path
) -> None:
    stand_in.host("node-b", SYSTEM)
    command = NodeCommand("node-b", 1, (worker, "stubborn"), ())
    with started(command, unique(tmp_path), env, grace=1) as run:
        pids = [int(pid) for pid in line(run, "pids").split()]
        assert run.stdin
        run.stdin.close()
        assert run.wait(60) == 137
        assert not any(map(runs, pids))


def test_a_sweep_ends_what_was_started_there_and_nothing_else(
    stand_in: StandIn, env: dict[str, str], worker: str, tmp_path: Path
) -> None:
    for host in ("node-b", "node-c"):
        stand_in.host(host, SYSTEM)
    mine, other = unique(tmp_path), unique(tmp_path) + "-other"
    bystander = subprocess.Popen(["sleep", "600"], env={**env, "KIMI_SERVER_ID": mine})
    try:
        with (
            started(NodeCommand("node-b", 1, (worker,), ()), mine, env) as swept,
            started(NodeCommand("node-c", 2, (worker,), ()), mine, env) as elsewhere,
            started(NodeCommand("node-b", 1, (worker,), ()), other, env) as another,
        ):
            pids = [int(pid) for pid in line(swept, "pids").split()]
            kept = [int(p) for run in (elsewhere, another) for p in line(run, "pids").split()]
            argv = sweep_argv("node-b", mine, env)
            subprocess.run(argv, env=env, stdin=subprocess.DEVNULL, check=True, timeout=60)
            assert swept.wait(60) == 3
            assert not any(map(runs, pids))
            assert all(map(runs, kept))
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()
    until(lambda: not marked(mine) and not marked(other))


def test_no_ssh(tmp_path: Path) -> None:
    with pytest.raises(NoSsh):
        sweep_argv("node-b", "abc", {"PATH": str(tmp_path)})
    found = find_nodes(["node-b"], {"PATH": str(tmp_path)})
    assert [problem.kind for problem in found.problems] == ["no-ssh"]


def test_an_id_is_no_pattern() -> None:
    with pytest.raises(ValueError, match="no id"):
        sweep_argv("node-b", 'a" /; x')


# --- looking ---


def node(folder: Path, count: int = 8, version: str = "0.33.0", **more: str) -> str:
    """PATH of a computer with GPUs and vLLM."""
    programs = folder / "bin"
    gpus = gpu_programs.query(count, **more)  # type: ignore[arg-type]
    gpu_programs.nvidia_smi(programs, gpus, topology=gpu_programs.matrix(count, "NV18"))
    if version:
        packages = folder / "venv/lib/python3.12/site-packages"
        (packages / f"vllm-{version}.dist-info").mkdir(parents=True)
        (packages / "vllm_flash_attn-2.6.dist-info").mkdir()
        (folder / "venv/bin").mkdir()
        (folder / "venv/bin/vllm").write_text("#!/bin/sh\nexit 1\n")
        (folder / "venv/bin/vllm").chmod(0o755)
        (programs / "vllm").symlink_to(folder / "venv/bin/vllm")
    return f"{programs}:{SYSTEM}"


def route(folder: Path, text: str) -> None:
    gpu_programs.program(folder / "bin", "ip", {"route get": text})


def kinds(found: Nodes) -> list[tuple[str, str]]:
    return [(problem.host, problem.kind) for problem in found.problems]


def test_two_nodes_make_a_machine_that_a_plan_runs_on(
    stand_in: StandIn, env: dict[str, str], tmp_path: Path
) -> None:
    for name, own in (("a", "10.9.0.1"), ("b", "10.9.0.2")):
        stand_in.host(f"node-{name}", node(tmp_path / name), address=own)
        other = "10.9.0.2" if name == "a" else "10.9.0.1"
        route(tmp_path / name, f"{other} dev ib0 src {own} uid 0 \\    cache \n")
    found = find_nodes(["node-a", "node-b"], env)
    assert not found.problems and found.machine
    assert found.versions == {"node-a": "0.33.0", "node-b": "0.33.0"}
    assert found.programs["node-b"] == str(tmp_path / "b/bin/vllm")
    result = plan(find_model("kimi-k2-instruct"), found.machine)
    assert isinstance(result, Plan)
    head, other_node = result.commands
    assert (head.host, other_node.host) == ("node-a", "node-b")
    for command, own in ((head, "10.9.0.1"), (other_node, "10.9.0.2")):
        assert command.argv[command.argv.index("--master-addr") + 1] == "10.9.0.1"
        shown = {one.name: one.value for one in command.environment}
        assert shown["VLLM_HOST_IP"] == own
        assert shown["GLOO_SOCKET_IFNAME"] == shown["NCCL_SOCKET_IFNAME"] == "ib0"
    assert not any("GLOO_SOCKET_IFNAME" in note for note in result.notes)
    # ssh asks nobody, and one connection a host is enough.
    assert sorted(str(call["host"]) for call in stand_in.calls()) == ["node-a", "node-b"]


def test_this_computer_and_another(stand_in: StandIn, env: dict[str, str], tmp_path: Path) -> None:
    env = {**env, "PATH": f"{stand_in.bin}:{node(tmp_path / 'here')}"}
    stand_in.host("node-b", node(tmp_path / "b"))
    found = find_nodes(["localhost", "node-b"], env)
    assert [str(call["host"]) for call in stand_in.calls()] == ["node-b"]
    assert found.programs["localhost"] == str(tmp_path / "here/bin/vllm")
    assert ("node-b", "gpu") not in kinds(found)


def test_gpus_of_amd(stand_in: StandIn, env: dict[str, str], tmp_path: Path) -> None:
    path = node(tmp_path / "a", version="0.33.0")
    (tmp_path / "a/bin/nvidia-smi").unlink()
    gpu_programs.amd_smi(tmp_path / "a/bin", 8)
    stand_in.host("node-a", path)
    found = find_nodes(["node-a"], env)
    assert found.machine and len(found.machine.nodes[0].gpus) == 8
    assert found.machine.nodes[0].vendor == "amd" and found.machine.nodes[0].nvlink


def test_what_keeps_nodes_from_working_together(
    stand_in: StandIn, env: dict[str, str], tmp_path: Path
) -> None:
    stand_in.host("node-a", node(tmp_path / "a"))
    stand_in.host("node-b", node(tmp_path / "b", version="0.32.1"))
    stand_in.host("node-c", node(tmp_path / "c", version=""), home=str(tmp_path))
    stand_in.host("node-d", SYSTEM)
    stand_in.broken("node-e", "me@node-e: Permission denied (publickey).")
    amd = node(tmp_path / "f")
    (tmp_path / "f/bin/nvidia-smi").unlink()
    gpu_programs.amd_smi(tmp_path / "f/bin", 8)
    stand_in.host("node-f", amd)
    hosts = [f"node-{name}" for name in "abcdefg"]
    found = find_nodes(hosts, env)
    assert found.machine is None
    assert set(kinds(found)) == {
        ("node-b", "version"),
        ("node-c", "vllm"),
        ("node-d", "gpu"),
        ("node-d", "vllm"),
        ("node-e", "login"),
        ("node-f", "mixed"),
        ("node-g", "unknown"),
    }
    words = {problem.host: problem for problem in found.problems}
    assert "0.32.1" in words["node-b"].words and "0.33.0" in words["node-b"].words
    assert "ssh-copy-id node-e" in words["node-e"].todo


def test_vllm_where_this_computer_has_it_and_the_weights(
    stand_in: StandIn, env: dict[str, str], tmp_path: Path
) -> None:
    stand_in.host("node-a", node(tmp_path / "a"))
    path = node(tmp_path / "b")
    (tmp_path / "b/bin/vllm").unlink()
    stand_in.host("node-b", path, home=str(tmp_path))
    program = str(tmp_path / "b/venv/bin/vllm")
    model = tmp_path / "my model"
    found = find_nodes(["node-a", "node-b"], env, vllm=program, folder=str(model))
    assert kinds(found) == [("node-a", "weights"), ("node-b", "weights")]
    model.mkdir()
    (model / "config.json").write_text("{}")
    found = find_nodes(["node-a", "node-b"], env, vllm=program, folder=str(model))
    assert not found.problems
    assert found.programs["node-b"] == program and found.versions["node-b"] == "0.33.0"


def test_a_host_that_is_named_twice() -> None:
    with pytest.raises(BadHost, match="twice"):
        find_nodes(["node-a", "node-a"], {})


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("Host key verification failed.", "host-key"),
        ("@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.",
         "host-key"),
        ("me@gpu1: Permission denied (publickey,password).", "login"),
        ("ssh: Could not resolve hostname gpu1: Name or service not known", "unknown"),
        ("ssh: connect to host gpu1 port 22: Connection refused", "refused"),
        ("ssh: connect to host gpu1 port 22: Connection timed out", "unreachable"),
        ("ssh: connect to host gpu1 port 22: No route to host", "unreachable"),
        ("kex_exchange_identification: Connection closed by remote host", "ssh"),
        ("", "ssh"),
    ],
)  # fmt: skip
def test_the_failures_of_ssh_in_words(said: str, kind: str) -> None:
    found, words, todo = ssh_trouble("gpu1", said)
    assert found == kind
    assert "gpu1" in words and todo
