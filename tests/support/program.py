"""The installed `kimi` as a real process: started, watched, signalled, never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import tomlkit

from tests.support.server import ScriptedServer

PROGRAM = Path(sys.executable).with_name("kimi")
DEADLINE = 60.0
MARK = "E2E_MARK"
FAST: Mapping[str, Mapping[str, Any]] = {
    "retry": {"base_seconds": 0.01, "cap_seconds": 0.05, "overload_minutes": 0.005},
    "timeouts": {"connect": 5, "first_byte": 30, "between_chunks": 30},
}
"""At most 6 attempts, 11 for a rate limit or an overload, with waits of at most 0.05 s."""


@dataclass(frozen=True)
class Run:
    """A run that has ended: `code` as subprocess has it, negative for a signal; `seconds` since
    its start or the last signal that the test sent."""

    code: int
    out: str
    err: str
    seconds: float

    def json(self) -> Any:
        """Standard output as one JSON document."""
        return json.loads(self.out)

    def events(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


class Running:
    """A run under way; its output is collected by threads. `end` or `kill` must follow."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes | None) -> None:
        self.process = process
        self._since = time.monotonic()
        self._out: list[bytes] = []
        self._err: list[bytes] = []
        self._threads = [
            threading.Thread(target=_collect, args=(stream, into), daemon=True)
            for stream, into in ((process.stdout, self._out), (process.stderr, self._err))
            if stream is not None
        ]
        if stdin is not None:
            self._threads.append(threading.Thread(target=self._feed, args=(stdin,), daemon=True))
        for thread in self._threads:
            thread.start()

    @property
    def out(self) -> str:
        return b"".join(self._out).decode()

    @property
    def err(self) -> str:
        return b"".join(self._err).decode("utf-8", "replace")

    def until(self, condition: Callable[[], object], what: str, timeout: float = 30.0) -> None:
        """Wait for a condition; AssertionError when it does not come or the run ends before."""
        deadline = time.monotonic() + timeout
        while not condition():
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(f"no {what}; ended: {ended}\n{self.out}\n{self.err}")
            time.sleep(0.01)

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the process, or to the whole group as a terminal does."""
        self._since = time.monotonic()
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def end(self, deadline: float = DEADLINE) -> Run:
        """Wait for the end; a hang fails and is killed."""
        try:
            code = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"still running after {deadline} s\n{self.out}\n{self.err}"
            ) from None
        seconds = time.monotonic() - self._since
        for thread in self._threads:
            thread.join(5)
        return Run(code, self.out, self.err, seconds)

    def kill(self) -> None:
        """End the process group at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for thread in self._threads:
            thread.join(5)

    def _feed(self, data: bytes) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(OSError), self.process.stdin as stdin:
            stdin.write(data)


class Kimi:
    """Starts `kimi` in `cwd` with its own KIMI_HOME and HOME, without the caller's settings.

    Every process it starts, and whatever descends from them, carries `mark` in its environment.
    """

    def __init__(self, cwd: Path, home: Path, user_home: Path) -> None:
        self.cwd = cwd
        self.home = home
        self.user_home = user_home
        self.mark = uuid4().hex
        self.settings: dict[str, dict[str, Any]] = {}
        self.configure(FAST)

    def configure(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Add to KIMI_HOME/config.toml, table by table."""
        for table, values in settings.items():
            self.settings.setdefault(table, {}).update(values)
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.home / "config.toml").write_text(tomlkit.dumps(self.settings))

    def environment(
        self,
        server: ScriptedServer | None = None,
        changes: Mapping[str, str | None] | None = None,
    ) -> dict[str, str]:
        """The environment of a run; a change to None takes a variable away."""
        env: dict[str, str | None] = {
            "PATH": f"{PROGRAM.parent}:{os.environ.get('PATH', os.defpath)}",
            "LANG": "C.UTF-8",
            "HOME": str(self.user_home),
            "KIMI_HOME": str(self.home),
            "KIMI_API_KEY": "sk-test-key",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            MARK: self.mark,
        }
        if server is not None:
            env["KIMI_BASE_URL"] = server.base_url
        env.update(changes or {})
        return {name: value for name, value in env.items() if value is not None}

    def start(
        self,
        *args: str | Path,
        server: ScriptedServer | None = None,
        stdin: str | bytes | IO[bytes] | int | None = None,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        stdout: IO[bytes] | int = subprocess.PIPE,
        wrap: Sequence[str] = (),
    ) -> Running:
        """Start it in a session of its own. stdin: text to feed, a file, or None for nothing.
        wrap: a command that gets the program and its arguments appended."""
        data = stdin.encode() if isinstance(stdin, str) else stdin
        feed = data if isinstance(data, bytes) else None
        source: IO[bytes] | int
        if isinstance(data, bytes):
            source = subprocess.PIPE
        else:
            source = subprocess.DEVNULL if data is None else data
        process = subprocess.Popen(
            [*wrap, str(PROGRAM), *map(str, args)],
            stdin=source,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=self.environment(server, env),
            cwd=cwd or self.cwd,
            start_new_session=True,
        )
        return Running(process, feed)

    def __call__(
        self,
        *args: str | Path,
        server: ScriptedServer | None = None,
        stdin: str | bytes | IO[bytes] | int | None = None,
        env: Mapping[str, str | None] | None = None,
        cwd: Path | None = None,
        deadline: float = DEADLINE,
        wrap: Sequence[str] = (),
    ) -> Run:
        """Run it to its end."""
        running = self.start(*args, server=server, stdin=stdin, env=env, cwd=cwd, wrap=wrap)
        return running.end(deadline)

    def left_behind(self, patience: float = 3.0) -> list[str]:
        """The command lines of processes of any run that still live after `patience` seconds."""
        deadline = time.monotonic() + patience
        while (found := _marked(self.mark)) and time.monotonic() < deadline:
            time.sleep(0.02)
        return list(found.values())

    def sessions(self) -> list[Path]:
        """The folders of the stored sessions, oldest first."""
        found = (self.home / "sessions").glob("*/*/events.jsonl")
        return [path.parent for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]

    def stored(self) -> list[dict[str, Any]]:
        """The events of the session written to last."""
        path = self.sessions()[-1] / "events.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


def _collect(stream: IO[bytes], into: list[bytes]) -> None:
    descriptor = stream.fileno()
    with stream:
        while data := os.read(descriptor, 1 << 16):
            into.append(data)


def _marked(mark: str) -> dict[int, str]:
    """Live processes with the mark in their environment (Linux; elsewhere none are found)."""
    wanted = f"{MARK}={mark}".encode()
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0"):
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(folder.name)] = command
        except OSError:
            continue
    return found
