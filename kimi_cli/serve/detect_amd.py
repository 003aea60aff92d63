"""AMD GPUs, through amd-smi, else through rocm-smi, which older ROCm has instead."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kimi_cli.serve.facts import Gpu, Node, Process
from kimi_cli.serve.probing import (
    MIB,
    Ask,
    Pairs,
    Sight,
    all_joined,
    ask_here,
    partly_joined,
    program_name,
    visible,
)

_UNITS = {"B": 1, "KB": 1 << 10, "MB": MIB, "GB": 1 << 30, "TB": 1 << 40}
"""amd-smi's: its MB are MiB, as a MI300X of 192 GiB having 196592 of them shows."""
_CARD = re.compile(r"card(\d+)\Z")
_PAIR = re.compile(r"Link type between DRM devices (\d+) and (\d+)")
_ORDERS = ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
"""What hides GPUs from a program (ROCm, "GPU isolation techniques")."""


@dataclass(frozen=True, slots=True)
class Cards:
    """What a program told: GPUs, the pairs that xGMI joins (None: not told), the driver."""

    gpus: tuple[Gpu, ...]
    pairs: Pairs | None = None
    driver: str = ""


_STATIC = ("amd-smi", "static", "--asic", "--vram", "--driver", "--json")
_METRIC = ("amd-smi", "metric", "--mem-usage", "--json")
_PROCESS = ("amd-smi", "process", "--json")
_TOPOLOGY = ("amd-smi", "topology", "--json")
_OLDER = (
    *("rocm-smi", "--showproductname", "--showmeminfo", "vram", "--showdriverversion"),
    *("--showpids", "--json"),
)
_OLDER_TOPOLOGY = ("rocm-smi", "--showtopotype", "--json")
QUESTIONS = (_STATIC, _METRIC, _PROCESS, _TOPOLOGY, _OLDER, _OLDER_TOPOLOGY)
"""All that `find_amd` may ask."""


def find_amd(env: Mapping[str, str], ask: Ask = ask_here) -> Sight:
    """The AMD GPUs that a program started with `env` may use, where `ask` asks. Never raises."""
    problems = []
    for look in (_by_amd_smi, _by_rocm_smi):
        found = look(env, ask)
        if isinstance(found, Cards):
            return _sight(found, env)
        problems.append(found)
    return Sight(problem="; ".join(problems))


def _sight(cards: Cards, env: Mapping[str, str]) -> Sight:
    gpus, notes = cards.gpus, []
    name = next((one for one in _ORDERS if one in env), None)
    if name is not None:
        gpus = tuple(cards.gpus[at] for at in visible(env[name], [""] * len(cards.gpus)))
        if not gpus:
            return Sight(problem=f"{name}={env[name]} hides every GPU")
        if len(gpus) < len(cards.gpus):
            notes.append(f"{name} leaves {len(gpus)} of {len(cards.gpus)} GPUs")
    indices = [gpu.index for gpu in gpus]
    joined = None if cards.pairs is None else all_joined(indices, cards.pairs)
    notes += partly_joined(indices, cards.pairs or frozenset(), "xGMI")
    return Sight(Node(gpus, nvlink=joined, driver=cards.driver, vendor="amd"), tuple(notes))


def _by_amd_smi(env: Mapping[str, str], ask: Ask) -> Cards | str:
    static = ask(_STATIC, env)
    if static.problem:
        return static.problem
    metric, used, topology = ask(_METRIC, env), ask(_PROCESS, env), ask(_TOPOLOGY, env)
    cards = amd_smi_cards(static.out, metric.out, used.out, topology.out)
    return cards if cards.gpus else "amd-smi lists no GPU"


def amd_smi_cards(static: str, metric: str, process: str, topology: str) -> Cards:
    """What ``amd-smi static``, ``metric``, ``process`` and ``topology`` print with ``--json``,
    read. What is missing or of another shape is left open; only the memory must be there."""
    memory = {row["gpu"]: row.get("mem_usage") for row in _rows(metric)}
    users = {row["gpu"]: tuple(_users(row)) for row in _rows(process)}
    rows = list(_rows(static))
    gpus = []
    for row in rows:
        index, asic = row["gpu"], _dict(row.get("asic"))
        usage = _dict(memory.get(index))
        total = _bytes(usage.get("total_vram"))
        if total is None:
            total = _bytes(_dict(row.get("vram")).get("size"))
        if total is None:
            continue
        busy = _bytes(usage.get("used_vram")) or 0
        gpus.append(
            Gpu(
                name=_known(asic.get("market_name")) or "AMD GPU",
                total_bytes=total,
                free_bytes=max(total - busy, 0),
                index=index,
                used_by=users.get(index, ()),
                capability=_known(asic.get("target_graphics_version")),
            )
        )
    drivers = (_known(_dict(row.get("driver")).get("version")) for row in rows)
    return Cards(tuple(gpus), _xgmi(topology), next(filter(None, drivers), ""))


def _by_rocm_smi(env: Mapping[str, str], ask: Ask) -> Cards | str:
    said = ask(_OLDER, env)
    if said.problem:
        return said.problem
    topology = ask(_OLDER_TOPOLOGY, env)
    cards = rocm_smi_cards(said.out, topology.out)
    return cards if cards.gpus else "rocm-smi lists no GPU"


def rocm_smi_cards(out: str, topology: str) -> Cards:
    """What ``rocm-smi --json`` prints, read; a process is not told apart by GPU, so that it is
    named with the first one."""
    whole = _dict(_json(out))
    gpus = []
    for key, value in whole.items():
        number, card = _CARD.match(key), _lowered(value)
        if number is None or not (total := _number(card.get("vram total memory (b)"))):
            continue
        busy = _number(card.get("vram total used memory (b)")) or 0
        # "Card model" came before "Card series" had a name in it, and is a number since.
        names = (_known(card.get(f"card {word}")) for word in ("series", "model"))
        gpus.append(
            Gpu(
                name=next((name for name in names if name and name[:2] != "0x"), "AMD GPU"),
                total_bytes=total,
                free_bytes=max(total - busy, 0),
                index=int(number[1]),
                capability=_known(card.get("gfx version")),
            )
        )
    gpus.sort(key=lambda gpu: gpu.index)
    system = _dict(whole.get("system"))
    pairs = frozenset(
        (int(found[1]), int(found[2]))
        for key, kind in _dict(_dict(_json(topology)).get("system")).items()
        if (found := _PAIR.search(key)) and kind == "XGMI"
    )
    told = bool(_dict(_json(topology)).get("system"))
    return Cards(tuple(gpus), pairs if told else None, _known(system.get("Driver version")))


def _users(row: Mapping[str, Any]) -> Iterator[Process]:
    listed = row.get("process_list")
    for entry in listed if isinstance(listed, list) else []:
        info = _dict(_dict(entry).get("process_info"))
        if not isinstance(info.get("pid"), int):
            continue
        # Newer versions tell the memory of the GPU from the host's that it maps.
        size = _bytes(_dict(info.get("memory_usage")).get("vram_mem"))
        if size is None:
            size = _bytes(info.get("mem_usage")) or 0
        yield Process(info["pid"], program_name(_known(info.get("name"))), size)


def _xgmi(topology: str) -> Pairs | None:
    found, told = set(), False
    for row in _rows(topology):
        links = row.get("links")
        for link in links if isinstance(links, list) else []:
            other = _dict(link).get("gpu")
            told = True
            if isinstance(other, int) and _dict(link).get("link_type") == "XGMI":
                found.add((min(row["gpu"], other), max(row["gpu"], other)))
    return frozenset(found) if told else None


def _rows(text: str) -> Iterator[dict[str, Any]]:
    """One entry a GPU: a list up to ROCm 6.3, in "gpu_data" since."""
    value = _json(text)
    listed = value.get("gpu_data") if isinstance(value, dict) else value
    for row in listed if isinstance(listed, list) else []:
        if isinstance(row, dict) and isinstance(row.get("gpu"), int):
            yield row


def _json(text: str) -> Any:
    """The JSON in what a program printed, which may warn before it; None when there is none."""
    for start in (0, text.find("{"), text.find("[")):
        if start >= 0:
            try:
                return json.loads(text[start:])
            except (ValueError, RecursionError):
                continue
    return None


def _bytes(value: object) -> int | None:
    """``{"value": 196592, "unit": "MB"}`` in bytes; None for "N/A"."""
    if not isinstance(value, dict):
        return None
    number, unit = _number(value.get("value")), _UNITS.get(str(value.get("unit", "B")).upper())
    return None if number is None or unit is None else number * unit


def _number(value: object) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.isdecimal() else None


def _known(value: object) -> str:
    return value if isinstance(value, str) and value != "N/A" else ""


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _lowered(value: object) -> dict[str, Any]:
    """The same with keys in small letters: "Card series" has become "Card Series"."""
    return {key.lower(): one for key, one in _dict(value).items()}
