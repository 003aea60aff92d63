"""What weights, cache and work space take on one GPU, and what of it there is.

The rules are vLLM's: `--gpu-memory-utilization` is a share of a GPU's total memory; weights,
work space and CUDA graphs come off it, and the rest becomes the cache
(vllm/v1/worker/gpu_worker.py, determine_available_memory). A latent (MLA) cache is the same on
every tensor-parallel rank, so only decode context parallelism divides it; grouped heads are
divided up to one head a rank (vllm/config/model.py, get_num_kv_heads).
"""

from __future__ import annotations

from dataclasses import dataclass

from kimi_cli.serve.facts import Gpu, KvDtype, KvShape, Layout

# vLLM's own default share, vllm/config/cache.py.
UTILISATION = 0.92
# A server's own CUDA context is taken before vLLM compares free memory with what it wants.
_CONTEXT = 600 << 20
# The cache is handed out in blocks; a conversation's last one is part empty.
_BLOCK = 64
_HUNDREDTHS = 100


def element_bytes(dtype: KvDtype) -> int:
    """The size of one cached number: bfloat16, or fp8."""
    return 1 if dtype == "fp8" else 2


def token_bytes(kv: KvShape, dtype: KvDtype) -> int:
    """What one token takes in the cache of a model that isn't cut up."""
    heads = 1 if kv.kind == "mla" else 2 * kv.kv_heads
    return kv.layers * heads * kv.width * element_bytes(dtype)


def stage_token_bytes(kv: KvShape, layout: Layout, dtype: KvDtype) -> int:
    """What one token takes on a GPU that keeps it: one pipeline stage, one tensor rank. With
    decode context parallelism a GPU keeps only every n-th token. At least 1, for models that
    cache nothing per token."""
    layers = _up(kv.layers, layout.pipeline)
    if not layers * kv.width:
        return 1
    if kv.kind == "mla":
        return layers * kv.width * element_bytes(dtype)
    return layers * 2 * max(1, _up(kv.kv_heads, layout.tensor)) * kv.width * element_bytes(dtype)


def token_gpu_bytes(kv: KvShape, layout: Layout, dtype: KvDtype) -> int:
    """A token's mean share on each GPU."""
    return _up(stage_token_bytes(kv, layout, dtype), layout.decode_context)


def state_gpu_bytes(kv: KvShape, layout: Layout) -> int:
    """What one sequence takes on a GPU however long it is; its heads are cut by tensor ranks."""
    return _up(kv.state_bytes, layout.tensor * layout.pipeline)


def weight_gpu_bytes(weight_bytes: int, layers: int, layout: Layout, common_bytes: int = 0) -> int:
    """The weights on the fullest GPU: layers don't always divide evenly into stages. With
    `common_bytes` all but those are experts that the data-parallel copies share out."""
    stages = max(1, _up(layers, layout.pipeline))
    if not common_bytes or not layout.expert_parallel:
        return _up(_up(weight_bytes * stages, max(1, layers)), layout.tensor)
    common = _up(_up(common_bytes * stages, max(1, layers)), layout.tensor)
    experts = _up((weight_bytes - common_bytes) * stages, max(1, layers))
    return common + _up(experts, layout.expert_ranks)


@dataclass(frozen=True, slots=True)
class Cache:
    """The cache of one replica. `room` is what a GPU has for it, possibly less than nothing."""

    room: int
    stage_token: int
    state: int
    shards: int

    def session(self, context: int) -> int:
        """What a conversation of `context` tokens takes on a GPU."""
        return self.state + self.stage_token * _whole_blocks(_up(context, self.shards))

    def sessions(self, context: int) -> int:
        """How many of them fit at once."""
        return max(0, self.room) // self.session(context)

    def longest(self, limit: int) -> int:
        """The longest single conversation that fits, at most `limit` tokens."""
        blocks = max(0, self.room - self.state) // (self.stage_token * _BLOCK)
        return min(limit, blocks * _BLOCK * self.shards)

    def tokens(self) -> int:
        """How many tokens fit in all, in one long conversation."""
        return max(0, self.room - self.state) // self.stage_token * self.shards


def cache(kv: KvShape, layout: Layout, dtype: KvDtype, room: int) -> Cache:
    """The cache that `room` bytes on each GPU make."""
    return Cache(
        room,
        stage_token_bytes(kv, layout, dtype),
        state_gpu_bytes(kv, layout),
        layout.decode_context,
    )


def highest_utilisation(gpu: Gpu) -> float:
    """The most that vLLM would start with here: it refuses a share that is not free, so what
    others hold comes off. In whole hundredths, never below 0."""
    usable = max(0, gpu.free_bytes - _CONTEXT)
    return min(_HUNDREDTHS - 1, usable * _HUNDREDTHS // gpu.total_bytes) / _HUNDREDTHS


def budget(gpu: Gpu, utilisation: float) -> int:
    """What the server may use of the GPU: weights, work space and cache together."""
    return gpu.total_bytes * round(utilisation * 1000) // 1000


def _up(value: int, parts: int) -> int:
    return -(-value // parts)


def _whole_blocks(tokens: int) -> int:
    return _up(tokens, _BLOCK) * _BLOCK
