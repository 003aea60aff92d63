"""What the parts of `kimi serve` tell each other: machines, models, wishes and plans.

Every size is in bytes, every length in tokens. Nothing here computes or does I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Vendor = Literal["nvidia", "amd", "cpu", ""]
KvDtype = Literal["auto", "fp8"]
Thinking = Literal["none", "switchable", "always", "effort"]
KvKind = Literal["mla", "gqa"]
WayKind = Literal["context", "gpus", "variant", "model", "free", "setting"]


# --- the machine ---


@dataclass(frozen=True, slots=True)
class Process:
    """Somebody's process that holds GPU memory."""

    pid: int
    name: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `capability` is "9.0", "10.0" (CUDA) or "gfx942" (AMD); "" when unknown.

    A described GPU, one that nobody looked at, has everything free.
    """

    name: str
    total_bytes: int
    free_bytes: int
    index: int = 0
    used_by: tuple[Process, ...] = ()
    capability: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """One computer. `nvlink` says whether its GPUs reach each other so; None when unknown.

    `address` is where other nodes reach it, on the network interface `interface`; "" where that
    is not known, and `host` has to do.
    """

    gpus: tuple[Gpu, ...]
    host: str = "localhost"
    nvlink: bool | None = None
    driver: str = ""
    cuda: str = ""
    vendor: Vendor = "nvidia"
    address: str = ""
    interface: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """All that a plan may use; `described` when it was typed in, not found.

    `spans` says that NVLink or InfiniBand joins the nodes, so that one tensor-parallel group may
    reach over them.
    """

    nodes: tuple[Node, ...]
    described: bool
    spans: bool = False


# --- the model ---


@dataclass(frozen=True, slots=True)
class KvShape:
    """What one token and one sequence leave in the cache, for the whole model.

    `layers` counts only those whose cache grows with the context. `width` is, for "mla", the
    elements of one token in one layer (latent + rotary part), and for "gqa" one head's size;
    `kv_heads` counts for "gqa" alone. `state_bytes` is what a sequence takes however long it is:
    the states of linear-attention layers and the windows of sliding ones.
    """

    kind: KvKind
    layers: int
    width: int
    kv_heads: int = 1
    state_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Needs:
    """What hardware a variant runs on. `capability` is the least CUDA compute capability ("" any).

    `amd` holds the architectures ("gfx950") that run it on AMD; empty: none is known to.
    """

    capability: str = ""
    amd: tuple[str, ...] = ()
    why: str = ""


@dataclass(frozen=True, slots=True)
class Flag:
    """One option of `vllm serve`; `value` is None for a switch."""

    name: str
    value: str | None
    why: str


@dataclass(frozen=True, slots=True)
class EnvVar:
    """One environment variable for the server. A `secret` one has no value in the plan."""

    name: str
    value: str
    why: str
    secret: bool = False


@dataclass(frozen=True, slots=True)
class Variant:
    """One set of weights of a model. `weight_bytes` is the checkpoint's size on disk.

    `weights_known` is False where the size was reckoned or remembered and not read off; `source`
    says where it is from. `expert_blocks`: block-quantised experts can be cut between this many
    blocks only, so the tensor-parallel size must divide it or experts must stay whole (0: any cut).
    """

    repo: str
    quantisation: str
    weight_bytes: int
    min_vllm: str
    needs: Needs = Needs()
    flags: tuple[Flag, ...] = ()
    environment: tuple[EnvVar, ...] = ()
    kv_dtype: KvDtype = "auto"
    weights_known: bool = True
    expert_blocks: int = 0
    source: str = ""


@dataclass(frozen=True, slots=True)
class Option:
    """Something the plan leaves out that may be worth having, with the reason to try it."""

    what: str
    flags: tuple[Flag, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Profile:
    """What a published recipe adds for some kinds of GPU.

    `generations` are words of `gpus.generation`; `pipelined` restricts it to layouts with (True)
    or without (False) pipeline stages, `quantisation` to one kind of weights, `under_bytes` to
    GPUs smaller than that. `context` is the longest the recipe was tried with; asking for more by
    hand is allowed.
    """

    generations: tuple[str, ...]
    why: str
    utilisation: float | None = None
    context: int | None = None
    kv_dtype: KvDtype | None = None
    flags: tuple[Flag, ...] = ()
    environment: tuple[EnvVar, ...] = ()
    pipelined: bool | None = None
    quantisation: str = ""
    under_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What planning needs to know about a model, from the catalogue or from its own config.json.

    `experts` is the number of routed experts, 0 for a dense model. `overhead_bytes` is what
    activations, CUDA and its graphs take on each GPU: an estimate. `tool_parser` and
    `reasoning_parser` are vLLM's names, "" for none. `decode_context`: its cache was seen to be
    shared out over tensor-parallel ranks (DCP) with a gain. `hosted_only`: there are no weights to
    serve. `common_bytes` is what of the weights is no routed expert (0: not known): all copies of a
    data-parallel server keep it, while they share out the experts. `estimated` names every fact
    that is not from a source, in words for the user.
    """

    id: str
    name: str
    variants: tuple[Variant, ...]
    layers: int
    heads: int
    kv: KvShape
    max_context: int
    experts: int = 0
    overhead_bytes: int = 4 << 30
    tool_parser: str = ""
    reasoning_parser: str = ""
    thinking: Thinking = "none"
    inputs: tuple[str, ...] = ("text",)
    trust_remote_code: bool = False
    flags: tuple[Flag, ...] = ()
    aliases: tuple[str, ...] = ()
    decode_context: bool = False
    profiles: tuple[Profile, ...] = ()
    options: tuple[Option, ...] = ()
    hosted_only: bool = False
    notes: tuple[str, ...] = ()
    estimated: tuple[str, ...] = ()
    source: str = ""
    common_bytes: int = 0


# --- what is asked for ---


@dataclass(frozen=True, slots=True)
class Wish:
    """What the user asked for; None and "" leave it to the plan.

    `variant` names a repository or a quantisation ("int4", "nvfp4"). `sessions` is how many at
    full context must fit at once. `utilisation` is the share of each GPU's total memory.
    `data_parallel` copies, if asked for, keep the attention each and share the experts out.
    """

    context: int | None = None
    sessions: int | None = None
    variant: str = ""
    kv_dtype: KvDtype | None = None
    utilisation: float | None = None
    tensor_parallel: int | None = None
    pipeline_parallel: int | None = None
    decode_context_parallel: int | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    served_name: str = ""
    data_parallel: int | None = None


# --- the answer ---


@dataclass(frozen=True, slots=True)
class Reason:
    """One decision of a plan, as a pair for the screen: "tensor parallel 8", "divides 64 heads"."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Layout:
    """How the model is cut. World size = tensor * pipeline * data; `expert_parallel` is a switch
    that spreads experts over tensor * data ranks, `expert_ranks` how many that makes (1: off)."""

    tensor: int
    pipeline: int = 1
    data: int = 1
    decode_context: int = 1
    expert_parallel: bool = False

    @property
    def expert_ranks(self) -> int:
        return self.tensor * self.data if self.expert_parallel else 1

    @property
    def world(self) -> int:
        return self.tensor * self.pipeline * self.data


@dataclass(frozen=True, slots=True)
class GpuMemory:
    """One row of the memory table. total = others + weights + kv + overhead + free.

    `others` is what was in use before; `overhead` activations, CUDA and its graphs; `free` what
    stays outside the server's share. An unused GPU has weights, kv and overhead of 0.
    """

    host: str
    index: int
    name: str
    total: int
    others: int
    weights: int
    kv: int
    overhead: int
    free: int


@dataclass(frozen=True, slots=True)
class NodeCommand:
    """What to start on one node: the arguments (never a secret) and the environment."""

    host: str
    rank: int
    argv: tuple[str, ...]
    environment: tuple[EnvVar, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """How the model will run.

    `kv_token_bytes` is a token's cache in the whole model, `kv_token_gpu_bytes` what it takes on
    one GPU in this layout. `tokens` is how many fit in the cache of all replicas together,
    `sessions` how many conversations of `context` tokens at once. `estimated` lists what in this
    plan rests on an estimate.
    """

    model: ModelFacts
    variant: Variant
    machine: Machine
    layout: Layout
    context: int
    utilisation: float
    kv_dtype: KvDtype
    kv_token_bytes: int
    kv_token_gpu_bytes: int
    tokens: int
    sessions: int
    memory: tuple[GpuMemory, ...]
    flags: tuple[Flag, ...]
    environment: tuple[EnvVar, ...]
    commands: tuple[NodeCommand, ...]
    reasons: tuple[Reason, ...]
    options: tuple[Option, ...] = ()
    notes: tuple[str, ...] = ()
    estimated: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Way:
    """One way that does fit. `options` are what to change in the call of `kimi serve plan`: names
    and values by turns, for kind "model" after the model's name; () when a call can't say it."""

    kind: WayKind
    text: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NoPlan:
    """Why it does not fit. `short_by_bytes` is over all GPUs together; 0 when memory is not what
    is missing (the wrong kind of GPU, no GPU, no weights to be had)."""

    model: ModelFacts
    machine: Machine
    short_by_bytes: int
    why: str
    ways: tuple[Way, ...] = ()
