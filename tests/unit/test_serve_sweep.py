"""Finding and ending the processes of a server, with real ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kimi_cli.serve import sweep

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="vLLM and its keeper run on Linux")

STUBBORN = "import signal,time; signal.signal(15, signal.SIG_IGN); print('on', flush=True)"
# As vLLM's engines do: a session of its own, and an environment that says nothing.
HIDDEN = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; print('on', flush=True); \
time.sleep(600)"], env={}, start_new_session=True)
os._exit(0)
"""


@pytest.fixture
def begun() -> Iterator[list[subprocess.Popen[bytes]]]:
    processes: list[subprocess.Popen[bytes]] = []
    yield processes
    for process in processes:
        process.kill()
        process.wait()


def begin(
    begun: list[subprocess.Popen[bytes]], code: str, env: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """A Python program that has said that it is up."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        env={**os.environ, **(env or {})},
    )
    begun.append(process)
    assert process.stdout
    assert process.stdout.readline() == b"on\n"
    return process


def test_a_process_is_known_by_its_number_and_its_start() -> None:
    mine = sweep.process(os.getpid())
    assert mine is not None
    assert sweep.runs(mine)
    assert not sweep.runs(mine._replace(started=mine.started + 1))
    assert sweep.process(2**22 + 1) is None


def test_whoever_carries_the_mark_is_found(begun: list[subprocess.Popen[bytes]]) -> None:
    code = "import time; print('on', flush=True); time.sleep(600)"
    mine = begin(begun, code, {sweep.MARK: "abc"})
    begin(begun, code, {sweep.MARK: "abcd"})
    begin(begun, code)
    assert [proc.pid for proc in sweep.marked("abc")] == [mine.pid]


def test_what_ignores_the_wish_to_end_is_killed(begun: list[subprocess.Popen[bytes]]) -> None:
    process = begin(begun, f"{STUBBORN}; time.sleep(600)", {sweep.MARK: "stubborn"})
    assert sweep.end(lambda: sweep.marked("stubborn"), 0.2) == []
    assert process.wait() == -signal.SIGKILL


def test_what_ends_by_itself_is_not_killed(begun: list[subprocess.Popen[bytes]]) -> None:
    code = "import signal,sys,time; signal.signal(15, lambda *a: sys.exit(7)); print('on', flush=1)"
    process = begin(begun, f"{code}; time.sleep(600)", {sweep.MARK: "polite"})
    assert sweep.end(lambda: sweep.marked("polite"), 20) == []
    assert process.wait() == 7


def test_only_the_very_process_is_ended(begun: list[subprocess.Popen[bytes]]) -> None:
    process = begin(begun, "import time; print('on', flush=True); time.sleep(600)")
    found = sweep.process(process.pid)
    assert found is not None
    # The number of one that ended long ago, which this process has got since.
    assert sweep.end(lambda: [found._replace(started=found.started - 1)], 0.1) == []
    assert process.poll() is None


def test_orphans_without_a_mark_stay_below_the_keeper(tmp_path: Path) -> None:
    keeper = f"""
import os, subprocess, sys
from kimi_cli.serve import sweep
sweep.adopt_orphans()
subprocess.run([sys.executable, "-c", {HIDDEN!r}], stdout=subprocess.DEVNULL)
below = sweep.descendants(os.getpid())
print(len(below), sweep.end(lambda: sweep.descendants(os.getpid()), 5), flush=True)
print(len(sweep.descendants(os.getpid())))
"""
    ran = subprocess.run([sys.executable, "-c", keeper], capture_output=True, text=True, timeout=60)
    assert ran.stdout == "1 []\n0\n", ran.stderr


def test_a_child_ends_with_its_parent(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    parent = f"""
import subprocess, time
from kimi_cli.serve import sweep
child = subprocess.Popen(["sleep", "600"], preexec_fn=sweep.dies_with_parent())
open({str(told)!r}, "w").write(str(child.pid))
print("on", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"on\n"
        child = sweep.process(int(told.read_text()))
        assert child is not None
        process.kill()
    deadline = time.monotonic() + 30
    while sweep.runs(child):
        assert time.monotonic() < deadline
        time.sleep(0.02)
