"""The memory and the cores of this computer, where a model is to run without a GPU."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from kimi_cli.serve.facts import Gpu, Machine, Node

_SYS_NODES = "sys/devices/system/node"
_RECLAIMABLE = ("MemFree", "Active(file)", "Inactive(file)", "SReclaimable")
"""What vLLM counts as available in a memory node (vllm/utils/cpu_resource_utils.py)."""
_LIMITS = (
    ("", "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
    (
        "memory",
        "sys/fs/cgroup/memory",
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)
"""Of version 2 and 1 (Linux, admin-guide/cgroup-v2 and cgroup-v1/memory): the controller, where
it is mounted, the files of limit and use, and what of the use can be taken back."""


def cpu_machine(
    env: Mapping[str, str], hosts: Sequence[str] = (), *, root: Path = Path("/")
) -> Machine:
    """This computer's memory as a machine: one "GPU" for each memory node, as vLLM gives each
    worker one of its own.

    `hosts` are several names of this computer, which share it evenly. `root` is where /proc and
    /sys are.
    """
    parts = max(1, len(hosts))
    banks = tuple(_banks(env, root))
    share = tuple(Gpu("CPU", total // parts, free // parts, index) for index, total, free in banks)
    return Machine(
        tuple(Node(share, host, vendor="cpu") for host in (hosts or ("localhost",))),
        described=False,
    )


def cores() -> tuple[int, ...]:
    """The processors that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))


def is_loopback(host: str) -> bool:
    """Whether the name means this computer to itself alone."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def id_list(text: str) -> tuple[int, ...]:
    """``0-2,4`` as (0, 1, 2, 4)."""
    found: set[int] = set()
    for first, last in re.findall(r"(\d+)(?:-(\d+))?", text):
        found.update(range(int(first), int(last or first) + 1))
    return tuple(sorted(found))


def _banks(env: Mapping[str, str], root: Path) -> Iterator[tuple[int, int, int]]:
    """Number, total and available bytes of each memory node."""
    allowed = id_list(_after(_text(root / "proc/self/status"), "Mems_allowed_list:"))
    if chosen := env.get("CPU_VISIBLE_MEMORY_NODES"):
        allowed = tuple(one for one in id_list(chosen) if one in allowed)
    found = [(one, bank) for one in allowed if (bank := _bank(root, one))]
    if len(found) < 2:
        # Of the whole computer the kernel itself says what can be had.
        rows = _rows(_text(root / "proc/meminfo"))
        number = found[0][0] if found else 0
        found = [(number, (rows.get("MemTotal", 0), rows.get("MemAvailable", 0)))]
    limit, left = _limit(root)
    if limit < sum(total for _, (total, _) in found):
        count = len(found)
        found = [
            (one, (min(total, limit // count), min(free, left // count)))
            for one, (total, free) in found
        ]
    for index, (total, free) in found:
        yield index, total, free


def _bank(root: Path, index: int) -> tuple[int, int] | None:
    text = _text(root / _SYS_NODES / f"node{index}" / "meminfo")
    rows = _rows(re.sub(r"^Node \d+ +", "", text, flags=re.MULTILINE))
    total = rows.get("MemTotal", 0)
    return (total, sum(rows.get(name, 0) for name in _RECLAIMABLE)) if total else None


def _limit(root: Path) -> tuple[int, int]:
    """The least limit of the control groups this process is in, and what is left of the least;
    both far beyond any memory where there is none."""
    limit = left = 1 << 62
    own = [line.split(":", 2) for line in _text(root / "proc/self/cgroup").splitlines()]
    for controller, mount, most, current, reclaimable in _LIMITS:
        for _, names, path in (one for one in own if len(one) == 3):
            if controller not in names.split(","):
                continue
            place = root / mount
            for folder in (place, *(place.joinpath(*parts) for parts in _steps(path))):
                with suppress(ValueError):
                    allowed = int(_text(folder / most))
                    used = int(_text(folder / current))
                    kept = _after(_text(folder / "memory.stat"), f"{reclaimable} ")
                    limit = min(limit, allowed)
                    left = min(left, allowed - used + int(kept or 0))
    return limit, max(0, left)


def _steps(path: str) -> Iterator[list[str]]:
    """Each folder on the way down to a control group."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for number in range(1, len(parts) + 1):
        yield parts[:number]


def _rows(text: str) -> dict[str, int]:
    """The rows of a meminfo file, in bytes (proc_meminfo(5))."""
    found = re.findall(r"^(\S+):\s+(\d+) kB", text, re.MULTILINE)
    return {name: int(size) << 10 for name, size in found}


def _after(text: str, start: str) -> str:
    """The rest of the line that starts so; "" without one."""
    return next((line[len(start) :] for line in text.splitlines() if line.startswith(start)), "")


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
