"""A plan in two lines, for who starts it."""

from __future__ import annotations

from itertools import groupby

from kimi_cli.serve.facts import Gpu, GpuMemory, Machine, Plan
from kimi_cli.serve.wording import length

_GIB = 1 << 30
_SEPARATOR = " · "


def title(plan: Plan) -> str:
    """``Kimi K2.5 · 8×H200 140 GiB · tensor parallel 8 · 256k context``."""
    layout = plan.layout
    cuts = (
        ("tensor parallel", layout.tensor),
        ("pipeline parallel", layout.pipeline),
        ("data parallel", layout.data),
    )
    parts = [plan.model.name, machine_name(plan.machine)]
    parts += [f"{name} {size}" for name, size in cuts if size > 1]
    return _SEPARATOR.join((*parts, f"{length(plan.context)} context"))


def about(plan: Plan) -> str:
    """``weights 69.2  kv cache 46.8  overhead 10.1  free 14.9 GiB per GPU · 5.7M tokens fit``."""
    used = [row for row in plan.memory if row.weights or row.kv or row.overhead]
    row = min(used, key=lambda one: one.free, default=None)
    fit = f"{_round(plan.tokens)} tokens fit"
    if row is None:
        return fit
    where = "of memory" if _on_cpu(plan.machine) else "per GPU"
    if len(plan.machine.nodes) > 1 and _on_cpu(plan.machine):
        where = "on each node"
    return f"{_sizes(row)} GiB {where}{_SEPARATOR}{fit}"


def machine_name(machine: Machine) -> str:
    """``8×H200 140 GiB``, ``2 nodes of 8×H100 80GB``."""
    kinds = [_node_name([_gpu_name(gpu) for gpu in node.gpus]) for node in machine.nodes]
    counted = [(kind, len(list(same))) for kind, same in groupby(kinds)]
    return " + ".join(f"{count} nodes of {kind}" if count > 1 else kind for kind, count in counted)


def _node_name(names: list[str]) -> str:
    counted = [(name, len(list(same))) for name, same in groupby(sorted(names))]
    return " + ".join(f"{count}×{name}" if count > 1 else name for name, count in counted)


def _gpu_name(gpu: Gpu) -> str:
    name = gpu.name
    for start in ("NVIDIA ", "AMD ", "Instinct "):
        name = name.removeprefix(start)
    return name if "GB" in name.upper() else f"{name} {gpu.total_bytes / _GIB:.0f} GiB"


def _on_cpu(machine: Machine) -> bool:
    return any(node.vendor == "cpu" for node in machine.nodes)


def _sizes(row: GpuMemory) -> str:
    pairs = (
        ("weights", row.weights),
        ("kv cache", row.kv),
        ("overhead", row.overhead),
        ("free", row.free),
    )
    return "  ".join(f"{name} {max(size, 0) / _GIB:.1f}" for name, size in pairs)


def _round(tokens: int) -> str:
    if tokens < 10_000:
        return f"{tokens:,}"
    return f"{tokens / 1000:.1f}k" if tokens < 1_000_000 else f"{tokens / 1_000_000:.1f}M"
