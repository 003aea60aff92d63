"""Troubles with memory. The texts are those of vllm/v1/core/kv_cache_utils.py,
v1/worker/{utils,gpu_worker,gpu_model_runner}.py and of PyTorch's allocators."""

from __future__ import annotations

import math
import re

from kimi_cli.serve.running import Repair
from kimi_cli.serve.trouble_case import Case, Row, Told, row
from kimi_cli.serve.wording import length

# An agent's first request alone takes a few thousand tokens.
LEAST_CONTEXT = 4096
_LEAST_SHARE = 0.2
_FEWER = "a smaller context (--context 64k), more GPUs or smaller weights (--variant)"


def _too_long(found: re.Match[str], case: Case) -> Told:
    asked, needs, has = int(found[1]), found[2], found[3]
    what = (
        f"a conversation of {asked:,} tokens needs {needs} GiB of cache, and {has} GiB are left "
        "beside the weights"
    )
    fits = int(found[4]) if found[4] else 0
    if fits < LEAST_CONTEXT:
        return Told(what, f"{_FEWER}; `kimi serve plan {case.launch.request.model}` compares them")
    return Told(
        f"{what}; {fits:,} tokens fit",
        case.again("--context", str(fits)),
        Repair((("--max-model-len", str(fits)),), f"context {asked:,} → {fits:,} tokens, as fits"),
    )


def _old_too_long(found: re.Match[str], case: Case) -> Told:
    asked, fits = int(found[1]), int(found[2])
    what = f"a conversation may be {asked:,} tokens long, and {fits:,} fit into the cache"
    if fits < LEAST_CONTEXT:
        return Told(what, _FEWER)
    return Told(
        what,
        case.again("--context", str(fits)),
        Repair((("--max-model-len", str(fits)),), f"context {asked:,} → {fits:,} tokens, as fits"),
    )


def _nothing_left(found: re.Match[str], case: Case) -> Told:
    where = (
        "the weights and the working memory take all of the server's share; nothing is left for "
        "the cache"
    )
    return Told(where, f"{_FEWER}; `kimi serve plan {case.launch.request.model}` compares them")


def _not_free(found: re.Match[str], case: Case) -> Told:
    device, free, total, share, wanted = found[1], *(float(one) for one in found.groups()[1:])
    who = case.holders()
    held = f": {who}" if who else ", the rest is held by other programs"
    what = (
        f"{free:.1f} of {total:.1f} GiB are free on GPU {device}, and the server is to have "
        f"{wanted:.1f}{held}"
    )
    # Two decimals, rounded down: vLLM rounds what it asks for up.
    fits = math.floor(100 * free / total - 0.5) / 100 if total > 0 else 0.0
    if not _LEAST_SHARE <= fits < share:
        return Told(what, "end what holds the GPU, or choose other GPUs (CUDA_VISIBLE_DEVICES)")
    return Told(
        what,
        f"end what holds the GPU, or: {case.again('--utilisation', f'{fits:g}')}",
        Repair(
            (("--gpu-memory-utilization", f"{fits:g}"),),
            f"share of the GPU {share:g} → {fits:g}, as is free",
        ),
    )


def _changed(found: re.Match[str], case: Case) -> Told:
    return Told(
        "another program gave GPU memory back while vLLM measured its own use",
        f"start it again once the GPU is quiet: {case.again()}",
        Repair((), "another try, now that the GPU is quiet"),
    )


def _weights(found: re.Match[str], case: Case) -> Told:
    cut = case.option("--tensor-parallel-size", "-tp") or "1"
    return Told(
        f"the weights don't fit into the GPUs' memory (cut over {cut})",
        "more GPUs (--tensor-parallel) or smaller weights (--variant); "
        f"`kimi serve plan {case.launch.request.model}` shows which fit",
    )


def _sampler(found: re.Match[str], case: Case) -> Told:
    rows = int(found[1])
    fewer = max(4, rows // 4)
    what = f"out of GPU memory while trying {rows} requests at once"
    if rows <= fewer:
        return Told(what, case.again("--utilisation", "0.85"))
    return Told(
        what,
        case.again("--", "--max-num-seqs", str(fewer)),
        Repair((("--max-num-seqs", str(fewer)),), f"requests at once {rows} → {fewer}"),
    )


def _gpu(found: re.Match[str], case: Case) -> Told:
    tried = f" while asking for {found[1]}" if found[1] else ""
    rest = re.search(r"of which ([\d.]+ [KMGT]iB) is free", found.string)
    free = f", {rest[1]} were free" if rest else ""
    who = case.holders()
    return Told(
        f"a GPU ran out of memory{tried}{free}{f' ({who})' if who else ''}",
        f"leave it more room: {case.again('--utilisation', '0.85')}; or {_FEWER}",
    )


def _ram(found: re.Match[str], case: Case) -> Told:
    size = re.search(r"tried to allocate (\d{1,18}) bytes", found.string)
    tried = f" while asking for {int(size[1]) / (1 << 30):,.1f} GiB" if size else ""
    return Told(
        f"this computer ran out of memory (RAM){tried}",
        "end other programs, or choose a smaller model or context "
        f"(--context {length(LEAST_CONTEXT * 4)}); `free -h` shows what is there",
    )


_NUMBER = r"(\d{1,9}(?:\.\d{1,9})?)"
MEMORY: tuple[Row, ...] = (
    row(
        "context-memory",
        rf"max seq len \((\d{{1,12}})\), \({_NUMBER} GiB KV cache is needed, which is larger than"
        rf" the available KV cache memory \({_NUMBER} GiB\)"
        r"(?:.{0,80}?estimated maximum model length is (\d{1,12}))?",
        _too_long,
    ),
    row(
        "context-memory",
        r"model's max seq len \((\d{1,12})\) is larger than the maximum number of tokens that can"
        r" be stored in KV cache \((\d{1,12})\)",
        _old_too_long,
    ),
    row("no-cache-memory", r"No available memory for the cache blocks", _nothing_left),
    row("no-cache-memory", r"Cannot auto-fit max_model_len", _nothing_left),
    row(
        "gpu-busy",
        rf"Free memory on device (?:cuda:|hip:|xpu:)?(\w+) \({_NUMBER}/{_NUMBER} GiB\) on startup"
        r" is less than (?:desired GPU memory utilization|the engine's budget[^(]{0,80}) "
        rf"?\({_NUMBER}, {_NUMBER} GiB\)",
        _not_free,
    ),
    row("gpu-changed", r"Error in memory profiling\. Initial free memory", _changed),
    row("weights-memory", r"Failed to load model - not enough GPU memory", _weights),
    row("gpu-memory", r"out of memory occurred when warming up \w+ with (\d{1,9})", _sampler),
    row(
        "gpu-memory",
        r"(?:CUDA|HIP|XPU) out of memory(?:\. Tried to allocate ([\d.]+ [KMGT]iB))?",
        _gpu,
    ),
    row("gpu-memory", r"(?:CUDA error|HIP error): out of memory()", _gpu),
    row(
        "memory",
        r"DefaultCPUAllocator: (?:can't|not enough)|\bMemoryError\b|\[Errno 12\]|std::bad_alloc",
        _ram,
    ),
)
