"""The ways to cut a model over GPUs, best first.

Tensor parallelism stays inside a node, where GPUs talk fast; pipeline stages cross nodes, unless
NVLink or InfiniBand spans them (vllm docs/serving/parallelism_scaling.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kimi_cli.serve.facts import Layout, Machine, ModelFacts, Variant, Wish

# Cutting finer than this many bytes of weights a GPU, traffic between the GPUs eats what the cut
# wins. A rule of thumb that reproduces the published layouts.
LEAST_SHARE = 16 * 10**9
_MOST_NODES = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """One layout on `nodes` nodes, using `per_node` GPUs of each."""

    layout: Layout
    nodes: int
    per_node: int


def divides(model: ModelFacts, tensor: int) -> bool:
    """Whether vLLM can cut the attention that often: heads must divide, and key/value heads too
    or be copied whole (vllm/config/model.py, verify_with_parallel_config)."""
    if tensor < 1 or model.heads % tensor:
        return False
    heads = model.kv.kv_heads
    return model.kv.kind == "mla" or heads % tensor == 0 or tensor % heads == 0


def candidates(
    model: ModelFacts, variant: Variant, machine: Machine, wish: Wish
) -> Iterator[Candidate]:
    """Every layout worth trying, in the order of preference.

    One node with the whole model comes first (copied to the others as replicas), then stages
    within a node, then two nodes, three, and so on.
    """
    sizes = sorted((len(node.gpus) for node in machine.nodes), reverse=True)[:_MOST_NODES]
    if not sizes or not sizes[0]:
        return
    tensors = _tensors(model, variant, sizes[0], wish)
    for found in (
        *_replicas(model, tensors, sizes, wish),
        *_stages_inside(model, tensors, sizes[0], wish),
        *_across(model, tensors, sizes, machine.spans, wish),
    ):
        layout = found.layout
        blocks = variant.expert_blocks
        # Without expert parallelism vLLM cuts each expert over tensor and data ranks alike.
        whole = bool(model.experts and blocks and blocks % (layout.tensor * layout.data))
        if not whole and not (wish.data_parallel and model.experts and layout.data > 1):
            yield found
        else:
            cut = Layout(layout.tensor, layout.pipeline, layout.data, layout.decode_context, True)
            yield Candidate(cut, found.nodes, found.per_node)


def _tensors(model: ModelFacts, variant: Variant, most: int, wish: Wish) -> list[int]:
    if wish.tensor_parallel is not None:
        return [wish.tensor_parallel] if divides(model, wish.tensor_parallel) else []
    # Powers of two: with others some dimension beside the heads rarely divides.
    sizes = [1 << n for n in range(most.bit_length()) if 1 << n <= most]
    sizes = [size for size in sizes if divides(model, size)]
    fine = [size for size in sizes if size == 1 or variant.weight_bytes // size >= LEAST_SHARE]
    best = fine[-1]
    return [best, *(s for s in sizes if s > best), *(s for s in reversed(sizes) if s < best)]


def _contexts(model: ModelFacts, tensor: int, wish: Wish) -> list[int]:
    """Decode context parallel sizes: they divide the tensor ranks, of a latent cache only."""
    wanted = wish.decode_context_parallel
    if wanted is not None:
        usable = wanted == 1 or model.kv.kind == "mla"
        return [wanted] if wanted >= 1 and tensor % wanted == 0 and usable else []
    if not model.decode_context:
        return [1]
    return [size for size in (1, 2, 4, 8, 16, 32) if tensor % size == 0]


def _replicas(
    model: ModelFacts, tensors: list[int], sizes: list[int], wish: Wish
) -> Iterator[Candidate]:
    if wish.pipeline_parallel not in (None, 1):
        return
    wanted = wish.data_parallel
    for tensor in tensors:
        if tensor > sizes[0]:
            continue
        for decode in _contexts(model, tensor, wish):
            for nodes in range(len(sizes), 0, -1):
                local = sizes[nodes - 1] // tensor
                # More copies in one node only serve more people at once.
                for copies in (1, *(range(2, local + 1) if wish.sessions or wanted else ())):
                    if copies <= local and wanted in (None, copies * nodes):
                        layout = Layout(tensor, 1, copies * nodes, decode)
                        yield Candidate(layout, nodes, tensor * copies)


def _stages_inside(
    model: ModelFacts, tensors: list[int], most: int, wish: Wish
) -> Iterator[Candidate]:
    wanted = wish.pipeline_parallel
    if wish.data_parallel not in (None, 1):
        return
    for stages in range(2, min(most, model.layers) + 1):
        for tensor in sorted(tensors, reverse=True):
            if wanted in (None, stages) and tensor * stages <= most:
                for decode in _contexts(model, tensor, wish):
                    yield Candidate(Layout(tensor, stages, 1, decode), 1, tensor * stages)


def _across(
    model: ModelFacts, tensors: list[int], sizes: list[int], spans: bool, wish: Wish
) -> Iterator[Candidate]:
    if wish.data_parallel not in (None, 1):
        return
    for nodes in range(2, len(sizes) + 1):
        least = sizes[nodes - 1]
        for wide in (True, False) if spans else (False,):
            for size in sorted(tensors, reverse=True):
                per_node = size // nodes if wish.tensor_parallel and wide else size
                tensor = per_node * nodes if wide else size
                stages = 1 if wide else nodes
                if not 1 <= per_node <= least or stages > model.layers:
                    continue
                if wish.tensor_parallel not in (None, tensor) or not divides(model, tensor):
                    continue
                if wish.pipeline_parallel not in (None, stages):
                    continue
                for decode in _contexts(model, tensor, wish):
                    yield Candidate(Layout(tensor, stages, 1, decode), nodes, per_node)
