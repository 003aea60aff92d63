"""Figures of the interactive terminal, taken at the other end of a pseudo-terminal."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Iterator

import pexpect

from tests.benchmarks.figures import Row
from tests.benchmarks.rig import Place, Server, _kilobytes, kimi

PROMPT = "›".encode()
TOKENS = 3000
RATE = 200
KEYS = "QWZXJKV"
"""Letters that the streamed text does not hold."""


class Pty:
    """A terminal that only notes what came when (ns of the monotonic clock)."""

    def __init__(self, place: Place, base_url: str, *arguments: str) -> None:
        self.begun = time.monotonic_ns()
        self.process = pexpect.spawn(
            kimi(),
            [*arguments, "--dialect", "moonshot"],
            cwd=str(place.project),
            env={**place._environment(base_url), "TERM": "xterm-256color"},
            dimensions=(24, 80),
            timeout=None,
        )
        self.came: list[tuple[int, bytes]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self.process.child_fd, 65_536)
            except OSError:
                return
            if not data:
                return
            self.came.append((time.monotonic_ns(), data))

    def when(self, words: bytes, since: int = 0, deadline: float = 60.0) -> int:
        """When these bytes came, looking from the piece ``since`` on; waits for them."""
        end = time.monotonic() + deadline
        while time.monotonic() < end:
            for stamp, data in self.came[since:]:
                if words in data:
                    return stamp
            time.sleep(0.0005)
        raise RuntimeError(f"no {words!r} in {b''.join(d for _, d in self.came)[-2000:]!r}")

    def type(self, text: str) -> int:
        """Type; returns the moment."""
        now = time.monotonic_ns()
        os.write(self.process.child_fd, text.encode())
        return now

    def leave(self) -> None:
        self.type("\x04")
        self._thread.join(30)
        self.process.close(force=True)


def terminal(place: Place) -> Iterator[Row]:
    """Start, echo while the model streams, bytes for a streamed token."""
    with Server(place.folder) as server:
        starts, prompts = [], []
        for _ in range(8):
            pty = Pty(place, server.base_url)
            prompts.append((pty.when(PROMPT) - pty.begun) / 1e6)
            starts.append((pty.when(b"Type a task") - pty.begun) / 1e6)
            pty.leave()
        yield Row("start to prompt", _spread(prompts[1:]), "400 ms")
        yield Row("start to an open session", _spread(starts[1:]))
    with Server(place.folder, "--script", "prose", "--fragments", str(TOKENS)) as server:
        pty = Pty(place, server.base_url)
        pty.when(b"Type a task")
        idle = _echoes(pty, 40)
        pty.type("\x03")
        time.sleep(2.5)
        before = sum(len(data) for _, data in pty.came)
        pty.type("go\r")
        pty.when(b"calm", since=len(pty.came) - 1)
        streamed = sum(len(data) for _, data in pty.came)
        begun = time.monotonic()
        busy = _echoes(pty, 100)
        typed_for = time.monotonic() - begun
        pty.when(b"1 step")
        written = sum(len(data) for _, data in pty.came)
        yield Row("keystroke to echo, idle", _spread(idle), "30 ms")
        yield Row(f"  while {RATE} tokens a second stream", _spread(busy), "30 ms")
        yield Row("bytes for a streamed token", f"{(written - before) / TOKENS:.1f}")
        yield Row("  keys were typed for", f"{typed_for:.1f} s of {TOKENS / RATE:.0f} s")
        assert streamed
        pty.type("\x03")
        pty.leave()


def terminal300(place: Place) -> Iterator[Row]:
    """Memory of the terminal after 300 steps."""
    with Server(place.folder, "--script", "shell-steps", "--steps", "300") as server:
        pty = Pty(place, server.base_url)
        pty.when(b"Type a task")
        begun = pty.type("go\r")
        took = (pty.when(b"301 steps", deadline=300) - begun) / 1e6 / 301
        memory = _kilobytes(f"/proc/{pty.process.pid}/status", "VmHWM:") / 1000
        pty.leave()
    yield Row("300 steps in the terminal: memory", f"{memory:.1f} MB")
    yield Row("  a step, as a whole", f"{took:.1f} ms")


def _echoes(pty: Pty, count: int) -> list[float]:
    """Milliseconds from a key to its echo, for ``count`` keys."""
    waits = []
    for number in range(count):
        key = KEYS[number % len(KEYS)]
        since = len(pty.came)
        typed = pty.type(key)
        waits.append((pty.when(key.encode(), since) - typed) / 1e6)
        time.sleep(0.02 + 0.013 * (number % 5))
    return waits


def _spread(values: list[float]) -> str:
    ordered = sorted(values)
    p95 = ordered[min(int(len(ordered) * 0.95), len(ordered) - 1)]
    return f"{statistics.median(values):.0f} ms, p95 {p95:.0f} (best {ordered[0]:.0f})"


TERMINAL_FIGURES = {"terminal": terminal, "terminal300": terminal300}
