"""The models that can be planned for without their files, Moonshot's own.

Sizes of checkpoints are in decimal gigabytes, as repositories state them. Where a number was not
read from a source, the row says so in `estimated`, and a size has `weights_known=False`.
"""

from __future__ import annotations

from dataclasses import replace

from kimi_cli.serve.facts import EnvVar, Flag, KvShape, ModelFacts, Needs, Option, Profile, Variant

_GB = 10**9
_GIB = 1 << 30
_128K = 131_072
_256K = 262_144
_1M = 1_048_576

_RECIPES = "vllm-project/recipes, 2026-08-21"
_GUIDE = "Moonshot's deploy_guidance.md"

_AMPERE = Needs("8.0", ("gfx942", "gfx950"), "4-bit weights need Ampere or newer")
_BF16 = Needs("8.0", ("gfx90a", "gfx942", "gfx950"), "bfloat16 needs Ampere or newer")
_FP8 = Needs("8.9", ("gfx942", "gfx950"), "fp8 arithmetic needs Ada, Hopper or newer")
_NVFP4 = Needs("10.0", (), "NVFP4 needs Blackwell")
_MXFP4_AMD = Needs("99.0", ("gfx950",), "AMD's MXFP4 weights need an MI350X or MI355X")

# 61 layers, one latent of 512 and a rotary part of 64 each.
_K2_KV = KvShape("mla", 61, 576)
# Found backwards from the published 715,072 tokens of cache on 8 H200: what is left of 0.90 of
# a GPU after an eighth of the weights.
_K2_OVERHEAD = 10 * _GIB
# With the vision tower whole on each GPU: 400 million parameters in bfloat16.
_K25_OVERHEAD = _K2_OVERHEAD + 8 * _GB // 10

_ROCM_K2 = Profile(
    ("gfx942", "gfx950"),
    "as verified on 8 MI300X and MI355X (vLLM recipes)",
    environment=(
        EnvVar("VLLM_ROCM_USE_AITER", "1", "AMD's kernels (vLLM recipes)"),
        EnvVar("VLLM_ROCM_QUICK_REDUCE_QUANTIZATION", "INT4", "quicker all-reduce (vLLM recipes)"),
    ),
)
_FLYDSL = Profile(
    ("gfx950",),
    "the int4 kernels of MI350X and MI355X (vLLM recipes)",
    flags=(
        Flag("--moe-backend", "flydsl", "the int4 expert kernel for this GPU"),
        Flag(
            "--compilation-config",
            '{"pass_config": {"fuse_allreduce_rms": false}}',
            "that kernel needs this fusion off",
        ),
    ),
    quantisation="int4",
)
_VISION = Flag(
    "--mm-encoder-tp-mode",
    "data",
    "the vision tower is small: whole on each GPU it needs no traffic between them",
)
_TEXT_ONLY = Option(
    "text only",
    (Flag("--language-model-only", None, "leaves the vision tower out"),),
    "more room for the cache when no images are sent; takes the place of --mm-encoder-tp-mode",
)


def _eagle(model: str) -> Option:
    text = f'{{"model":"{model}","method":"eagle3","num_speculative_tokens":3}}'
    return Option(
        "speculative decoding",
        (Flag("--speculative-config", text, "a small draft model guesses ahead"),),
        "quicker answers for one user; takes some memory (vLLM recipes)",
    )


_HOSTED = ("only Moonshot serves it: there are no weights to download",)

_K15 = ModelFacts(
    "kimi-k1.5-preview", "Kimi k1.5", (), 0, 0, KvShape("mla", 0, 0), _128K,
    thinking="switchable", inputs=("text", "image"), hosted_only=True, notes=_HOSTED,
    source="Moonshot's announcement",
)  # fmt: skip

_K2 = ModelFacts(
    "kimi-k2-instruct",
    "Kimi K2 Instruct",
    (
        Variant(
            "moonshotai/Kimi-K2-Instruct",
            "fp8",
            1_030 * _GB,
            "0.12.0",
            _FP8,
            weights_known=False,
            expert_blocks=16,
            source=f"{_GUIDE}: about 1 TB; 1.03 TB is from memory",
        ),
    ),
    layers=61,
    heads=64,
    kv=_K2_KV,
    max_context=_128K,
    experts=384,
    overhead_bytes=_K2_OVERHEAD,
    tool_parser="kimi_k2",
    trust_remote_code=True,
    decode_context=True,
    profiles=(
        Profile(
            ("gfx942", "gfx950"),
            "as in the recipe for AMD",
            environment=(EnvVar("SAFETENSORS_FAST_GPU", "1", "weights load straight to the GPU"),),
        ),
    ),
    aliases=("kimi-k2", "kimi-k2-0711-preview", "k2"),
    notes=("an instruct model: a reasoning parser would take its answers for thoughts",),
    source=f"{_GUIDE} of Kimi-K2; {_RECIPES}",
    # Attention, the shared expert, the first layer and the vocabulary, from config.json: 12 billion
    # parameters, of which the vocabulary's 2.3 are in bfloat16.
    common_bytes=15 * _GB,
)

_K2_0905 = replace(
    _K2,
    id="kimi-k2-instruct-0905",
    name="Kimi K2 Instruct 0905",
    variants=(replace(_K2.variants[0], repo="moonshotai/Kimi-K2-Instruct-0905"),),
    max_context=_256K,
    aliases=("kimi-k2-0905", "kimi-k2-0905-preview"),
    estimated=("a context of 262,144 tokens",),
)

_THINKING = replace(
    _K2,
    id="kimi-k2-thinking",
    name="Kimi K2 Thinking",
    variants=(
        Variant(
            "nvidia/Kimi-K2-Thinking-NVFP4", "nvfp4", 591 * _GB, "0.12.0", _NVFP4,
            kv_dtype="fp8", weights_known=False, source=f"{_RECIPES}; size as of Kimi-K2.5-NVFP4",
        ),
        Variant(
            "moonshotai/Kimi-K2-Thinking", "int4", 594 * _GB, "0.12.0", _AMPERE,
            source=f"{_GUIDE}: about 594 GB",
        ),
    ),
    max_context=_256K,
    reasoning_parser="kimi_k2",
    thinking="always",
    # All but the experts is in bfloat16 here.
    common_bytes=24 * _GB,
    profiles=(
        Profile(
            ("gfx942", "gfx950"),
            "as in the recipe for AMD",
            flags=(Flag("--no-enable-prefix-caching", None, "it does not work on AMD yet"),),
        ),
    ),
    options=(
        Option(
            "longer prefill steps",
            (Flag("--max-num-batched-tokens", "32768", "Moonshot's guide"),),
            "long prompts are read faster; takes more work space, so less cache",
        ),
    ),
    aliases=("k2-thinking",),
    notes=(),
    source=f"{_GUIDE} of Kimi-K2-Thinking; {_RECIPES}",
)  # fmt: skip

_K25_INT4 = Variant(
    "moonshotai/Kimi-K2.5", "int4", 595 * _GB, "0.19.1", _AMPERE,
    source=f"{_RECIPES}: about 595 GB on disk",
)  # fmt: skip

_K25 = replace(
    _THINKING,
    id="kimi-k2.5",
    name="Kimi K2.5",
    variants=(
        Variant(
            "nvidia/Kimi-K2.5-NVFP4", "nvfp4", 591 * _GB, "0.19.1", _NVFP4,
            kv_dtype="fp8", source="NVIDIA's developer forum: 591 GB",
        ),
        Variant(
            "amd/Kimi-K2.5-MXFP4", "mxfp4", 557 * _GB, "0.19.1", _MXFP4_AMD,
            environment=(
                EnvVar("VLLM_ROCM_USE_AITER_MOE", "1", "AMD's expert kernels"),
                EnvVar("AITER_MXFP4_INTERMEDIATE", "1", "selects their MXFP4 path"),
            ),
            kv_dtype="fp8", source=f"{_RECIPES}: about 557 GB on disk",
        ),
        _K25_INT4,
    ),
    overhead_bytes=_K25_OVERHEAD,
    thinking="switchable",
    inputs=("text", "image"),
    profiles=(_ROCM_K2, _FLYDSL),
    flags=(_VISION,),
    options=(_eagle("lightseekorg/kimi-k2.5-eagle3-mla"), _TEXT_ONLY),
    aliases=("k2.5",),
    source=f"{_GUIDE} of Kimi-K2.5; {_RECIPES}",
)  # fmt: skip

_K26 = replace(
    _K25,
    id="kimi-k2.6",
    name="Kimi K2.6",
    variants=(
        Variant(
            "nvidia/Kimi-K2.6-NVFP4", "nvfp4", 590 * _GB, "0.25.0", _NVFP4,
            kv_dtype="fp8", weights_known=False,
            source=f"{_RECIPES}; the size is that of another NVFP4 copy",
        ),
        replace(_K25_INT4, repo="moonshotai/Kimi-K2.6"),
    ),
    profiles=(
        Profile(
            ("blackwell",),
            "as verified on 4 B300 (vLLM recipes)",
            utilisation=0.90,
            flags=(
                Flag("--block-size", "64", "the block of this attention kernel"),
                Flag("--attention-backend", "TOKENSPEED_MLA", "the kernel of the verified run"),
                Flag(
                    "--attention-config",
                    '{"use_prefill_query_quantization":true}',
                    "prefill in fp8, like the cache",
                ),
            ),
            environment=(
                EnvVar("VLLM_FLASHINFER_ALLREDUCE_BACKEND", "trtllm", "as in the verified run"),
            ),
            quantisation="nvfp4",
        ),
        _ROCM_K2,
        _FLYDSL,
    ),
    options=(_eagle("lightseekorg/kimi-k2.6-eagle3-mla"), _TEXT_ONLY),
    aliases=("k2.6",),
    source=_RECIPES,
)  # fmt: skip

_K27 = replace(
    _K26,
    id="kimi-k2.7-code",
    name="Kimi K2.7 Code",
    variants=(replace(_K25_INT4, repo="moonshotai/Kimi-K2.7-Code"),),
    thinking="always",
    profiles=(_ROCM_K2, _FLYDSL),
    options=(_eagle("lightseekorg/kimi-k2.7-coder-eagle3.1-mla"), _TEXT_ONLY),
    aliases=("k2.7", "k2.7-code", "kimi-k2.7"),
    notes=("always thinks, and wants its earlier thoughts back",),
)

_K3_WAIT = EnvVar(
    "VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "1800", "one long request can hold a stage past 300 s"
)
_K3 = ModelFacts(
    "kimi-k3",
    "Kimi K3",
    (
        Variant(
            "moonshotai/Kimi-K3", "mxfp4", 1_680 * _GB, "0.27.1",
            Needs("8.0", ("gfx950",), "MXFP4 weights need Ampere or newer"),
            weights_known=False,
            source=f"{_RECIPES}: about 1.68 TB, an estimate made before publication",
        ),
        Variant(
            "RedHatAI/Kimi-K3-NVFP4", "nvfp4", 1_650 * _GB, "0.27.1", _NVFP4,
            weights_known=False, source=f"{_RECIPES}: needs 1,650 GB",
        ),
    ),
    layers=93,
    heads=96,
    kv=KvShape("mla", 24, 576, state_bytes=int(0.40 * _GIB)),
    max_context=_1M,
    experts=896,
    overhead_bytes=12 * _GIB,
    tool_parser="kimi_k3",
    reasoning_parser="kimi_k3",
    thinking="effort",
    inputs=("text", "image"),
    trust_remote_code=True,
    profiles=(
        Profile(
            ("blackwell",),
            "as in the recipe for Blackwell",
            utilisation=0.95,
            kv_dtype="fp8",
            flags=(
                Flag("--load-format", "fastsafetensors", "loads faster; a package of its own"),
                Flag("--no-enable-flashinfer-autotune", None, "as in the recipe"),
                Flag(
                    "--attention-config",
                    '{"use_prefill_query_quantization":true,"mla_prefill_backend":"flashinfer"}',
                    "what an fp8 cache needs here",
                ),
            ),
            environment=(EnvVar("VLLM_ALLREDUCE_USE_FLASHINFER", "1", "as in the recipe"),),
        ),
        Profile(
            ("blackwell",),
            "stages over two nodes, as in the recipe",
            utilisation=0.90,
            flags=(
                Flag("--max-num-batched-tokens", "8192", "no long prompt fills a stage's memory"),
            ),
            environment=(_K3_WAIT, EnvVar("NCCL_CUMEM_ENABLE", "1", "as in the recipe")),
            pipelined=True,
        ),
        Profile(
            ("hopper",),
            "as in the recipe for Hopper",
            utilisation=0.97,
            context=32_768,
            flags=(
                Flag("--max-num-seqs", "5", "more would not fit beside the weights"),
                Flag("--moe-backend", "marlin", "Hopper has no 4-bit arithmetic"),
                Flag("--max-num-batched-tokens", "4096", "small prefill steps, little work space"),
                Flag("--attention-backend", "FLASHMLA", "as in the recipe"),
                Flag("--disable-custom-all-reduce", None, "as in the recipe"),
                Flag("--no-enable-flashinfer-autotune", None, "as in the recipe"),
            ),
            environment=(
                EnvVar("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True", "less waste"),
            ),
        ),
        Profile(
            ("gfx950",),
            "as in the recipe for AMD",
            utilisation=0.95,
            flags=(
                Flag("--max-num-seqs", "128", "as in the recipe"),
                Flag("--max-num-batched-tokens", "4096", "as in the recipe"),
                _VISION,
            ),
            environment=(
                EnvVar("VLLM_ROCM_USE_AITER", "1", "AMD's kernels (vLLM recipes)"),
                EnvVar("SAFETENSORS_FAST_GPU", "1", "weights load straight to the GPU"),
                EnvVar("VLLM_USE_BREAKABLE_CUDAGRAPH", "0", "does not work on AMD yet"),
            ),
        ),
    ),
    options=(
        Option(
            "decode context parallelism",
            (
                Flag("--decode-context-parallel-size", "8", "shares the cache out over the GPUs"),
                Flag("--dcp-comm-backend", "a2a", "as in the recipe"),
                Flag("--attention-backend", "TOKENSPEED_MLA", "as in the recipe"),
                Flag(
                    "--attention-config",
                    '{"use_prefill_query_quantization":true,"mla_prefill_backend":"TRTLLM_RAGGED"}',
                    "takes the place of the other",
                ),
            ),
            "eight times the tokens in the cache; for one node of eight Blackwell GPUs",
        ),
        _TEXT_ONLY,
    ),
    aliases=("k3",),
    notes=(
        "a CUDA 13 build of vLLM and driver 580 or newer",
        "its tool calls are sometimes malformed: kimi checks them and asks again",
    ),
    estimated=("work space of 12 GiB on each GPU",),
    source=f"{_RECIPES}; config.json",
)  # fmt: skip

_K31 = ModelFacts(
    "kimi-k3.1-pro", "Kimi K3.1 Pro", (), 0, 0, KvShape("mla", 0, 0), _1M,
    thinking="effort", inputs=("text", "image"), hosted_only=True, notes=_HOSTED,
    estimated=("that no weights were published",), source="one post, not confirmed",
)  # fmt: skip

_NO_TOOLS = "no tool-call parser is documented for it: it can chat, not work as an agent"

_LINEAR = ModelFacts(
    "kimi-linear-48b-a3b-instruct",
    "Kimi Linear 48B-A3B",
    (
        Variant(
            "moonshotai/Kimi-Linear-48B-A3B-Instruct", "bf16", 96 * _GB, "0.11.2", _BF16,
            source=f"{_RECIPES}; 48 billion parameters of 2 bytes",
        ),
    ),
    layers=27,
    heads=32,
    kv=KvShape("mla", 7, 576, state_bytes=int(0.04 * _GIB)),
    max_context=_1M,
    experts=256,
    overhead_bytes=4 * _GIB,
    trust_remote_code=True,
    profiles=(
        Profile(
            ("gfx90a", "gfx942", "gfx950"),
            "as in the recipe for AMD",
            flags=(Flag("--no-enable-prefix-caching", None, "it does not work on AMD yet"),),
            environment=(
                EnvVar("SAFETENSORS_FAST_GPU", "1", "weights load straight to the GPU"),
            ),
        ),
    ),
    aliases=("kimi-linear", "kimi-linear-48b"),
    notes=(_NO_TOOLS, "vLLM 0.12.0 can't serve it; the recipe pins 0.11.2"),
    estimated=("work space of 4 GiB on each GPU",),
    source=f"{_RECIPES}; config.json",
)  # fmt: skip

_MOONLIGHT = ModelFacts(
    "moonlight-16b-a3b-instruct",
    "Moonlight 16B-A3B",
    (
        Variant(
            "moonshotai/Moonlight-16B-A3B-Instruct", "bf16", 32 * _GB, "", _BF16,
            source="16 billion parameters of 2 bytes",
        ),
    ),
    layers=27,
    heads=16,
    kv=KvShape("mla", 27, 576),
    max_context=8_192,
    experts=64,
    overhead_bytes=3 * _GIB,
    trust_remote_code=True,
    aliases=("moonlight", "moonlight-16b"),
    notes=("8,192 tokens are too few for an agent: good for trying a machine out", _NO_TOOLS),
    estimated=("16 attention heads", "work space of 3 GiB on each GPU"),
    source="MoonshotAI/Moonlight README; THUDM/slime scripts/models",
)  # fmt: skip

_VL = replace(
    _MOONLIGHT,
    id="kimi-vl-a3b-instruct",
    name="Kimi VL A3B",
    variants=(
        Variant(
            "moonshotai/Kimi-VL-A3B-Instruct", "bf16", 33 * _GB, "", _BF16,
            weights_known=False, source="as Moonlight with a vision tower",
        ),
    ),
    max_context=_128K,
    overhead_bytes=4 * _GIB,
    inputs=("text", "image"),
    aliases=("kimi-vl", "kimi-vl-a3b"),
    notes=(_NO_TOOLS,),
    estimated=("the text model is Moonlight's", "work space of 4 GiB on each GPU"),
    source="MoonshotAI/Kimi-VL README",
)  # fmt: skip

_DEV = ModelFacts(
    "kimi-dev-72b",
    "Kimi Dev 72B",
    (
        Variant(
            "moonshotai/Kimi-Dev-72B", "bf16", 145 * _GB, "", _BF16,
            weights_known=False, source="72 billion parameters of 2 bytes",
        ),
    ),
    layers=80,
    heads=64,
    kv=KvShape("gqa", 80, 128, kv_heads=8),
    max_context=_128K,
    overhead_bytes=5 * _GIB,
    profiles=(
        Profile(
            ("ampere", "ada", "hopper", "blackwell", "blackwell-rtx"),
            "as in the model's README",
            utilisation=0.95,
            flags=(Flag("--max-seq-len-to-capture", "131072", "as in the README"),),
        ),
    ),
    aliases=("kimi-dev",),
    notes=("made for fixed bug-fixing steps, not for an agent", _NO_TOOLS),
    estimated=("layers and heads as in Qwen2.5-72B", "work space of 5 GiB on each GPU"),
    source="MoonshotAI/Kimi-Dev README",
)  # fmt: skip

MOONSHOT = (
    _K25, _K27, _K26, _K3, _THINKING, _K2_0905, _K2, _LINEAR, _DEV, _VL, _MOONLIGHT, _K31, _K15,
)  # fmt: skip
