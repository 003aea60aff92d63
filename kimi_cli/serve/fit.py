"""Whether a model fits a machine, and best how: the search behind a plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from kimi_cli.serve import gpus, memory
from kimi_cli.serve.facts import (
    Gpu,
    KvDtype,
    Machine,
    ModelFacts,
    Needs,
    Node,
    Profile,
    Variant,
    Wish,
)
from kimi_cli.serve.layouts import Candidate, candidates

# With less an agent can't read a file and still remember the task.
LEAST_CONTEXT = 16_384
_ROUND = 1_024


@dataclass(frozen=True, slots=True)
class Place:
    """The GPUs used on one node; `rank` is its place in the machine."""

    rank: int
    node: Node
    gpus: tuple[Gpu, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """One layout with its arithmetic. Sizes are per GPU; `short` is over all of them, 0 when it
    fits. `target` is the context that was aimed at, `context` what is reached, 0 for too little.
    `asked_share` is the utilisation that would be used if nobody else held memory."""

    variant: Variant
    candidate: Candidate
    places: tuple[Place, ...]
    profiles: tuple[Profile, ...]
    utilisation: float
    asked_share: float
    kv_dtype: KvDtype
    weights: int
    overhead: int
    cache: memory.Cache
    target: int
    context: int
    short: int

    @property
    def reached(self) -> bool:
        return self.context >= self.target

    @property
    def sessions(self) -> int:
        copies = self.candidate.layout.data
        return self.cache.sessions(self.context) * copies if self.context else 0


@dataclass(frozen=True, slots=True)
class Search:
    """What came of looking: the best that fits, else the one that lacks least. `refused` says
    why variants were not tried."""

    best: Fit | None
    nearest: Fit | None
    refused: tuple[str, ...]


def search(model: ModelFacts, machine: Machine, wish: Wish) -> Search:
    """The preferred layout of the first variant that reaches the wanted context, else the one
    with the longest."""
    best: Fit | None = None
    nearest: Fit | None = None
    refused: list[str] = []
    for variant in wanted_variants(model, wish):
        tried = False
        able = _able(machine, variant.needs)
        for candidate in candidates(model, variant, machine, wish):
            found = _evaluate(model, variant, candidate, able, wish)
            if isinstance(found, str):
                if found and found not in refused:
                    refused.append(found)
                continue
            tried = True
            if found.context and found.reached:
                return Search(found, None, ())
            if found.context and (best is None or _rank(found) > _rank(best)):
                best = found
            if not found.context and (nearest is None or found.short < nearest.short):
                nearest = found
        if tried and variant.needs.why in refused:
            refused.remove(variant.needs.why)
    return Search(best, nearest, tuple(refused))


def wanted_variants(model: ModelFacts, wish: Wish) -> Iterable[Variant]:
    """The variants to try: all, or those whose repository or quantisation was asked for."""
    name = wish.variant.lower()
    if not name:
        return model.variants
    return tuple(
        one
        for one in model.variants
        if name in (one.repo.lower(), one.repo.rsplit("/", 1)[-1].lower(), one.quantisation.lower())
    )


def runs_on(needs: Needs, gpu: Gpu, vendor: str) -> bool:
    """Whether the GPU can run it; one of unknown kind gets the benefit of the doubt."""
    kind = gpus.capability(gpu)
    if vendor == "amd" or kind.startswith("gfx"):
        return not kind or kind.split(":")[0] in needs.amd
    if not kind or not needs.capability:
        return True
    return gpus.version(kind) >= gpus.version(needs.capability)


def _rank(found: Fit) -> tuple[int, int]:
    return found.context, found.sessions


def _evaluate(
    model: ModelFacts,
    variant: Variant,
    candidate: Candidate,
    able: tuple[Place, ...],
    wish: Wish,
) -> Fit | str:
    """The arithmetic of one candidate, or why these GPUs can't run it ("": too few)."""
    places = _places(able, candidate)
    if not places:
        return _why_not(able, variant.needs, candidate)
    chosen = [gpu for place in places for gpu in place.gpus]
    layout = candidate.layout
    profiles = _profiles(model, variant, chosen, layout.pipeline > 1)
    asked = wish.utilisation or memory.UTILISATION
    dtype = variant.kv_dtype
    limit = model.max_context
    for profile in profiles:
        if profile.utilisation is not None and wish.utilisation is None:
            asked = profile.utilisation
        if profile.kv_dtype is not None:
            dtype = profile.kv_dtype
        if profile.context is not None and wish.context is None:
            limit = min(limit, profile.context)
    dtype = wish.kv_dtype or dtype
    if dtype == "fp8" and not all(_has_fp8(gpu) for gpu in chosen):
        return "an fp8 cache needs Ada, Hopper, MI300 or newer"
    share = min(asked, *(memory.highest_utilisation(gpu) for gpu in chosen))
    common = model.common_bytes if wish.data_parallel else 0
    weights = memory.weight_gpu_bytes(variant.weight_bytes, model.layers, layout, common)
    budgets = [memory.budget(gpu, share) for gpu in chosen]
    room = min(budgets) - weights - model.overhead_bytes
    cache = memory.cache(model.kv, layout, dtype, room)
    target = min(wish.context or limit, model.max_context)
    each = -(-(wish.sessions or 1) // layout.data)
    divided = memory.cache(model.kv, layout, dtype, room // each)
    context = divided.longest(target)
    if context < target:
        context -= context % _ROUND
    least = target if wish.context else min(LEAST_CONTEXT, target)
    short = 0
    if context < least:
        context = 0
        need = weights + model.overhead_bytes + each * divided.session(least)
        short = max(1, sum(max(0, need - budget) for budget in budgets))
    return Fit(
        variant, candidate, places, profiles, share, asked, dtype, weights, model.overhead_bytes,
        cache, target, context, short,
    )  # fmt: skip


def _able(machine: Machine, needs: Needs) -> tuple[Place, ...]:
    """On each node the GPUs that can run it, the emptiest first."""
    return tuple(
        Place(
            rank,
            node,
            tuple(
                sorted(
                    (gpu for gpu in node.gpus if runs_on(needs, gpu, node.vendor)),
                    key=lambda gpu: (-gpu.free_bytes, gpu.index),
                )
            ),
        )
        for rank, node in enumerate(machine.nodes)
    )


def _places(able: tuple[Place, ...], candidate: Candidate) -> tuple[Place, ...]:
    """The emptiest GPUs of the emptiest nodes, in the machine's own order; () when too few can
    run it."""
    number = candidate.per_node
    enough = [one for one in able if len(one.gpus) >= number]
    if len(enough) < candidate.nodes:
        return ()
    enough.sort(key=lambda one: (-one.gpus[number - 1].free_bytes, one.rank))
    used = sorted(enough[: candidate.nodes], key=lambda one: one.rank)
    return tuple(
        replace(one, gpus=tuple(sorted(one.gpus[:number], key=lambda gpu: gpu.index)))
        for one in used
    )


def _why_not(able: tuple[Place, ...], needs: Needs, candidate: Candidate) -> str:
    enough = sum(len(one.node.gpus) >= candidate.per_node for one in able)
    return needs.why if enough >= candidate.nodes else ""


def _profiles(
    model: ModelFacts, variant: Variant, chosen: list[Gpu], pipelined: bool
) -> tuple[Profile, ...]:
    kinds = {gpus.generation(gpu) for gpu in chosen}
    if len(kinds) != 1:
        return ()
    (kind,) = kinds
    smallest = min(gpu.total_bytes for gpu in chosen)
    return tuple(
        one
        for one in model.profiles
        if kind in one.generations
        and one.pipelined in (None, pipelined)
        and one.quantisation in ("", variant.quantisation)
        and (not one.under_bytes or smallest < one.under_bytes)
    )


def _has_fp8(gpu: Gpu) -> bool:
    kind = gpus.capability(gpu)
    if kind.startswith("gfx"):
        return kind.split(":")[0] in ("gfx942", "gfx950")
    return not kind or gpus.version(kind) >= (8, 9)
