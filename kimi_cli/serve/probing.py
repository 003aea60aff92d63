"""What the ways of looking for GPUs have in common."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path, PurePosixPath

from kimi_cli.serve.facts import Node

MIB = 1 << 20
PATIENCE = 30.0
"""Seconds: a driver that isn't kept loaded is loaded first, which takes several for 8 GPUs."""
SHARED = "GPU {index} has no memory of its own: it is planned with the computer's"
Pairs = frozenset[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Sight:
    """What one way of looking saw: a node with GPUs, or in `problem` why there is none.

    `notes` are for the user: what was left out, and what could not be told.
    """

    node: Node | None = None
    notes: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Said:
    """What a program printed; `problem` when it is absent, failed or never ended."""

    out: str = ""
    problem: str = ""


def ask(program: str, *arguments: str, env: Mapping[str, str]) -> Said:
    """Run a program of the driver's and return what it printed. Never raises for its faults."""
    from shutil import which

    found = which(program, path=env.get("PATH"))
    if found is None:
        return Said(problem=f"{program} is not there")
    try:
        done = subprocess.run(
            [found, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE,
            env={**env, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired:
        return Said(problem=f"{program} gave no answer in {PATIENCE:.0f} s")
    except OSError as error:
        return Said(problem=f"{program} can't be started: {error.strerror}")
    out = done.stdout.decode("utf-8", "replace")
    if done.returncode:
        # nvidia-smi says on stdout why it fails.
        words = (done.stderr.decode("utf-8", "replace") + "\n" + out).strip().splitlines()
        why = words[0].strip() if words else f"exit code {done.returncode}"
        return Said(problem=f"{program}: {why}")
    return Said(out=out)


Ask = Callable[[tuple[str, ...], Mapping[str, str]], Said]
"""Runs a program, given its name and arguments and the environment, and returns what it said."""


def ask_here(question: tuple[str, ...], env: Mapping[str, str]) -> Said:
    """Asks on this computer."""
    return ask(*question, env=env)


def visible(order: str | None, names: Sequence[str]) -> list[int]:
    """Which GPUs a program may use, as positions in `names`, their unique ids.

    `order` is the value of CUDA_VISIBLE_DEVICES or HIP_VISIBLE_DEVICES: positions, or (beginnings
    of) ids, up to the first that is none; None means all (CUDA C++ Programming Guide, "CUDA
    Environment Variables").
    """
    if order is None:
        return list(range(len(names)))
    found: list[int] = []
    for word in (piece.strip() for piece in order.split(",")):
        if word.isdecimal():
            place = int(word)
        else:
            meant = [at for at, name in enumerate(names) if word and name.startswith(word)]
            place = meant[0] if len(meant) == 1 else -1
        if not 0 <= place < len(names) or place in found:
            break
        found.append(place)
    return found


def all_joined(gpus: Collection[int], pairs: Pairs) -> bool | None:
    """Whether every two of the GPUs are joined; None for fewer than two."""
    wanted = list(combinations(sorted(gpus), 2))
    return all(pair in pairs for pair in wanted) if wanted else None


def partly_joined(gpus: Collection[int], pairs: Pairs, link: str) -> tuple[str, ...]:
    """A note that only some pairs are joined by the link; nothing where all or none are."""
    some = [pair for pair in combinations(sorted(gpus), 2) if pair in pairs]
    if not some or all_joined(gpus, pairs):
        return ()
    named = ", ".join(f"{one}-{other}" for one, other in some)
    return (f"{link} joins GPUs {named} only; tensor parallel over others goes over PCIe",)


def unified_memory(meminfo: Path = Path("/proc/meminfo")) -> tuple[int, int] | None:
    """Total and available bytes of a computer whose GPU has no memory of its own
    (proc_meminfo(5)); None when they can't be read."""
    try:
        return read_meminfo(meminfo.read_text())
    except OSError:
        return None


def read_meminfo(text: str) -> tuple[int, int] | None:
    """Total and available bytes from the text of /proc/meminfo; None when it lacks them."""
    rows = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        total, free = (int(rows[name].split()[0]) << 10 for name in ("MemTotal", "MemAvailable"))
    except (KeyError, ValueError, IndexError):
        return None
    return total, free


def program_name(command: str) -> str:
    """The program without its folder and arguments: what people know it by. "unknown" for what
    nvidia-smi says in brackets instead."""
    first, *_ = command.split() or [""]
    return "unknown" if first.startswith("[") else PurePosixPath(first).name or "unknown"
