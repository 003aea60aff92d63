"""The figures: each function measures one thing and yields rows of the table."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from kimi_cli.model.tokens import estimate
from tests.benchmarks.rig import Place, Server, extends, kimi, overheads

HUNDRED_MB = "yes 'a line of output' | head -c 100000000"


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table; ``target`` is what a quiet 2-core machine should reach."""

    what: str
    value: str
    target: str = ""


Figure = Callable[[Place], Iterator[Row]]


def machine(place: Place) -> Iterator[Row]:
    """What this machine does in general, since machines differ."""
    yield Row("python -c pass", _ms(_walls([sys.executable, "-c", "pass"])), "10 ms")
    yield Row("sum(range(10**6))", _ms([_timed(_add_up) for _ in range(9)]), "10 ms")
    shell = [_timed(lambda: subprocess.run(["bash", "-c", ":"])) for _ in range(20)]
    yield Row("spawn bash", _ms(shell))
    with (place.folder / "sync").open("wb", buffering=0) as file:
        yield Row("write + fdatasync", _ms([_timed(lambda: _sync(file)) for _ in range(50)]))


def start(place: Place) -> Iterator[Row]:
    """From the start of the process to its first request, and what needs no request."""
    for flag, target in (("--version", "80 ms"), ("--help", "")):
        yield Row(f"kimi {flag}", _ms(_walls([kimi(), flag])), target)
    hosted = ("--dialect", "moonshot")
    for name, options in (("known endpoint", hosted), ("unknown endpoint", ())):
        with Server(place.folder) as server:
            place.ask(server.base_url, *options)
            runs = [place.ask(server.base_url, *options) for _ in range(10)]
        chats = server.chats[1:]
        waits = [(c["arrived_ns"] - r.begun) / 1e9 for c, r in zip(chats, runs, strict=True)]
        after = [(r.ended - c["answered_ns"]) / 1e9 for c, r in zip(chats, runs, strict=True)]
        yield Row(f"start to first request, {name}", _ms(waits), "400 ms")
        yield Row("  from the last answer to the exit", _ms(after))
    waits = [_until_hello(place) for _ in range(6)]
    yield Row("start to first TLS hello", _ms(waits[1:]), "400 ms")


def steps300(place: Place) -> Iterator[Row]:
    """300 shell steps."""
    yield from _steps(place, 300)


def steps1000(place: Place) -> Iterator[Row]:
    """1,000 shell steps."""
    yield from _steps(place, 1000)


def compacted1000(place: Place) -> Iterator[Row]:
    """1,000 shell steps in a window that has to be compacted again and again."""
    steps = 1000
    with Server(place.folder, "--script", "shell-steps", "--steps", str(steps)) as server:
        place.window(32_768)
        run = place.ask(
            server.base_url,
            *("--yolo", "--dialect", "moonshot", "--max-steps", str(2 * steps)),
            watch=True,
        )
    place.window(None)
    sizes = [chat["body_bytes"] for chat in server.chats]
    compactions = sum(after < before / 2 for before, after in pairwise(sizes))
    waits = overheads(server.chats)
    at = [statistics.median(waits[n - 20 : n]) for n in (20, 300, 1000)]
    yield Row("1,000 steps in a 32k window: compactions", str(compactions))
    yield Row(
        "  a step at 20, 300, 1,000",
        f"{at[0]:.1f}, {at[1]:.1f}, {at[2]:.1f} ms: x {max(at[1:]) / at[0]:.2f}",
        "x 1.20",
    )
    yield Row("  memory: largest process", f"{run.peak / 1000:.1f} MB", "110 MB")


def resume(place: Place) -> Iterator[Row]:
    """A session of 10,000 events is gone on with."""
    with Server(place.folder, "--script", "shell-steps", "--steps", "2") as server:
        place.window(2_000_000)
        place.ask(server.base_url, "--yolo", "--dialect", "moonshot")
        stored = place.grow(10_000)
        options = ("--dialect", "moonshot", "-r", stored.parent.name)
        whole = stored.read_bytes()
        runs = []
        for _ in range(6):
            stored.write_bytes(whole)
            runs.append(place.ask(server.base_url, *options))
    place.window(None)
    chats = server.chats[-len(runs) :]
    waits = [(c["arrived_ns"] - r.begun) / 1e9 for c, r in zip(chats, runs, strict=True)]
    yield Row("resume of 10,000 events: first request", _ms(waits[1:]), "1000 ms")
    yield Row("  its size", f"{chats[-1]['body_bytes'] / 1e6:.1f} MB")


def request(place: Place) -> Iterator[Row]:
    """The size of the first request."""
    with Server(place.folder, "--log-bodies") as server:
        place.ask(server.base_url, "--dialect", "moonshot")
    body = json.loads(server.chats[0]["body"])
    yield Row("first request", f"{server.chats[0]['body_bytes']} bytes")
    count, how = _tokenizer()
    tools, messages = (count(_dumps(body[key])) for key in ("tools", "messages"))
    yield Row(
        "  tokens, tools + messages", f"{tools} + {messages} = {tools + messages} ({how})", "< 3000"
    )


def output(place: Place) -> Iterator[Row]:
    """A command that prints 100 MB."""
    small = _one_command(place, "echo small")
    large = _one_command(place, HUNDRED_MB)
    yield Row("100 MB of output: memory", f"+{(large[0] - small[0]) / 1000:.1f} MB", "< +20 MB")
    count, how = _tokenizer()
    yield Row("  what the model gets", f"{count(large[1])} tokens ({how})", "< 8000")


def _steps(place: Place, steps: int) -> Iterator[Row]:
    with Server(place.folder, "--script", "shell-steps", "--steps", str(steps)) as server:
        options = ("--yolo", "--dialect", "moonshot", "--max-steps", str(2 * steps))
        run = place.ask(server.base_url, *options, watch=True)
        place.ask(server.base_url, *options, "-c")
    waits = overheads(server.chats[: steps + 1])
    first, last = (statistics.median(some) for some in (waits[:20], waits[-20:]))
    ordered = sorted(waits)
    p10, p95 = (ordered[int(len(ordered) * share)] for share in (0.1, 0.95))
    yield Row(
        f"{steps} shell steps: overhead of one",
        f"{statistics.median(waits):.1f} ms, p10 {p10:.1f}, p95 {p95:.1f}",
        "8 ms",
    )
    yield Row(
        "  first 20, last 20",
        f"{first:.1f} ms, {last:.1f} ms: x {last / first:.2f}",
        "x 1.20",
    )
    yield Row("  memory: largest process", f"{run.peak / 1000:.1f} MB", "110 MB")
    yield Row("  memory: all processes", f"{run.tree / 1000:.1f} MB")
    yield Row("  requests extended by the next", f"{extends(server.chats):.4%}", "100 %")
    yield Row("  wall", f"{run.seconds:.1f} s")


def _one_command(place: Place, command: str) -> tuple[int, str]:
    """Peak memory in kB of a run with this command, and what the model got of its output."""
    arguments = json.dumps({"command": command})
    with Server(
        place.folder,
        "--log-bodies",
        *("--script", "shell-steps", "--steps", "1", "--arguments", arguments),
    ) as server:
        run = place.ask(server.base_url, "--yolo", "--dialect", "moonshot", watch=True)
    messages = json.loads(server.chats[-1]["body"])["messages"]
    return run.peak, next(str(m["content"]) for m in messages if m["role"] == "tool")


def _until_hello(place: Place) -> float:
    """Seconds from the start of kimi to its first bytes at an https endpoint."""
    arrived: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def hear() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1)
                arrived.append(time.monotonic_ns())

        thread = threading.Thread(target=hear)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/v1"
        run = place.run("-p", "Go.", "--dialect", "moonshot", "--timeout", "1.5", base_url=url)
        thread.join(30)
    return (arrived[0] - run.begun) / 1e9


def _walls(argv: Sequence[str], times: int = 10) -> list[float]:
    subprocess.run(argv, stdout=subprocess.DEVNULL, check=True)
    return [
        _timed(lambda: subprocess.run(argv, stdout=subprocess.DEVNULL, check=True))
        for _ in range(times)
    ]


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def _add_up() -> int:
    return sum(range(10**6))


def _sync(file: Any) -> None:
    file.write(b"x" * 1000)
    getattr(os, "fdatasync", os.fsync)(file.fileno())


def _ms(seconds: Sequence[float]) -> str:
    return f"{statistics.median(seconds) * 1000:.0f} ms (best {min(seconds) * 1000:.0f})"


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _tokenizer() -> tuple[Callable[[str], int], str]:
    """A counter of tokens: o200k by the package bpe-openai, else our own estimate."""
    try:
        import bpe_openai  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return estimate, "estimated"
    encoding = bpe_openai.get_encoding("o200k_base")
    return lambda text: len(encoding.encode(text)), "o200k"


FIGURES: Mapping[str, Figure] = {
    "machine": machine,
    "start": start,
    "steps300": steps300,
    "steps1000": steps1000,
    "compacted1000": compacted1000,
    "resume": resume,
    "request": request,
    "output": output,
}


def program() -> str:
    """Which installation is measured."""
    code = "import kimi_cli; print(kimi_cli.__path__[0])"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=Path.home(), capture_output=True, text=True, check=True
    )
    return f"{kimi()}, from {found.stdout.strip()}"
