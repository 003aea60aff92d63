"""Why a plan is as it is, for the screen."""

from __future__ import annotations

from collections.abc import Iterable

from kimi_cli.serve import gpus, memory
from kimi_cli.serve.facts import Flag, Gpu, Machine, ModelFacts, Option, Reason, Wish
from kimi_cli.serve.fit import Fit, runs_on
from kimi_cli.serve.layouts import LEAST_SHARE
from kimi_cli.serve.wording import count, gib, length


def reasons(model: ModelFacts, fit: Fit, machine: Machine, wish: Wish) -> Iterable[Reason]:
    """Each decision with its reason, the weightiest first."""
    yield _variant(model, fit, wish)
    yield from _layout(model, fit, machine, wish)
    yield _context(model, fit, wish)
    yield _share(fit, wish)
    if fit.kv_dtype == "fp8":
        why = "as asked" if wish.kv_dtype else "as the recipe for these weights or GPUs has it"
        yield Reason("fp8 cache", f"{why}: twice the tokens")
    if model.tool_parser:
        names = f"parsers {model.tool_parser} / {model.reasoning_parser or 'none'}"
        why = "the names of this model's formats in vLLM"
        if not model.reasoning_parser:
            why += "; it does not think, and a reasoning parser would swallow its answers"
        yield Reason(names, why)
    for profile in fit.profiles:
        yield Reason(f"settings for {gpus.generation(fit.places[0].gpus[0])}", profile.why)


def _variant(model: ModelFacts, fit: Fit, wish: Wish) -> Reason:
    what = f"{fit.variant.quantisation} weights, {fit.variant.weight_bytes / 1e9:,.0f} GB"
    if wish.variant:
        why = "as asked"
    elif len(model.variants) == 1:
        why = "the only weights known of this model"
    elif fit.reached:
        why = "the first of its weights that these GPUs run at the full length"
    else:
        why = "of its weights those that leave most room here"
    if not wish.variant:
        why = "; ".join((why, *_passed_over(model, fit)))
    return Reason(what, why)


def _passed_over(model: ModelFacts, fit: Fit) -> Iterable[str]:
    """Why weights that would have been preferred can't run on these GPUs."""
    place = fit.places[0]
    for variant in model.variants:
        if variant == fit.variant:
            return
        if not runs_on(variant.needs, place.gpus[0], place.node.vendor):
            yield variant.needs.why


def _layout(model: ModelFacts, fit: Fit, machine: Machine, wish: Wish) -> Iterable[Reason]:
    layout = fit.candidate.layout
    heads = f"divides {model.heads} heads"
    if wish.tensor_parallel:
        yield Reason(f"tensor parallel {layout.tensor}", f"as asked; it {heads}")
    elif layout.tensor == 1:
        whole = not (wish.data_parallel and layout.expert_parallel)
        why = "the model fits on it, and nothing has to travel" if whole else "its attention fits"
        yield Reason("one GPU a copy", why)
    else:
        why = f"{heads}, over the GPUs of {'the nodes' if _spans(fit) else 'one node'}"
        if len(fit.places[0].gpus) < len(fit.places[0].node.gpus):
            why += f"; finer than {LEAST_SHARE / 1e9:.0f} GB of weights a GPU gains little"
        yield Reason(f"tensor parallel {layout.tensor}", why)
    if layout.pipeline > 1:
        crossing = len(fit.places) > 1
        why = "stages cross nodes, tensor parallelism would need a faster link between them"
        yield Reason(
            f"pipeline parallel {layout.pipeline}", why if crossing else "stages in a node"
        )
    if layout.data > 1:
        why = "each node or group holds the whole model"
        if wish.data_parallel:
            shared = "; each copy keeps the attention and its share of the experts"
            why = f"as asked{shared if model.experts else ''}"
        yield Reason(f"data parallel {layout.data}", why)
    if model.experts:
        yield Reason(
            f"expert parallel {layout.expert_ranks}" if layout.expert_parallel else "experts cut",
            _whole_experts(fit, wish)
            if layout.expert_parallel
            else f"all {model.experts} experts over the same GPUs; whole ones serve crowds better",
        )
    if layout.decode_context > 1:
        yield Reason(
            f"decode context parallel {layout.decode_context}",
            "as asked"
            if wish.decode_context_parallel
            else "a latent cache is copied to every rank otherwise, and would not fit",
        )


def _whole_experts(fit: Fit, wish: Wish) -> str:
    if wish.data_parallel:
        return "whole experts, shared out over all copies"
    return f"blocks of the {fit.variant.quantisation} experts don't divide over the ranks"


def _spans(fit: Fit) -> bool:
    layout = fit.candidate.layout
    return len(fit.places) > 1 and layout.pipeline == 1 and layout.data == 1


def _context(model: ModelFacts, fit: Fit, wish: Wish) -> Reason:
    what = f"context {length(fit.context)}"
    if wish.context is not None:
        return Reason(what, "as asked")
    if not fit.reached:
        return Reason(what, f"what the cache holds; the model could {length(model.max_context)}")
    if fit.target < model.max_context:
        return Reason(
            what, "as far as the recipe for these GPUs was tried; --context asks for more"
        )
    return Reason(what, "all that the model can")


def _share(fit: Fit, wish: Wish) -> Reason:
    what = f"{fit.utilisation:g} of each GPU"
    if fit.utilisation < fit.asked_share:
        held = ", ".join(holders(gpu for place in fit.places for gpu in place.gpus))
        return Reason(what, f"more is in use{': ' + held if held else ''}")
    if wish.utilisation:
        return Reason(what, "as asked")
    if fit.utilisation == memory.UTILISATION:
        return Reason(what, "vLLM's own share; the rest is for what it does not count")
    return Reason(what, "as in the recipe for these GPUs")


def holders(chosen: Iterable[Gpu]) -> Iterable[str]:
    """Who holds memory: "python (pid 812) 12.0 GiB"."""
    totals: dict[tuple[int, str], int] = {}
    for gpu in chosen:
        for process in gpu.used_by:
            key = process.pid, process.name
            totals[key] = totals.get(key, 0) + process.bytes
    for (pid, name), size in sorted(totals.items(), key=lambda item: -item[1]):
        yield f"{name} (pid {pid}) {gib(size)}"


def options(model: ModelFacts, fit: Fit) -> Iterable[Option]:
    """What may be worth adding by hand."""
    layout = fit.candidate.layout
    if model.decode_context and layout.decode_context == 1 and layout.tensor > 1:
        size = str(layout.tensor)
        yield Option(
            "decode context parallelism",
            (Flag("--decode-context-parallel-size", size, "each GPU keeps a part of the cache"),),
            f"{size} times the tokens in the cache for many users at once; measured on 8 H200 with "
            "K2-Thinking: 715,072 to 5,721,088 tokens and 43 % more output (vLLM recipes)",
        )
    if fit.kv_dtype == "auto" and not model.profiles:
        yield Option(
            "fp8 cache",
            (Flag("--kv-cache-dtype", "fp8", "half the bytes a token"),),
            "twice the tokens; answers may differ a little",
        )
    spare = [gpu for place in fit.places for gpu in place.node.gpus if gpu not in place.gpus]
    if len(fit.places) == 1 and len(spare) >= layout.world and layout.data == 1:
        copies = len(fit.places[0].node.gpus) // layout.world
        if layout.pipeline == 1:
            yield Option(
                "more copies",
                (Flag("--data-parallel-size", str(copies), "as many copies share the requests"),),
                f"uses the {count(len(spare), 'GPU')} left over, for more people at once",
            )
    yield from model.options
