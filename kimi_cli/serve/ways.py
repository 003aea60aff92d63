"""The nearest ways that do fit, each one tried with the same arithmetic."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from kimi_cli.serve import gpus, reasons
from kimi_cli.serve.catalogue import models
from kimi_cli.serve.describe import describe
from kimi_cli.serve.facts import Gpu, Machine, ModelFacts, Node, Way, Wish
from kimi_cli.serve.fit import Fit, search
from kimi_cli.serve.wording import count, gib, length

# Shorter than this a conversation can't even hold the instructions and a file.
_LEAST = 4_096
_MOST_MODELS = 3
_NODE_SIZES = (1, 2, 4, 8)
_NODE_COUNTS = (2, 3, 4, 6, 8, 12, 16)
_OTHER_CARDS = ("RTX 4090", "RTX 5090", "L40S", "H100", "H200", "B200", "B300")


def ways(model: ModelFacts, machine: Machine, wish: Wish) -> Iterator[Way]:
    """What to change, the smallest change first. Every way was planned and fits."""
    if model.hosted_only or not model.variants:
        yield from _other_models(model, machine, wish)
        return
    present = any(node.gpus for node in machine.nodes)
    if present:
        yield from _layout(model, machine, wish)
        yield from _freed(model, machine, wish)
        yield from _shorter(model, machine, wish)
        yield from _settings(model, machine, wish)
        yield from _other_variants(model, machine, wish)
        yield from _more_gpus(model, machine, wish)
    yield from _other_gpus(model, machine, wish)
    if present:
        yield from _other_models(model, machine, wish)


def _best(model: ModelFacts, machine: Machine, wish: Wish) -> Fit | None:
    if wish.context is not None and wish.context > model.max_context:
        return None
    return search(model, machine, wish).best


def _layout(model: ModelFacts, machine: Machine, wish: Wish) -> Iterable[Way]:
    freely = replace(
        wish,
        tensor_parallel=None,
        pipeline_parallel=None,
        decode_context_parallel=None,
        data_parallel=None,
    )
    if freely == wish:
        return
    found = _best(model, machine, freely)
    if found:
        cut = found.candidate.layout
        said = [
            ("tensor parallel", wish.tensor_parallel, cut.tensor),
            ("pipeline parallel", wish.pipeline_parallel, cut.pipeline),
            ("decode context parallel", wish.decode_context_parallel, cut.decode_context),
            ("data parallel", wish.data_parallel, cut.data),
        ]
        changed = [(name, size) for name, asked, size in said if asked is not None]
        text = ", ".join(f"{name} {size}" for name, size in changed)
        words = [word for name, size in changed for word in (f"--{name.replace(' ', '-')}", size)]
        yield Way("setting", text, tuple(str(word) for word in words))


def _freed(model: ModelFacts, machine: Machine, wish: Wish) -> Iterable[Way]:
    held = [gpu for node in machine.nodes for gpu in node.gpus if gpu.free_bytes < gpu.total_bytes]
    if held and _best(model, _all_free(machine), wish):
        who = ", ".join(reasons.holders(held))
        size = gib(sum(gpu.total_bytes - gpu.free_bytes for gpu in held))
        yield Way("free", f"free the {size} that are in use{': ' + who if who else ''}")


def _shorter(model: ModelFacts, machine: Machine, wish: Wish) -> Iterable[Way]:
    for fewer in (wish, replace(wish, sessions=None)):
        longest = _longest(model, machine, fewer)
        if longest:
            asked = fewer.sessions
            people = f" for {count(asked, 'conversation')}" if asked else ""
            options = ["--context", length(longest)]
            if wish.sessions and not asked:
                options += ["--sessions", "1"]
            yield Way("context", f"a context of {length(longest)}{people}", tuple(options))
            return
        if wish.sessions is None:
            return


def _longest(model: ModelFacts, machine: Machine, wish: Wish) -> int:
    """The longest context in whole thousands that can be asked for by hand, 0 for none."""
    limit = min(wish.context or model.max_context, model.max_context)
    low, high = 0, limit // 1024
    while low < high:
        middle = (low + high + 1) // 2
        if search(model, machine, replace(wish, context=middle * 1024)).best:
            low = middle
        else:
            high = middle - 1
    return low * 1024 if low * 1024 >= min(_LEAST, model.max_context) else 0


def _settings(model: ModelFacts, machine: Machine, wish: Wish) -> Iterable[Way]:
    if wish.kv_dtype is None and _best(model, machine, replace(wish, kv_dtype="fp8")):
        yield Way("setting", "an fp8 cache, half the bytes a token", ("--kv-dtype", "fp8"))
    if wish.utilisation is None or wish.utilisation < 0.95:
        found = _best(model, machine, replace(wish, utilisation=0.95))
        if found and found.utilisation == 0.95:
            text = "0.95 of each GPU, if nothing else runs there"
            yield Way("setting", text, ("--utilisation", "0.95"))


def _other_variants(model: ModelFacts, machine: Machine, wish: Wish) -> Iterable[Way]:
    if not wish.variant:
        return
    found = _best(model, machine, replace(wish, variant=""))
    if found:
        text = f"its {found.variant.quantisation} weights, {found.variant.repo}"
        yield Way("variant", text, ("--variant", found.variant.quantisation))


def _more_gpus(model: ModelFacts, machine: Machine, wish: Wish) -> Iterable[Way]:
    """The fewest of the same GPU that do."""
    node = max(machine.nodes, key=lambda one: len(one.gpus))
    gpu = max(node.gpus, key=lambda one: one.total_bytes)
    size = len(node.gpus)
    for number in _NODE_SIZES:
        if number > size and _best(model, _alike(machine, node, gpu, number, 1), wish):
            yield _gpu_way(gpu, number, 1)
            return
    per_node = max(size, 1)
    for nodes in _NODE_COUNTS:
        enough = nodes > len(machine.nodes)
        if enough and _best(model, _alike(machine, node, gpu, per_node, nodes), wish):
            yield _gpu_way(gpu, per_node, nodes)
            return


def _alike(machine: Machine, node: Node, gpu: Gpu, number: int, nodes: int) -> Machine:
    same = tuple(
        replace(gpu, index=index, free_bytes=gpu.total_bytes, used_by=()) for index in range(number)
    )
    return replace(machine, nodes=(replace(node, gpus=same),) * nodes)


def _gpu_way(gpu: Gpu, number: int, nodes: int) -> Way:
    what = f"{number}x{_gpu_name(gpu)}"
    where = f"{count(nodes, 'node')} of {what}" if nodes > 1 else what
    return Way("gpus", where, ("--gpus", what, *(("--nodes", str(nodes)) if nodes > 1 else ())))


def _gpu_name(gpu: Gpu) -> str:
    """A name that can be typed in for it."""
    card = gpus.find_card(gpu.name)
    if card:
        return card.name
    try:
        describe(gpu.name)
    except ValueError:
        return f"{gpu.name.replace('+', ' ').replace(',', ' ')} {gpu.total_bytes // gpus.GIB}GB"
    return gpu.name


def _other_gpus(model: ModelFacts, machine: Machine, wish: Wish) -> Iterable[Way]:
    """The smallest single computer of another kind."""
    here = {gpus.capability(gpu) for node in machine.nodes for gpu in node.gpus}
    for number in _NODE_SIZES:
        for name in _OTHER_CARDS:
            card = gpus.find_card(name)
            if card is None or card.capability in here:
                continue
            wanted = f"{number}x{name}"
            if _best(model, describe(wanted), wish):
                yield Way("gpus", wanted, ("--gpus", wanted))
                return


def _other_models(asked: ModelFacts, machine: Machine, wish: Wish) -> Iterable[Way]:
    """Models that can work as an agent and fit here at the same wish."""
    found = 0
    plain = replace(
        wish,
        variant="",
        tensor_parallel=None,
        pipeline_parallel=None,
        decode_context_parallel=None,
        data_parallel=None,
    )
    for model in models():
        if found == _MOST_MODELS:
            return
        if model.id == asked.id or not model.tool_parser:
            continue
        best = _best(model, machine, plain)
        if best:
            found += 1
            text = f"{model.name} ({best.variant.quantisation}), context {length(best.context)}"
            yield Way("model", text, (model.id,))


def _all_free(machine: Machine) -> Machine:
    nodes = tuple(
        replace(
            node,
            gpus=tuple(replace(gpu, free_bytes=gpu.total_bytes, used_by=()) for gpu in node.gpus),
        )
        for node in machine.nodes
    )
    return replace(machine, nodes=nodes)
