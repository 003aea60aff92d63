"""Ports that a server holds: real sockets, real locks, other processes."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from kimi_cli.serve.ports import PortTaken, listener, take


@contextmanager
def bound(host: str = "127.0.0.1", *, listens: bool = True, reuse: bool = False) -> Iterator[int]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as taken:
        if reuse:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind((host, 0))
        if listens:
            taken.listen()
        yield taken.getsockname()[1]


@pytest.fixture
def held() -> Iterator[ExitStack]:
    """Closes the descriptors that a test took."""
    with ExitStack() as stack:
        yield stack


def hold(held: ExitStack, home: Path, port: int, exact: bool, **more: str) -> int:
    number, lock = take(home, port, exact, **more)
    held.callback(os.close, lock)
    return number


def free_port() -> int:
    with bound(listens=False) as port:
        return port


def test_a_free_port_is_held_until_the_descriptor_is_closed(tmp_path: Path) -> None:
    port = free_port()
    number, lock = take(tmp_path, port, True, name="kimi-k2.5")
    assert number == port
    with pytest.raises(PortTaken, match=rf"port {port} is held by the server kimi-k2\.5 of kimi"):
        take(tmp_path, port, True)
    os.close(lock)
    number, lock = take(tmp_path, port, True)
    os.close(lock)
    assert number == port


def test_a_child_goes_on_holding_it(tmp_path: Path, held: ExitStack) -> None:
    port = free_port()
    _, lock = take(tmp_path, port, True)
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock]
    )
    os.close(lock)
    try:
        with pytest.raises(PortTaken, match="held by"):
            take(tmp_path, port, True)
    finally:
        child.communicate(b"\n")
    assert hold(held, tmp_path, port, True) == port


def test_other_programs_do_not_inherit_it(tmp_path: Path, held: ExitStack) -> None:
    port = free_port()
    _, lock = take(tmp_path, port, True)
    assert not os.get_inheritable(lock)
    os.close(lock)


def test_the_next_port_is_taken_unless_it_was_asked_for(tmp_path: Path, held: ExitStack) -> None:
    with bound() as port:
        with pytest.raises(PortTaken, match=f"port {port} is in use"):
            take(tmp_path, port, True)
        found = hold(held, tmp_path, port, False)
        assert port < found < port + 100
        # The one that is held now is passed over as well.
        assert hold(held, tmp_path, port, False) > found


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_who_listens_is_named(tmp_path: Path) -> None:
    with bound() as port:
        with pytest.raises(PortTaken, match=rf"in use by .+ \(pid {os.getpid()}\)"):
            take(tmp_path, port, True)
        assert re.fullmatch(rf".+ \(pid {os.getpid()}\)", listener(port))
    assert listener(port) == ""


@pytest.mark.parametrize("reuse", [False, True])
def test_a_port_bound_by_who_does_not_listen_yet_is_taken(tmp_path: Path, reuse: bool) -> None:
    # So is vLLM's, for the minutes that it loads.
    with bound(listens=False, reuse=reuse) as port, pytest.raises(PortTaken, match="in use"):
        take(tmp_path, port, True)


def test_every_address_counts(tmp_path: Path, held: ExitStack) -> None:
    with bound("0.0.0.0") as port, pytest.raises(PortTaken):
        take(tmp_path, port, True)
    with bound("127.0.0.1") as port, pytest.raises(PortTaken):
        take(tmp_path, port, True, host="0.0.0.0")
    with bound("127.0.0.1") as port, pytest.raises(PortTaken):
        take(tmp_path, port, True, host="localhost")


def test_connections_that_are_over_are_no_obstacle(tmp_path: Path, held: ExitStack) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            # Who closes first keeps the port in TIME_WAIT.
            accepted.close()
            assert client.recv(1) == b""
    with socket.socket() as probe, pytest.raises(OSError, match="in use"):
        probe.bind(("127.0.0.1", port))
    assert hold(held, tmp_path, port, True) == port


@pytest.mark.parametrize("port", [0, -1, 65_536, 10**9])
def test_what_is_no_port(tmp_path: Path, port: int) -> None:
    for exact in (True, False):
        with pytest.raises(PortTaken, match="is no port"):
            take(tmp_path, port, exact)


def test_the_last_ports_are_not_passed(tmp_path: Path, held: ExitStack) -> None:
    assert 65_535 >= hold(held, tmp_path, 65_500, False) >= 65_500


def test_an_address_of_another_computer(tmp_path: Path) -> None:
    # 192.0.2.0/24 is for documentation (RFC 5737): nobody has it.
    for host in ("192.0.2.1", "no such host.invalid", "a..b"):
        with pytest.raises(PortTaken, match="is no address of this computer"):
            take(tmp_path, free_port(), True, host=host)


def test_a_refused_port_leaves_no_descriptor_open(tmp_path: Path) -> None:
    with bound() as port:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            with pytest.raises(PortTaken):
                take(tmp_path, port, True)
        assert len(os.listdir("/proc/self/fd")) == before
