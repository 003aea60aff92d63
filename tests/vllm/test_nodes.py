"""One model over two nodes: two processes of vLLM that find each other over the loopback."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.real_vllm import END_SECONDS, UP, Serving, free_port, until

pytestmark = [pytest.mark.long, pytest.mark.vllm]
NAME = "both"
HOSTS = ("127.0.0.1", "localhost")


def test_two_nodes_and_the_loss_of_one(kimi: Serving, scripted: Path) -> None:
    nodes = ["--nodes", ",".join(HOSTS), "--tensor-parallel", "2", "--spans"]
    args = ["serve", str(scripted), "--name", NAME, "--port", str(free_port()), *nodes]
    running = kimi.start(*args)
    kimi.until_up(running, NAME)
    # Each node has half of each matrix: only what both have summed up is the right call.
    assert kimi.stage(NAME) == "ready", running.out
    status = kimi("serve", "status", NAME, "--json")
    assert status.code == 0, status.out + status.err
    assert status.json()["answers"]
    ranks = [_argument(one.pid, "--node-rank") for one in kimi.processes()]
    assert {rank for rank in ranks if rank} == {"0", "1"}
    second = next(one for one in kimi.processes() if _argument(one.pid, "--node-rank") == "1")

    os.kill(second.pid, signal.SIGKILL)
    until(lambda: kimi.stage(NAME) not in UP, "word of the loss", END_SECONDS)
    run = running.end(END_SECONDS)
    assert run.code == 1
    assert not kimi.remains()
    server = kimi.server(NAME)
    assert server["state"] == "failed"
    message = server["error"]["message"]
    assert "node 1" in message and HOSTS[1] in message
    assert " ".join(message.split()) in " ".join(run.out.split())


def _argument(pid: int, name: str) -> str:
    """What follows an argument of a process; "" when it has none such."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
    except (OSError, UnicodeDecodeError):
        return ""
    return words[words.index(name) + 1] if name in words else ""
