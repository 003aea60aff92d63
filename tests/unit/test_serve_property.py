"""What holds for every model on every machine."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_cli.serve.catalogue import models
from kimi_cli.serve.describe import describe
from kimi_cli.serve.facts import Machine, ModelFacts, Plan, Process, Wish
from kimi_cli.serve.gpus import card_names
from kimi_cli.serve.planner import plan

GIB = 1 << 30

rows = st.sampled_from([row for row in models() if row.variants])
cards = st.sampled_from(card_names())
sizes = st.integers(1, 8)
wishes = st.builds(
    Wish,
    context=st.one_of(st.none(), st.integers(1, 300_000)),
    sessions=st.one_of(st.none(), st.integers(1, 20)),
    kv_dtype=st.sampled_from([None, "auto", "fp8"]),
    utilisation=st.one_of(st.none(), st.floats(0.1, 0.98)),
    tensor_parallel=st.one_of(st.none(), st.integers(1, 16)),
)


@st.composite
def machines(draw: st.DrawFn) -> Machine:
    machine = describe(f"{draw(sizes)}x{draw(cards)}", draw(st.integers(1, 3)))
    nodes = []
    for node in machine.nodes:
        gpus = []
        for gpu in node.gpus:
            held = draw(st.sampled_from([0, 0, 0, GIB, gpu.total_bytes // 3, gpu.total_bytes]))
            by = (Process(1, "other", held),) if held else ()
            gpus.append(replace(gpu, free_bytes=gpu.total_bytes - held, used_by=by))
        nodes.append(replace(node, gpus=tuple(gpus)))
    return replace(machine, nodes=tuple(nodes), spans=draw(st.booleans()))


def reached(model: ModelFacts, machine: Machine) -> int:
    found = plan(model, machine)
    return found.context if isinstance(found, Plan) else 0


@settings(max_examples=120, deadline=None)
@given(rows, machines(), wishes)
def test_a_plan_keeps_to_what_there_is(model: ModelFacts, machine: Machine, wish: Wish) -> None:
    found = plan(model, machine, wish)
    if not isinstance(found, Plan):
        assert found.why and found.short_by_bytes >= 0
        return
    every = [gpu for node in machine.nodes for gpu in node.gpus]
    assert len(found.memory) == len(every)
    for row, gpu in zip(found.memory, every, strict=True):
        parts = (row.others, row.weights, row.kv, row.overhead, row.free)
        assert sum(parts) == row.total == gpu.total_bytes
        assert all(part >= 0 for part in parts)
        assert row.weights + row.kv + row.overhead <= gpu.free_bytes
    busy = [row for row in found.memory if row.weights]
    assert len(busy) == found.layout.world
    # The weights are all there, and each GPU's cache holds what is promised.
    per_copy = found.layout.tensor * found.layout.pipeline
    assert busy[0].weights * per_copy >= found.variant.weight_bytes
    assert model.heads % found.layout.tensor == 0
    assert found.layout.tensor % found.layout.decode_context == 0
    assert 1 <= found.context <= model.max_context
    assert found.tokens >= found.context
    assert found.sessions >= 1
    if wish.context:
        assert found.context == min(wish.context, model.max_context)
    if wish.sessions and "--max-num-seqs" not in {flag.name for flag in found.flags}:
        assert found.sessions >= wish.sessions
    if wish.tensor_parallel:
        assert found.layout.tensor == wish.tensor_parallel


@settings(max_examples=60, deadline=None)
@given(
    rows,
    sizes,
    st.integers(8, 300),
    st.integers(0, 40),
    st.sampled_from(["8.9", "9.0", "10.0", "12.0"]),
)
def test_more_memory_never_gives_less_context(
    model: ModelFacts, count: int, gib: int, more: int, capability: str
) -> None:
    def machine(size: int) -> Machine:
        found = describe(f"{count}xNewCard {size}GB")
        (node,) = found.nodes
        gpus = tuple(replace(gpu, capability=capability) for gpu in node.gpus)
        return replace(found, nodes=(replace(node, gpus=gpus),))

    assert reached(model, machine(gib)) <= reached(model, machine(gib + more))


@settings(max_examples=40, deadline=None)
@given(rows, cards, st.integers(0, 200), st.integers(0, 60))
def test_freeing_memory_never_gives_less_context(
    model: ModelFacts, card: str, held: int, freed: int
) -> None:
    def machine(gib: int) -> Machine:
        found = describe(f"4x{card}")
        (node,) = found.nodes
        gpus = tuple(
            replace(gpu, free_bytes=max(0, gpu.total_bytes - gib * GIB)) for gpu in node.gpus
        )
        return replace(found, nodes=(replace(node, gpus=gpus),))

    assert reached(model, machine(held)) <= reached(model, machine(max(0, held - freed)))


@settings(max_examples=30, deadline=None)
@given(rows, cards)
def test_more_computers_never_give_less_context(model: ModelFacts, card: str) -> None:
    one, two, four = (reached(model, describe(f"8x{card}", nodes)) for nodes in (1, 2, 4))
    assert one <= two <= four
