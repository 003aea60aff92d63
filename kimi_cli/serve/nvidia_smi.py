"""What nvidia-smi prints, read."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations

from kimi_cli.serve.facts import Gpu, Node, Process
from kimi_cli.serve.probing import (
    MIB,
    SHARED,
    Ask,
    Pairs,
    Sight,
    all_joined,
    ask_here,
    partly_joined,
    program_name,
    read_meminfo,
    visible,
)

FIELDS = (
    *("index", "uuid", "name", "memory.total", "memory.reserved", "memory.free"),
    *("compute_cap", "driver_version", "mig.mode.current"),
)
OLD_FIELDS = ("index", "uuid", "name", "memory.total", "memory.free", "driver_version")
"""Those that drivers before R510 have too."""
_CSV = "--format=csv,noheader,nounits"
_QUERY = ("nvidia-smi", "--query-gpu=" + ",".join(FIELDS), _CSV)
_OLD_QUERY = ("nvidia-smi", "--query-gpu=" + ",".join(OLD_FIELDS), _CSV)
_USED = ("nvidia-smi", "--query-compute-apps=gpu_uuid,pid,process_name,used_memory", _CSV)
_LINKS = ("nvidia-smi", "topo", "-m")
_HEADING = ("nvidia-smi",)
_MEMORY = ("cat", "/proc/meminfo")
QUESTIONS = (_QUERY, _OLD_QUERY, _USED, _LINKS, _HEADING, _MEMORY)
"""All that `look_by_program` may ask."""
_STYLE = re.compile(r"\x1b\[[0-9;]*m")
_CUDA = re.compile(r"CUDA[A-Z ]* Version\s*:\s*(\d+\.\d+)")
_LINK = re.compile(r"NV\d+\Z")
SPLIT = (
    "GPU {index} is split by MIG and left out: its instances are measured through nvidia-ml-py "
    "(pip install nvidia-ml-py)"
)


def look_by_program(env: Mapping[str, str], ask: Ask = ask_here) -> Sight:
    """The GPUs that nvidia-smi knows of and a program started with `env` may use, where `ask`
    asks. Never raises."""
    fields: Sequence[str] = FIELDS
    said = ask(_QUERY, env)
    if "not a valid field" in said.problem:
        fields = OLD_FIELDS
        said = ask(_OLD_QUERY, env)
    if said.problem:
        return Sight(problem=said.problem)
    rows = gpu_rows(said.out, fields)
    if not rows:
        return Sight(problem="nvidia-smi lists no GPU")
    order = env.get("CUDA_VISIBLE_DEVICES")
    seen = [rows[at] for at in visible(order, [row["uuid"] for row in rows])]
    if not seen:
        return Sight(problem=f"CUDA_VISIBLE_DEVICES={order} hides every GPU")
    notes = [SPLIT.format(index=row["index"]) for row in seen if _is_split(row)]
    users = processes(ask(_USED, env).out)
    gpus = []
    for row in seen:
        if _is_split(row):
            continue
        gpu, note = _gpu(row, users.get(row["uuid"], ()), lambda: ask(_MEMORY, env).out)
        gpus.append(gpu)
        notes += note
    if not gpus:
        return Sight(notes=tuple(notes), problem="every GPU is split by MIG")
    if len(seen) < len(rows):
        notes.append(f"CUDA_VISIBLE_DEVICES leaves {len(seen)} of {len(rows)} GPUs")
    links = nvlinks(ask(_LINKS, env).out) if len(gpus) > 1 else None
    indices = [gpu.index for gpu in gpus]
    node = Node(
        gpus=tuple(gpus),
        nvlink=None if links is None else all_joined(indices, links),
        driver=_known(seen[0]["driver_version"]),
        cuda=cuda_version(ask(_HEADING, env).out),
        vendor="nvidia",
    )
    notes += partly_joined(indices, links or frozenset(), "NVLink")
    return Sight(node, tuple(notes))


def gpu_rows(out: str, fields: Sequence[str]) -> list[dict[str, str]]:
    """The lines of ``--query-gpu``, each as field and value; what is no such line is skipped."""
    rows = []
    for line in out.splitlines():
        values = [value.strip() for value in line.split(",")]
        if len(values) == len(fields) and values[0].isdecimal():
            rows.append(dict(zip(fields, values, strict=True)))
    return rows


def processes(out: str) -> dict[str, tuple[Process, ...]]:
    """The lines of ``--query-compute-apps``: by the GPU's id, the biggest first."""
    found: dict[str, list[Process]] = {}
    for line in out.splitlines():
        # A program's name may hold commas; the fields around it don't.
        first = [value.strip() for value in line.split(",", 2)]
        if len(first) < 3 or not first[1].isdecimal():
            continue
        name, _, memory = first[2].rpartition(",")
        one = Process(int(first[1]), program_name(name), _mib(memory) or 0)
        found.setdefault(first[0], []).append(one)
    return {
        gpu: tuple(sorted(users, key=lambda one: (-one.bytes, one.pid)))
        for gpu, users in found.items()
    }


def nvlinks(out: str) -> Pairs | None:
    """The pairs of GPUs that ``topo -m`` shows joined by NVLink; None when it is no such table."""
    lines = [_STYLE.sub("", line).split() for line in out.splitlines()]
    header = next((cells for cells in lines if cells[:1] == ["GPU0"]), None)
    if header is None:
        return None
    columns = [cell for cell in header if re.fullmatch(r"GPU\d+", cell)]
    rows = {cells[0]: cells[1:] for cells in lines if cells is not header and cells}
    linked = set()
    for (at, _), (column, other) in combinations(enumerate(columns), 2):
        row = rows.get(columns[at], [])
        if column < len(row) and _LINK.match(row[column]):
            linked.add((int(columns[at][3:]), int(other[3:])))
    return frozenset(linked)


def cuda_version(out: str) -> str:
    """The CUDA version that the driver supports, from the heading of plain ``nvidia-smi``."""
    found = _CUDA.search(out)
    return found[1] if found else ""


def _gpu(
    row: Mapping[str, str], users: tuple[Process, ...], meminfo: Callable[[], str]
) -> tuple[Gpu, list[str]]:
    index = int(row["index"])
    total, free = _mib(row["memory.total"]), _mib(row["memory.free"])
    notes = []
    if total is None:
        notes.append(SHARED.format(index=index))
        total, free = read_meminfo(meminfo()) or (0, 0)
    else:
        # What the driver keeps is no part of what CUDA reports as the total.
        total -= _mib(row.get("memory.reserved", "")) or 0
    gpu = Gpu(
        name=row["name"],
        total_bytes=total,
        free_bytes=min(total if free is None else free, total),
        index=index,
        used_by=users,
        capability=_known(row.get("compute_cap", "")),
    )
    return gpu, notes


def _is_split(row: Mapping[str, str]) -> bool:
    return row.get("mig.mode.current", "") == "Enabled"


def _mib(text: str) -> int | None:
    """A size that nvidia-smi gives in MiB, in bytes; None for ``[N/A]`` and its like."""
    text = text.strip()
    return int(text) * MIB if text.isdecimal() else None


def _known(text: str) -> str:
    """The value, "" for ``[N/A]`` and its like."""
    return "" if text.startswith("[") or text == "N/A" else text
