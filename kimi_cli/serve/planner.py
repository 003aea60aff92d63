"""From a model, a machine and a wish to a plan, or to why there is none."""

from __future__ import annotations

from collections.abc import Iterable

from kimi_cli.serve import flags, memory, reasons
from kimi_cli.serve.facts import Flag, GpuMemory, Machine, ModelFacts, NoPlan, Plan, Wish
from kimi_cli.serve.fit import Fit, Search, search, wanted_variants
from kimi_cli.serve.layouts import divides
from kimi_cli.serve.ways import ways
from kimi_cli.serve.wording import count, gib, length


def plan(model: ModelFacts, machine: Machine, wish: Wish | None = None) -> Plan | NoPlan:
    """How the model runs on the machine, or by how much it does not and what would.

    Pure: no I/O, nothing is started. Raises ValueError for a wish that makes no sense (a length
    or a count below 1, a share outside (0, 1)).
    """
    wish = wish or Wish()
    _check(wish)
    refusal = _refusal(model, machine, wish)
    if refusal:
        return NoPlan(model, machine, 0, refusal, tuple(ways(model, machine, wish)))
    found = search(model, machine, wish)
    if found.best is None:
        why, short = _why(model, found, machine, wish)
        return NoPlan(model, machine, short, why, tuple(ways(model, machine, wish)))
    return _plan(model, machine, wish, found.best)


def _check(wish: Wish) -> None:
    for name in (
        "context",
        "sessions",
        "tensor_parallel",
        "pipeline_parallel",
        "decode_context_parallel",
        "data_parallel",
    ):
        value = getattr(wish, name)
        if value is not None and value < 1:
            raise ValueError(f"{name.replace('_', ' ')} of {value}: at least 1")
    if wish.utilisation is not None and not 0 < wish.utilisation < 1:
        raise ValueError(f"a utilisation of {wish.utilisation}: a share between 0 and 1")


def _refusal(model: ModelFacts, machine: Machine, wish: Wish) -> str:
    """What no amount of memory would change."""
    if model.hosted_only or not model.variants:
        return f"{model.name}: only Moonshot serves it, there are no weights to download"
    if not any(node.gpus for node in machine.nodes):
        return "no GPU was found"
    if not wanted_variants(model, wish):
        known = ", ".join(f"{one.quantisation} ({one.repo})" for one in model.variants)
        return f"{model.name} has no {wish.variant} weights; known are {known}"
    if wish.context is not None and wish.context > model.max_context:
        most = f"{model.max_context:,}"
        return f"{model.name} can't do {wish.context:,} tokens; {most} are the most"
    tensor = wish.tensor_parallel
    if tensor is not None and not divides(model, tensor):
        return f"tensor parallel {tensor} does not divide {model.name}'s {model.heads} heads"
    return ""


def _why(model: ModelFacts, found: Search, machine: Machine, wish: Wish) -> tuple[str, int]:
    near = found.nearest
    if near is None:
        if found.refused:
            return "; ".join(found.refused), 0
        have = sum(len(node.gpus) for node in machine.nodes)
        return f"no layout as asked for goes over {count(have, 'GPU')}", 0
    number = sum(len(place.gpus) for place in near.places)
    each = f"each of {number} GPUs" if number > 1 else "one GPU"
    work = near.weights + near.overhead
    share = memory.budget(near.places[0].gpus[0], near.utilisation)
    least = near.target if wish.context else min(near.target, 16_384)
    session = f"{count(wish.sessions, 'conversation')} of" if wish.sessions else "a conversation of"
    held = [
        who
        for who in reasons.holders(gpu for place in near.places for gpu in place.gpus)
        if near.utilisation < near.asked_share
    ]
    why = (
        f"{model.name} ({near.variant.quantisation}) takes {gib(near.weights)} of weights "
        f"and about {gib(near.overhead)} of work space on {each}"
        f", where {gib(share)} can be used; "
        + (
            f"that leaves nothing for {session} {length(least)}"
            if work >= share
            else f"{gib(share - work)} are too little for {session} {length(least)}"
        )
        + (f"; in use by {', '.join(held)}" if held else "")
    )
    return why, near.short


def _plan(model: ModelFacts, machine: Machine, wish: Wish, fit: Fit) -> Plan:
    layout = fit.candidate.layout
    given, dropped = flags.without_gone(flags.common_flags(model, fit, wish))
    shared = flags.environment(fit)
    dtype = fit.kv_dtype
    return Plan(
        model=model,
        variant=fit.variant,
        machine=machine,
        layout=layout,
        context=fit.context,
        utilisation=fit.utilisation,
        kv_dtype=dtype,
        kv_token_bytes=memory.token_bytes(model.kv, dtype),
        kv_token_gpu_bytes=memory.token_gpu_bytes(model.kv, layout, dtype),
        tokens=fit.cache.tokens() * layout.data,
        sessions=_sessions(fit, given),
        memory=tuple(_table(machine, fit)),
        flags=given,
        environment=(*shared, flags.KEY),
        commands=flags.commands(fit, given, shared),
        reasons=tuple(reasons.reasons(model, fit, machine, wish)),
        options=tuple(reasons.options(model, fit)),
        notes=(*_notes(model, machine, fit, wish), *dropped),
        estimated=tuple(_estimated(model, fit, machine, wish)),
    )


def _sessions(fit: Fit, given: tuple[Flag, ...]) -> int:
    """How many run at once: no more than the scheduler is allowed."""
    most = [int(one.value) for one in given if one.name == "--max-num-seqs" and one.value]
    return min(fit.sessions, *(limit * fit.candidate.layout.data for limit in most), fit.sessions)


def _table(machine: Machine, fit: Fit) -> Iterable[GpuMemory]:
    used = {place.rank: {gpu.index for gpu in place.gpus} for place in fit.places}
    kv = max(0, fit.cache.room)
    for rank, node in enumerate(machine.nodes):
        for gpu in node.gpus:
            others = gpu.total_bytes - gpu.free_bytes
            mine = gpu.index in used.get(rank, ())
            parts = (fit.weights, kv, fit.overhead) if mine else (0, 0, 0)
            free = gpu.free_bytes - sum(parts)
            yield GpuMemory(node.host, gpu.index, gpu.name, gpu.total_bytes, others, *parts, free)


def _notes(model: ModelFacts, machine: Machine, fit: Fit, wish: Wish) -> Iterable[str]:
    layout = fit.candidate.layout
    if fit.variant.min_vllm:
        yield f"needs vLLM {fit.variant.min_vllm} or newer"
    yield from model.notes
    if len(fit.places) > 1:
        port = flags.DATA_PORT if layout.data > 1 else flags.MASTER_PORT
        yield (
            f"start every command within a few minutes; port {port} of {flags.head_of(fit)} "
            "must be open to the other nodes, and the weights at the same path on all"
        )
        if not all(place.node.interface for place in fit.places):
            yield (
                "on each node set GLOO_SOCKET_IFNAME and NCCL_SOCKET_IFNAME to the network "
                "interface that reaches the others, and no proxy variables"
            )
        if layout.data > 1 and model.experts and not machine.spans:
            yield (
                "vLLM cuts the experts over all copies, so every layer crosses the network: "
                + (
                    "without InfiniBand expect little speed"
                    if wish.data_parallel
                    else "without InfiniBand start a server on each node instead, as planned for "
                    "one node"
                )
            )
    if layout.tensor > 1 and any(place.node.nvlink is False for place in fit.places):
        yield "no NVLink between these GPUs: expect less speed from tensor parallelism"
    idle = len(machine.nodes) - len(fit.places)
    if idle:
        yield f"{count(idle, 'node')} stay unused"
    if wish.host not in ("127.0.0.1", "localhost", "::1"):
        yield "others can reach the server: keep it behind a firewall or a proxy"


def _estimated(model: ModelFacts, fit: Fit, machine: Machine, wish: Wish) -> Iterable[str]:
    yield f"activations, CUDA and its graphs: {gib(fit.overhead)} on each GPU"
    if not fit.variant.weights_known:
        yield f"the size of the weights ({fit.variant.source})"
    if wish.data_parallel and model.common_bytes:
        yield f"{model.common_bytes / 1e9:,.0f} GB of the weights that are no experts"
    yield from (one for one in model.estimated if not one.startswith("work space"))
    if machine.described:
        yield "the memory of GPUs that nobody looked at"
