"""Whether a model fits into the memory of computers without GPUs.

The arithmetic is that of GPUs with the computer's memory in their place; what a process takes
besides was measured with vLLM 0.32 and a tiny model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from kimi_cli.serve import memory
from kimi_cli.serve.facts import Layout, Machine, ModelFacts, Node, Variant, Wish
from kimi_cli.serve.fit import LEAST_CONTEXT, wanted_variants
from kimi_cli.serve.layouts import divides
from kimi_cli.serve.wording import count

GIB = 1 << 30
WORKER = 1_800_000_000
"""Bytes of a worker besides weights and cache: Python, PyTorch and work space."""
SERVER = 1_100_000_000
"""Bytes of the API server and the engine's scheduler together, on the head."""
_SPARE = 20
"""A twentieth of the memory stays with the rest of the computer."""
_AT_ONCE = 4
"""Conversations that the cache is made for where nobody says how many."""
_BLOCKS = 256
"""Tokens of two blocks: one stays empty, and a conversation's last one is part empty."""
COMPUTED = ("bf16", "fp16", "fp32", "int4", "int8")
"""Weights that vLLM's build for the CPU is known to compute."""


@dataclass(frozen=True, slots=True)
class CpuFit:
    """The arithmetic for one worker. `short` bytes are missing over all; 0 when it fits."""

    weights: int
    overhead: int
    kv: int
    context: int
    tokens: int
    sessions: int
    short: int


def check(wish: Wish) -> None:
    """Raises ValueError for a wish that makes no sense."""
    for name in ("context", "sessions", "tensor_parallel", "pipeline_parallel"):
        value = getattr(wish, name)
        if value is not None and value < 1:
            raise ValueError(f"{name.replace('_', ' ')} of {value}: at least 1")


def refusal(model: ModelFacts, machine: Machine, wish: Wish) -> str:
    """What no amount of memory would change; "" when there is nothing."""
    if model.hosted_only or not model.variants:
        return f"{model.name}: only Moonshot serves it, there are no weights to download"
    if not all(gpu.total_bytes for node in machine.nodes for gpu in node.gpus):
        return "how much memory this computer has can't be read"
    if not wanted_variants(model, wish):
        known = ", ".join(f"{one.quantisation} ({one.repo})" for one in model.variants)
        return f"{model.name} has no {wish.variant} weights; known are {known}"
    if wish.context is not None and wish.context > model.max_context:
        most = f"{model.max_context:,}"
        return f"{model.name} can't do {wish.context:,} tokens; {most} are the most"
    if wish.tensor_parallel is not None and not divides(model, wish.tensor_parallel):
        return (
            f"tensor parallel {wish.tensor_parallel} does not divide {model.name}'s "
            f"{model.heads} heads"
        )
    if wish.kv_dtype == "fp8":
        return "an fp8 cache needs a GPU"
    if (wish.decode_context_parallel or 1) > 1:
        return "decode context parallelism needs GPUs"
    if (wish.data_parallel or 1) > 1:
        return "copies on CPUs only take the cores from each other"
    return ""


def layouts(model: ModelFacts, machine: Machine, wish: Wish) -> Iterable[Layout]:
    """The cuts that go evenly over the nodes, the smallest first."""
    nodes = len(machine.nodes)
    tensor, stages = wish.tensor_parallel, wish.pipeline_parallel
    if tensor is not None or stages is not None or nodes > 1:
        if stages is None:
            stages = 1 if (tensor or 1) % nodes == 0 else nodes
        found = [Layout(tensor or 1, stages)]
    else:
        # Each memory node has its own cores; a worker on each has them all at work.
        most = len(machine.nodes[0].gpus)
        sizes = (1 << power for power in range(most.bit_length()))
        found = [Layout(size) for size in sizes if size <= most and divides(model, size)]
    for layout in found:
        workers = layout.world // nodes
        banks = min(len(node.gpus) for node in machine.nodes)
        even = layout.world % nodes == 0 and layout.pipeline <= model.layers
        if even and (workers <= banks or banks == 1):
            yield layout


def no_layout(model: ModelFacts, machine: Machine, wish: Wish) -> str:
    """Why there is no such cut."""
    nodes = len(machine.nodes)
    asked = f"tensor parallel {wish.tensor_parallel or 1} x pipeline {wish.pipeline_parallel or 1}"
    if nodes > 1:
        return f"{asked} does not go evenly over {nodes} computers and {model.layers} layers"
    banks = count(len(machine.nodes[0].gpus), "memory node")
    return (
        f"{asked}: this computer has {banks}, each for one worker, and the model "
        f"{model.layers} layers"
    )


def evaluate(
    model: ModelFacts, variant: Variant, machine: Machine, layout: Layout, wish: Wish
) -> CpuFit:
    """The arithmetic of one cut of one set of weights."""
    workers = layout.world // len(machine.nodes)
    size = variant.weight_bytes // (2 if variant.quantisation == "fp32" else 1)
    weights = memory.weight_gpu_bytes(size, model.layers, layout)
    overhead = WORKER + SERVER // workers
    most = min(usable(node, workers) for node in machine.nodes)
    room = most - weights - overhead
    target = min(wish.context or model.max_context, model.max_context)
    least = target if wish.context else min(LEAST_CONTEXT, target)
    each = wish.sessions or 1
    whole = max(0, room) // GIB * GIB
    context = cache(model, layout, whole // each).longest(target)
    if context < target:
        context -= context % 1024
    if context >= least:
        session = cache(model, layout, 0).session(context)
        wanted = _whole(each * session + _empty(model, layout))
        if wish.sessions is None:
            # More than one only from the half, so that the computer can do something else too.
            more = _whole(_AT_ONCE * session + _empty(model, layout))
            wanted = max(wanted, min(more, room // 2 // GIB * GIB))
        kv = min(whole, wanted)
        held = cache(model, layout, kv)
        tokens, sessions = held.tokens(), held.sessions(context)
        return CpuFit(weights, overhead, kv, context, tokens, sessions, 0)
    need = each * cache(model, layout, 0).session(least) + _empty(model, layout)
    kv = _whole(need)
    short = max(1, weights + overhead + kv - most) * layout.world
    return CpuFit(weights, overhead, kv, 0, 0, 0, short)


def _whole(size: int) -> int:
    """In whole GiB, upwards: vLLM is told no others."""
    return -(-size // GIB) * GIB


def cache(model: ModelFacts, layout: Layout, room: int) -> memory.Cache:
    """The cache that `room` bytes for each worker make."""
    return memory.cache(model.kv, layout, "auto", room - _empty(model, layout))


def _empty(model: ModelFacts, layout: Layout) -> int:
    return _BLOCKS * memory.stage_token_bytes(model.kv, layout, "auto")


def usable(node: Node, workers: int) -> int:
    """The memory for each of so many workers: a memory node each, or they share the only one."""
    share = max(1, workers // len(node.gpus))
    used = node.gpus[:workers]
    return min(gpu.free_bytes - gpu.total_bytes // _SPARE for gpu in used) // share
