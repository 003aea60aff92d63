"""NVIDIA GPUs, through NVML where Python reaches it, else through nvidia-smi."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from kimi_cli.serve.facts import Gpu, Node, Process
from kimi_cli.serve.nvidia_smi import look_by_program
from kimi_cli.serve.probing import (
    SHARED,
    Pairs,
    Sight,
    all_joined,
    partly_joined,
    program_name,
    unified_memory,
    visible,
)

SPLIT = "GPU {index} is split by MIG; {what}"


def find_nvidia(env: Mapping[str, str]) -> Sight:
    """The NVIDIA GPUs of this computer that a program started with `env` may use. Never raises."""
    by_library = _look_by_library(env)
    if by_library.node is not None:
        return by_library
    by_program = look_by_program(env)
    if by_program.node is not None:
        return by_program
    problems = [one.problem for one in (by_library, by_program) if one.problem]
    return Sight(notes=by_library.notes or by_program.notes, problem="; ".join(problems))


@dataclass(frozen=True, slots=True)
class _Card:
    gpu: Gpu
    handle: Any
    id: str = ""
    notes: tuple[str, ...] = ()
    whole: bool = True


def _look_by_library(env: Mapping[str, str]) -> Sight:
    try:
        from importlib import import_module

        nvml: Any = import_module("pynvml")
        nvml.nvmlInit()
    except ImportError:
        return Sight(problem="the Python package nvidia-ml-py is not there")
    except Exception as error:
        return Sight(problem=f"NVML: {error}")
    try:
        return _node(nvml, env)
    except Exception as error:
        return Sight(problem=f"NVML: {error}")
    finally:
        with contextlib.suppress(Exception):
            nvml.nvmlShutdown()


def _node(nvml: Any, env: Mapping[str, str]) -> Sight:
    handles = [nvml.nvmlDeviceGetHandleByIndex(at) for at in range(nvml.nvmlDeviceGetCount())]
    if not handles:
        return Sight(problem="NVML knows of no GPU")
    order = env.get("CUDA_VISIBLE_DEVICES")
    ids = [_text(_or(None, nvml.nvmlDeviceGetUUID, one)) for one in handles]
    # An instance of MIG is named by its own id, which is none of a GPU's.
    instance = order.split(",")[0].strip() if order and order.startswith("MIG-") else ""
    seen = visible(None if instance else order, ids)
    if not seen:
        return Sight(problem=f"CUDA_VISIBLE_DEVICES={order} hides every GPU")
    cards = [card for at in seen for card in _cards(nvml, at, handles[at])]
    notes = [note for card in cards for note in card.notes]
    usable = [card for card in cards if card.gpu.total_bytes and card.id.startswith(instance)]
    whole = [card for card in usable if card.whole]
    if not whole:
        # Instances can't work together (NVIDIA MIG User Guide): the largest is all there is.
        whole = sorted(usable, key=lambda card: -card.gpu.total_bytes)[:1]
        notes += [f"start vLLM with CUDA_VISIBLE_DEVICES={card.id}" for card in whole if card.id]
    if not whole:
        return Sight(notes=tuple(notes), problem="NVML tells the memory of no GPU")
    if order is not None and len(seen) < len(handles):
        notes.append(f"CUDA_VISIBLE_DEVICES leaves {len(seen)} of {len(handles)} GPUs")
    pairs = _pairs(nvml, whole)
    indices = [card.gpu.index for card in whole]
    node = Node(
        gpus=tuple(card.gpu for card in whole),
        nvlink=None if pairs is None else all_joined(indices, pairs),
        driver=_text(_or("", nvml.nvmlSystemGetDriverVersion)),
        cuda=_cuda(_or(0, nvml.nvmlSystemGetCudaDriverVersion)),
        vendor="nvidia",
    )
    notes += partly_joined(indices, pairs or frozenset(), "NVLink")
    return Sight(node, tuple(dict.fromkeys(notes)))


def _cards(nvml: Any, index: int, handle: Any) -> Iterator[_Card]:
    """The GPU, or each MIG instance that it is split into."""
    mode = _or((0, 0), nvml.nvmlDeviceGetMigMode, handle)
    if not mode[0]:
        yield _card(nvml, index, handle)
        return
    parts = []
    for at in range(_or(0, nvml.nvmlDeviceGetMaxMigDeviceCount, handle)):
        part = _or(None, nvml.nvmlDeviceGetMigDeviceHandleByIndex, handle, at)
        if part is not None:
            parts.append(_card(nvml, index, part))
    what = f"{len(parts)} instances, of which vLLM uses one" if parts else "it has no instance"
    note = SPLIT.format(index=index, what=what)
    for card in parts or [_Card(Gpu("MIG", 0, 0, index), handle)]:
        yield replace(card, notes=(note, *card.notes), whole=False)


def _card(nvml: Any, index: int, handle: Any) -> _Card:
    notes: tuple[str, ...] = ()
    memory = _memory(nvml, handle)
    if memory is None:
        memory = unified_memory() or (0, 0)
        notes = (SHARED.format(index=index),)
    major, minor = _or((0, 0), nvml.nvmlDeviceGetCudaComputeCapability, handle)
    gpu = Gpu(
        name=_text(_or("NVIDIA GPU", nvml.nvmlDeviceGetName, handle)),
        total_bytes=memory[0],
        free_bytes=min(memory[1], memory[0]),
        index=index,
        used_by=_processes(nvml, handle),
        capability=f"{major}.{minor}" if major else "",
    )
    return _Card(gpu, handle, _text(_or("", nvml.nvmlDeviceGetUUID, handle)), notes)


def _memory(nvml: Any, handle: Any) -> tuple[int, int] | None:
    """Total and free bytes; None for a GPU that shares the computer's memory.

    What the driver keeps for itself is no part of the total, as it is none of what CUDA reports
    (NVML API Reference, nvmlMemory_v2_t); drivers before R510 don't tell it apart.
    """
    try:
        info = nvml.nvmlDeviceGetMemoryInfo(handle, version=nvml.nvmlMemory_v2)
        return int(info.total) - int(info.reserved), int(info.free)
    except Exception:
        info = _or(None, nvml.nvmlDeviceGetMemoryInfo, handle)
        return None if info is None or not info.total else (int(info.total), int(info.free))


def _processes(nvml: Any, handle: Any) -> tuple[Process, ...]:
    running = [
        *_or([], nvml.nvmlDeviceGetComputeRunningProcesses, handle),
        *_or([], nvml.nvmlDeviceGetGraphicsRunningProcesses, handle),
    ]
    # One that computes and draws is in both lists.
    found = {one.pid: int(one.usedGpuMemory or 0) for one in running}
    return tuple(
        Process(pid, program_name(_text(_or("", nvml.nvmlSystemGetProcessName, pid))), size)
        for pid, size in sorted(found.items(), key=lambda item: (-item[1], item[0]))
    )


def _pairs(nvml: Any, cards: list[_Card]) -> Pairs | None:
    """The pairs, by index, that NVLink joins; None when the driver does not tell."""
    found = set()
    for one, other in combinations(cards, 2):
        try:
            status = nvml.nvmlDeviceGetP2PStatus(
                one.handle, other.handle, nvml.NVML_P2P_CAPS_INDEX_NVLINK
            )
        except Exception:
            return None
        if status == nvml.NVML_P2P_STATUS_OK:
            found.add((min(one.gpu.index, other.gpu.index), max(one.gpu.index, other.gpu.index)))
    return frozenset(found)


def _cuda(number: int) -> str:
    """12080 as "12.8" (CUDA Driver API, cuDriverGetVersion)."""
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value or "")


def _or(instead: Any, call: Any, *arguments: Any) -> Any:
    """What the call returns, or `instead` where this driver or GPU does not know it."""
    try:
        return call(*arguments)
    except Exception:
        return instead
