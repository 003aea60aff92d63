"""Runs the installed ``kimi`` against the scripted server, each as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
KEY = "sk-test-key"
MODEL = "kimi-k2.5"
_CHAT = "/v1/chat/completions"
_HANGING = 900.0


def kimi() -> str:
    """The installed program that belongs to this interpreter."""
    return str(Path(sys.executable).with_name("kimi"))


class Server:
    """``python -m tests.support`` with some options, for the length of a ``with``.

    ``requests`` are its log's lines in order of arrival, complete after the ``with``.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._log = folder / f"server-{time.monotonic_ns()}.jsonl"
        self._options = options
        self.base_url = ""
        self.requests: list[dict[str, Any]] = []

    def __enter__(self) -> Server:
        words = [sys.executable, "-m", "tests.support", "--watch-stdin", "--key", KEY]
        self._process = subprocess.Popen(
            [*words, "--log", str(self._log), *self._options],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout
        self.base_url = json.loads(self._process.stdout.readline())["base_url"]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.communicate(timeout=30)
        lines = self._log.read_text().splitlines()
        self.requests = sorted(map(json.loads, lines), key=lambda line: int(line["arrived_ns"]))

    @property
    def chats(self) -> list[dict[str, Any]]:
        """The requests to the model, without those to other endpoints."""
        return [one for one in self.requests if one["path"] == _CHAT]


@dataclass(slots=True)
class Run:
    """A process that has ended. Times in ns of the monotonic clock, memory in kB."""

    code: int
    begun: int
    ended: int
    peak: int = 0
    tree: int = 0
    errors: str = ""

    @property
    def seconds(self) -> float:
        return (self.ended - self.begun) / 1e9


@dataclass(frozen=True, slots=True)
class Place:
    """A project with a few hundred small files, and a home for kimi."""

    folder: Path
    project: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "project", self.folder / "project")
        for number in range(300):
            file = self.project / f"part{number % 10}" / f"module{number}.py"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"VALUE = {number}\n")
        subprocess.run(["git", "init", "-q", self.project], check=True)

    def run(
        self, *arguments: str, base_url: str = "", watch: bool = False, program: str = ""
    ) -> Run:
        """``kimi`` with these arguments to its end; ``watch`` measures its memory meanwhile."""
        begun = time.monotonic_ns()
        process = subprocess.Popen(
            [program or kimi(), *arguments],
            cwd=self.project,
            env=self._environment(base_url),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        memory = _Memory(process.pid) if watch else None
        _, errors = process.communicate(timeout=_HANGING)
        ended = time.monotonic_ns()
        peak, tree = memory.end() if memory else (0, 0)
        return Run(process.returncode, begun, ended, peak, tree, errors)

    def ask(self, base_url: str, *options: str, watch: bool = False) -> Run:
        """A headless run; raises RuntimeError unless it ended well."""
        run = self.run("-p", "Go.", *options, base_url=base_url, watch=watch)
        if run.code:
            raise RuntimeError(f"kimi ended with {run.code}: {run.errors[-500:]}")
        return run

    @property
    def home(self) -> Path:
        return self.folder / "kimi"

    def window(self, tokens: int | None) -> None:
        """Give the default model a context window of its own; None: its usual one."""
        self.home.mkdir(parents=True, exist_ok=True)
        table = f'[models."{MODEL}"]\ncontext = {tokens}\n' if tokens else ""
        (self.home / "config.toml").write_text(table)

    def grow(self, events: int) -> Path:
        """Make the newest session's file longer, to so many events: its first step again and
        again, each with an id and numbers of its own."""
        found = (self.home / "sessions").glob("*/*/events.jsonl")
        path = max(found, key=lambda path: path.stat().st_mtime_ns)
        lines = path.read_bytes().splitlines()
        steps = [line for line in lines if b'"functions.shell:0"' in line]
        start = lines.index(steps[0])
        grown = lines[:start]
        while len(grown) < events:
            own = b'"functions.shell:%d"' % len(grown)
            for line in steps:
                document = json.loads(line.replace(b'"functions.shell:0"', own))
                document |= {"seq": len(grown) + 1, "parent": len(grown)}
                grown.append(json.dumps(document, separators=(",", ":")).encode())
        path.write_bytes(b"\n".join(grown) + b"\n")
        return path

    def _environment(self, base_url: str) -> Mapping[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        given = {"KIMI_API_KEY": KEY, "KIMI_BASE_URL": base_url} if base_url else {}
        return kept | given | {"HOME": str(self.folder), "KIMI_HOME": str(self.home)}


class _Memory:
    """Looks at a process and those below it while they run (Linux only; else zeros)."""

    _PAUSE = 0.05
    _LOOKS_A_SUM = 5

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._peaks: dict[int, int] = {}
        self._tree = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def end(self) -> tuple[int, int]:
        """The peak of the largest process, and the largest sum (of proportional sizes)."""
        self._over.set()
        self._thread.join()
        return max(self._peaks.values(), default=0), self._tree

    def _watch(self) -> None:
        look = 0
        while not self._over.wait(self._PAUSE):
            pids = _below(self._pid)
            for pid in pids:
                peak = _kilobytes(f"/proc/{pid}/status", "VmHWM:")
                self._peaks[pid] = max(peak, self._peaks.get(pid, 0))
            if look % self._LOOKS_A_SUM == 0:
                total = sum(_kilobytes(f"/proc/{pid}/smaps_rollup", "Pss:") for pid in pids)
                self._tree = max(self._tree, total)
            look += 1


def _below(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return [pid]
    return [pid, *(one for child in children for one in _below(int(child)))]


def _kilobytes(path: str, key: str) -> int:
    try:
        text = Path(path).read_text()
    except OSError:
        return 0
    found = next((line for line in text.splitlines() if line.startswith(key)), f"{key} 0")
    return int(found.split()[1])


def place() -> tuple[tempfile.TemporaryDirectory[str], Place]:
    """A fresh place, and the temporary folder that holds it."""
    folder = tempfile.TemporaryDirectory(prefix="kimi-bench-", ignore_cleanup_errors=True)
    return folder, Place(Path(folder.name))


def overheads(chats: Sequence[Mapping[str, Any]]) -> list[float]:
    """Milliseconds from the end of each answer to the arrival of the next request."""
    pairs = pairwise(chats)
    return [(after["arrived_ns"] - before["answered_ns"]) / 1e6 for before, after in pairs]


def extends(chats: Sequence[Mapping[str, Any]]) -> float:
    """The share of bytes of all requests, up to the end of their messages, that the next one
    begins with."""
    sizes = [(one["conversation_bytes"], after["shared_prefix"]) for one, after in pairwise(chats)]
    return float(sum(map(min, sizes)) / sum(size for size, _ in sizes))
