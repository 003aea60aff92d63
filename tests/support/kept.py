"""Servers on disk without vLLM: what a keeper writes, and a process that holds its lock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from kimi_cli.serve import state
from kimi_cli.serve.running import Launch, Progress, Request, ServerState, Stage
from kimi_cli.serve.state import Server

HOLDER = """
import fcntl, os, signal, sys, time
from dataclasses import replace
from pathlib import Path
from kimi_cli.serve import state
from kimi_cli.serve.running import Progress

folder, deaf = Path(sys.argv[1]), sys.argv[2] == "deaf"
lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(lock, fcntl.LOCK_EX)
os.write(lock, f"{os.getpid()}\\n".encode())

def stop(number, frame):
    if deaf:
        return
    now = time.time()
    old = state.read(folder)
    state.write(folder, replace(old, progress=Progress("stopped", now), ended=now))
    sys.exit()

signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGQUIT, stop)
print("held", flush=True)
while True:
    time.sleep(1)
"""
"""What a keeper is to those who look: it holds the lock and obeys signals, or is deaf to them."""


def launch(name: str = "tiny", *, port: int = 8000) -> Launch:
    """A launch that nothing is started from."""
    return Launch(
        name=name,
        request=Request(f"/models/{name}", name=name),
        commands=(),
        host="127.0.0.1",
        port=port,
        served_name=name,
        repo=f"/models/{name}",
        context=32_768,
        title=f"{name} · CPU 16 GiB · 32k context",
        about="weights 0.1 GiB of memory",
    )


def mark(name: str) -> str:
    """What marks the processes of a server that this run of the tests makes, and no other run."""
    return f"id-{name}-{os.getpid()}"


def put(
    home: Path, stage: Stage, name: str = "tiny", *, port: int = 8000, log: bytes = b""
) -> Path:
    """A server as its keeper last wrote it; nobody keeps it. Returns its folder."""
    folder = home / "servers" / name
    folder.mkdir(parents=True, mode=0o700)
    now = time.time()
    over = now if stage in ("stopped", "failed") else None
    made = ServerState(mark(name), launch(name, port=port), 0, now - 60, Progress(stage, now))
    state.write(folder, replace(made, ended=over))
    (folder / "key").write_text("kimi-secret")
    (folder / "lock").touch()
    (folder / state.LOG).write_bytes(log)
    return folder


@contextmanager
def kept(folder: Path, *, deaf: bool = False) -> Iterator[Server]:
    """The server of a folder while somebody holds its lock."""
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), "deaf" if deaf else "hears"],
        stdout=subprocess.PIPE,
    )
    assert holder.stdout
    try:
        assert holder.stdout.readline() == b"held\n"
        state.write(folder, replace(state.read(folder), keeper_pid=holder.pid))
        server = state.look(folder)
        assert server and server.alive
        yield server
    finally:
        holder.kill()
        holder.wait()
        holder.stdout.close()
