"""How a model runs on computers without GPUs, with vLLM's build for the CPU."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from kimi_cli.serve import cpu_fit, flags, memory
from kimi_cli.serve.cpu_facts import cpu_machine, is_loopback
from kimi_cli.serve.facts import (
    EnvVar,
    Flag,
    GpuMemory,
    Layout,
    Machine,
    ModelFacts,
    NodeCommand,
    NoPlan,
    Plan,
    Reason,
    Variant,
    Way,
    Wish,
)
from kimi_cli.serve.fit import LEAST_CONTEXT, Fit, Place, wanted_variants
from kimi_cli.serve.layouts import Candidate
from kimi_cli.serve.wording import count, gib, length

__all__ = ["cpu_machine", "plan_cpu"]

_FEW_CORES = 4
_OF_GPUS = frozenset(
    {
        "--gpu-memory-utilization",
        "--kv-cache-dtype",
        "--max-model-len",
        "--moe-backend",
        "--attention-backend",
        "--attention-config",
        "--mm-encoder-tp-mode",
    }
)
"""Options of the catalogue that mean nothing here, or are said anew."""
SLOW = (
    "the CPU computes it: good for trying things out, too slow to work with; a GPU is many times "
    "as fast"
)


def plan_cpu(
    model: ModelFacts, machine: Machine, wish: Wish, cores: Sequence[int] = ()
) -> Plan | NoPlan:
    """How the model runs on the CPUs of `machine`, which `cpu_machine` made, or why it does not.

    `cores` are the processors of this computer; without, vLLM chooses. Pure. Raises ValueError for
    a wish that makes no sense.
    """
    cpu_fit.check(wish)
    refusal = cpu_fit.refusal(model, machine, wish)
    if refusal:
        return NoPlan(model, machine, 0, refusal)
    nearest: NoPlan | None = None
    layouts = list(cpu_fit.layouts(model, machine, wish))
    if not layouts:
        return NoPlan(model, machine, 0, cpu_fit.no_layout(model, machine, wish))
    for variant in wanted_variants(model, wish):
        if variant.quantisation not in cpu_fit.COMPUTED:
            continue
        for layout in layouts:
            found = cpu_fit.evaluate(model, variant, machine, layout, wish)
            if not found.short:
                return _plan(model, variant, machine, layout, wish, found, cores)
            refused = _no_plan(model, variant, machine, layout, wish, found)
            if nearest is None or refused.short_by_bytes < nearest.short_by_bytes:
                nearest = refused
    if nearest is not None:
        return nearest
    kinds = ", ".join(sorted({one.quantisation for one in wanted_variants(model, wish)}))
    return NoPlan(model, machine, 0, f"{model.name} has {kinds} weights only, which need a GPU")


def _no_plan(
    model: ModelFacts,
    variant: Variant,
    machine: Machine,
    layout: Layout,
    wish: Wish,
    found: cpu_fit.CpuFit,
) -> NoPlan:
    workers = layout.world // len(machine.nodes)
    where = f"each of {layout.world} workers" if layout.world > 1 else "this computer"
    usable = min(cpu_fit.usable(node, workers) for node in machine.nodes)
    least = wish.context or min(LEAST_CONTEXT, model.max_context)
    session = f"{count(wish.sessions, 'conversation')} of" if wish.sessions else "a conversation of"
    why = (
        f"{model.name} ({variant.quantisation}) takes {gib(found.weights)} of weights, about "
        f"{gib(found.overhead)} of work space and {gib(found.kv)} for {session} {length(least)} "
        f"on {where}, where {gib(max(0, usable))} of memory can be used"
    )
    return NoPlan(model, machine, found.short, why, tuple(_ways(model, variant, machine, wish)))


def _ways(model: ModelFacts, variant: Variant, machine: Machine, wish: Wish) -> Iterable[Way]:
    """Less context, where that is what is too much."""
    if wish.context is None and wish.sessions is None:
        return
    for layout in cpu_fit.layouts(model, machine, wish):
        found = cpu_fit.evaluate(model, variant, machine, layout, replace(wish, context=None))
        if not found.short:
            size = length(found.context)
            yield Way("context", f"a context of {size}", ("--context", size))
            return


def _plan(
    model: ModelFacts,
    variant: Variant,
    machine: Machine,
    layout: Layout,
    wish: Wish,
    found: cpu_fit.CpuFit,
    cores: Sequence[int],
) -> Plan:
    workers = layout.world // len(machine.nodes)
    fit = _gpu_fit(model, variant, machine, layout, wish, found)
    given, dropped = flags.without_gone(_flags(model, fit, wish, found))
    shared = _environment(fit, found)
    commands = tuple(
        replace(one, environment=(*one.environment, *_own(one, machine, workers, cores)))
        for one in flags.commands(fit, given, shared)
    )
    share = max(gpu.total_bytes for gpu in machine.nodes[0].gpus)
    return Plan(
        model=model,
        variant=variant,
        machine=machine,
        layout=layout,
        context=found.context,
        utilisation=round((found.weights + found.overhead + found.kv) / share, 2),
        kv_dtype="auto",
        kv_token_bytes=memory.token_bytes(model.kv, "auto"),
        kv_token_gpu_bytes=memory.token_gpu_bytes(model.kv, layout, "auto"),
        tokens=found.tokens,
        sessions=found.sessions,
        memory=tuple(_table(machine, workers, found)),
        flags=given,
        environment=(*shared, flags.KEY),
        commands=commands,
        reasons=tuple(_reasons(model, variant, layout, wish, found)),
        notes=(SLOW, *_notes(model, variant, machine), *dropped),
        estimated=(f"what each worker takes besides: {gib(found.overhead)}",),
    )


def _gpu_fit(
    model: ModelFacts,
    variant: Variant,
    machine: Machine,
    layout: Layout,
    wish: Wish,
    found: cpu_fit.CpuFit,
) -> Fit:
    """The same in the form that the options and commands are made from."""
    places = tuple(Place(rank, node, node.gpus) for rank, node in enumerate(machine.nodes))
    return Fit(
        variant=variant,
        candidate=Candidate(layout, len(places), len(places[0].gpus)),
        places=places,
        profiles=(),
        utilisation=memory.UTILISATION,
        asked_share=memory.UTILISATION,
        kv_dtype="auto",
        weights=found.weights,
        overhead=found.overhead,
        cache=cpu_fit.cache(model, layout, found.kv),
        target=wish.context or model.max_context,
        context=found.context,
        short=0,
    )


def _flags(model: ModelFacts, fit: Fit, wish: Wish, found: cpu_fit.CpuFit) -> tuple[Flag, ...]:
    cuts = {
        "--tensor-parallel-size": "cuts every layer over the workers",
        "--pipeline-parallel-size": "each worker has its layers",
    }
    common = [
        replace(one, why=cuts.get(one.name, one.why))
        for one in flags.common_flags(model, fit, wish)
        if one.name not in _OF_GPUS
    ]
    why = "as asked" if wish.context else "the longest conversation that fits"
    return flags.merge(
        (
            *common,
            Flag("--max-model-len", str(found.context), why),
            Flag("--dtype", "bfloat16", "what CPUs compute best of what takes two bytes"),
            Flag("--enforce-eager", None, "compiling for a CPU takes minutes and a C++ compiler"),
        )
    )


def _environment(fit: Fit, found: cpu_fit.CpuFit) -> tuple[EnvVar, ...]:
    space = EnvVar(
        "VLLM_CPU_KVCACHE_SPACE",
        str(found.kv // cpu_fit.GIB),
        "GiB of memory for the cache of a worker",
    )
    names = {"VLLM_ENGINE_READY_TIMEOUT_S", "VLLM_NO_USAGE_STATS"}
    return (*(one for one in flags.environment(fit) if one.name in names), space)


def _own(
    command: NodeCommand, machine: Machine, workers: int, cores: Sequence[int]
) -> Iterable[EnvVar]:
    """The variables that differ from node to node."""
    host = command.host
    nodes = [node.host for node in machine.nodes]
    here = [rank for rank, one in enumerate(nodes) if is_loopback(one)]
    if not any(one.name == "VLLM_HOST_IP" for one in command.environment):
        if is_loopback(host):
            yield EnvVar("VLLM_HOST_IP", "127.0.0.1", "its processes meet on this computer")
        elif host[:1].isdigit() or ":" in host:
            yield EnvVar("VLLM_HOST_IP", host, "where the other nodes find it")
    if command.rank not in here:
        return
    # Left alone vLLM gives each worker a memory node and keeps cores back: right for many cores.
    banks = len(machine.nodes[command.rank].gpus)
    alone = len(here) == 1 and workers <= banks
    if cores and not (alone and len(cores) > _FEW_CORES):
        lists = _shares(cores, len(here) * workers)
        first = here.index(command.rank) * workers
        text = "|".join(",".join(map(str, one)) for one in lists[first : first + workers])
        yield EnvVar("VLLM_CPU_OMP_THREADS_BIND", text, "vLLM would keep cores back")


def _shares(cores: Sequence[int], parts: int) -> list[Sequence[int]]:
    """The cores in so many parts; all of them to each where they don't go round."""
    if len(cores) < parts:
        return [cores] * parts
    each = len(cores) // parts
    return [cores[part * each : (part + 1) * each] for part in range(parts)]


def _table(machine: Machine, workers: int, found: cpu_fit.CpuFit) -> Iterable[GpuMemory]:
    for node in machine.nodes:
        share = max(1, workers // len(node.gpus))
        for place, gpu in enumerate(node.gpus):
            mine = share if place < workers else 0
            parts = (mine * found.weights, mine * found.kv, mine * found.overhead)
            others = gpu.total_bytes - gpu.free_bytes
            free = gpu.free_bytes - sum(parts)
            yield GpuMemory(node.host, gpu.index, gpu.name, gpu.total_bytes, others, *parts, free)


def _reasons(
    model: ModelFacts, variant: Variant, layout: Layout, wish: Wish, found: cpu_fit.CpuFit
) -> Iterable[Reason]:
    yield Reason(
        f"{variant.quantisation} weights, {variant.weight_bytes / 1e9:,.1f} GB",
        "as asked" if wish.variant else "the first of its weights that CPUs compute and that fit",
    )
    if layout.tensor > 1:
        yield Reason(
            f"tensor parallel {layout.tensor}",
            "as asked" if wish.tensor_parallel else "a worker for each memory node",
        )
    if layout.pipeline > 1:
        yield Reason(
            f"pipeline parallel {layout.pipeline}",
            "as asked" if wish.pipeline_parallel else "stages cross nodes with little traffic",
        )
    if wish.context is not None:
        why = "as asked"
    elif found.context < model.max_context:
        why = f"what the cache holds; the model could {length(model.max_context)}"
    else:
        why = "all that the model can"
    yield Reason(f"context {length(found.context)}", why)
    yield Reason(f"{gib(found.kv)} of cache", f"{count(found.sessions, 'conversation')} at once")


def _notes(model: ModelFacts, variant: Variant, machine: Machine) -> Iterable[str]:
    if variant.min_vllm:
        yield f"needs vLLM {variant.min_vllm} or newer"
    yield from model.notes
    if len(machine.nodes) > 1 and not all(is_loopback(node.host) for node in machine.nodes):
        yield (
            f"port {flags.MASTER_PORT} of {machine.nodes[0].host} must be open to the other nodes, "
            "and the weights at the same path on all"
        )
