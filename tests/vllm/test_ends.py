"""Servers that end before their time: whoever is killed, nothing is left and it is told why."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.real_vllm import (
    END_SECONDS,
    START_SECONDS,
    Process,
    Serving,
    free_port,
    process_of,
    until,
)
from tests.support.tty import Tty

pytestmark = [pytest.mark.long, pytest.mark.vllm]
NAME = "one"


@pytest.fixture
def port() -> int:
    return free_port()


def arguments(model: Path, port: int) -> list[str]:
    return ["serve", str(model), "--name", NAME, "--port", str(port)]


class Foreground(NamedTuple):
    kimi: Serving
    tty: Tty


@pytest.fixture
def foreground(kimi: Serving, scripted: Path, port: int) -> Iterator[Foreground]:
    """A start in a terminal."""
    with Tty(kimi, *arguments(scripted, port), columns=100) as tty:
        yield Foreground(kimi, tty)


def ended(tty: Tty) -> int:
    """The exit code of what ran in a terminal."""
    until(lambda: not tty.process.isalive(), "end of it")
    assert tty.process.exitstatus is not None, tty.text
    return int(tty.process.exitstatus)


def test_ctrl_c_while_it_loads(foreground: Foreground) -> None:
    kimi, tty = foreground
    until(kimi.engine, "engine", START_SECONDS)
    tty.press("ctrl-c")
    assert ended(tty) in (0, 130)
    assert not kimi.remains()
    assert kimi.server(NAME)["state"] == "stopped"
    assert "stopped" in tty.text


def test_ready_in_the_foreground_and_ctrl_c(foreground: Foreground, port: int) -> None:
    kimi, tty = foreground
    tty.wait(f"ready on http://127.0.0.1:{port}/v1", START_SECONDS)
    assert "✓ chat · ✓ tool call · ready" in tty.text
    assert kimi.stage(NAME) == "ready"
    assert "✓ start vLLM" in tty.text
    tty.wait_shown("ctrl-c stops")
    tty.press("ctrl-c")
    assert ended(tty) == 0
    assert not kimi.remains()
    assert kimi.server(NAME)["state"] == "stopped"


def test_the_engine_is_killed(kimi: Serving, model: Path, port: int) -> None:
    running = kimi.start(*arguments(model, port))
    kimi.until_up(running, NAME)
    (engine, *_) = kimi.engine()
    os.kill(engine.pid, signal.SIGKILL)
    run = running.end(END_SECONDS)
    assert run.code == 1
    assert not kimi.remains()
    server = kimi.server(NAME)
    assert server["state"] == "failed" and not server["alive"]
    message = " ".join(server["error"]["message"].split())
    assert message in " ".join(run.out.split())
    assert server["error"]["todo"] and "Traceback" not in run.out + run.err


def test_whoever_looks_on_is_killed(kimi: Serving, model: Path, port: int) -> None:
    running = kimi.start(*arguments(model, port))
    running.until(kimi.engine, "engine", START_SECONDS)
    # Alone: what it started is in groups of its own.
    running.signal(signal.SIGKILL)
    running.end()
    assert not kimi.remains(END_SECONDS)
    assert kimi.server(NAME)["state"] == "stopped"


def test_a_terminal_that_is_closed(foreground: Foreground) -> None:
    kimi, tty = foreground
    until(kimi.engine, "engine", START_SECONDS)
    tty.process.close(force=False)
    assert not kimi.remains(END_SECONDS)
    assert kimi.server(NAME)["state"] == "stopped"


def test_the_keeper_is_killed(kimi: Serving, model: Path, port: int) -> None:
    """What it kept is still there to be found, and nobody else's processes are taken for it."""
    start = kimi(*arguments(model, port), "--detach", "--no-wait", deadline=START_SECONDS)
    assert start.code == 0, start.err
    until(kimi.engine, "engine", START_SECONDS)
    # The keeper notes what it has started every two seconds.
    noted = kimi.home / "servers" / NAME / "processes"
    (engine, *_) = kimi.engine()
    until(lambda: f"{engine.pid} " in noted.read_text(), "engine among what is noted")
    os.kill(kimi.server(NAME)["pid"], signal.SIGKILL)
    until(lambda: not kimi.server(NAME)["alive"], "end of the keeper")
    lost = kimi.server(NAME)
    assert (lost["state"], lost["error"]["kind"]) == ("failed", "lost")
    assert "kimi serve stop" in lost["error"]["todo"]
    assert kimi("serve", "status", NAME).code == 1
    stop = kimi("serve", "stop", NAME, deadline=END_SECONDS)
    assert stop.code == 0, stop.out + stop.err
    assert not kimi.remains()

    with _bystander() as stranger:
        mine = process_of(stranger.pid)
        assert mine
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        for text in (
            # The number belongs to another process by now.
            f"{boot}\n{mine.pid} {mine.started - 1}",
            # All of it was noted before the computer was started anew.
            f"{boot[::-1]}\n{mine.pid} {mine.started}",
        ):
            noted.write_text(text)
            (noted.parent / "lock").write_text(f"{stranger.pid}\n")
            assert kimi("serve", "stop", NAME).code == 0
            assert _lives(mine)
            assert not kimi.server(NAME)["alive"]


def _bystander() -> subprocess.Popen[bytes]:
    # Reads to the end of its input, which comes with the end of the block.
    return subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)


def _lives(process: Process) -> bool:
    return process_of(process.pid) == process
