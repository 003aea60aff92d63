"""Open coding models that fit one GPU or a few, for machines too small for a Kimi."""

from __future__ import annotations

from dataclasses import replace

from kimi_cli.serve.facts import Flag, KvShape, ModelFacts, Needs, Profile, Variant

_GB = 10**9
_GIB = 1 << 30
_128K = 131_072
_256K = 262_144

_RECIPES = "vllm-project/recipes, 2026-08-21"
_SLIME = "THUDM/slime scripts/models"

_BF16 = Needs("8.0", ("gfx90a", "gfx942", "gfx950"), "bfloat16 needs Ampere or newer")
_FP8 = Needs("8.9", ("gfx942", "gfx950"), "fp8 arithmetic needs Ada, Hopper or newer")
_MXFP4 = Needs("8.0", ("gfx942", "gfx950"), "MXFP4 weights need Ampere or newer")
_NVFP4 = Needs("10.0", (), "NVFP4 needs Blackwell")


def _space(gib: float) -> str:
    return f"work space of {gib:g} GiB on each GPU"


_CODER = ModelFacts(
    "qwen3-coder-30b-a3b-instruct",
    "Qwen3 Coder 30B-A3B",
    (
        Variant(
            "Qwen/Qwen3-Coder-30B-A3B-Instruct", "bf16", 61 * _GB, "", _BF16,
            source="30.5 billion parameters of 2 bytes (model card)",
        ),
        Variant(
            "Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8", "fp8", 31 * _GB, "", _FP8,
            expert_blocks=6, weights_known=False, source="half of the bfloat16 weights",
        ),
    ),
    layers=48,
    heads=32,
    kv=KvShape("gqa", 48, 128, kv_heads=4),
    max_context=_256K,
    experts=128,
    overhead_bytes=4 * _GIB,
    tool_parser="qwen3_coder",
    aliases=("qwen3-coder", "qwen3-coder-30b"),
    estimated=("experts of 768 columns", _space(4)),
    source=f"model card; {_SLIME}",
)  # fmt: skip

# 30 layers keep a state of 32 heads of 128 x 128 numbers in 4 bytes, and a little for the
# convolution before it.
_A3B_STATE = 30 * (32 * 128 * 128 * 4 + 3 * 8192 * 2)
# The 27B's is taken to be 48 layers of 48 heads.
_27B_STATE = 48 * (48 * 128 * 128 * 4 + 3 * 10240 * 2)

_Q36_A3B = ModelFacts(
    "qwen3.6-35b-a3b",
    "Qwen3.6 35B-A3B",
    (
        Variant(
            "Qwen/Qwen3.6-35B-A3B", "bf16", 70 * _GB, "0.17.0", _BF16,
            source="35 billion parameters of 2 bytes",
        ),
        Variant(
            "Qwen/Qwen3.6-35B-A3B-FP8", "fp8", 35 * _GB, "0.17.0", _FP8,
            expert_blocks=4, source=f"{_RECIPES}: needs 42 GB, a fifth of it beside the weights",
        ),
        Variant(
            "nvidia/Qwen3.6-35B-A3B-NVFP4", "nvfp4", 21 * _GB, "0.17.0", _NVFP4,
            flags=(Flag("--moe-backend", "marlin", "the recipe for these weights"),),
            kv_dtype="fp8", weights_known=False, source=f"{_RECIPES}: needs 21 GB",
        ),
    ),
    layers=40,
    heads=16,
    kv=KvShape("gqa", 10, 256, kv_heads=2, state_bytes=_A3B_STATE),
    max_context=_256K,
    experts=256,
    overhead_bytes=4 * _GIB,
    tool_parser="qwen3_coder",
    reasoning_parser="qwen3",
    thinking="switchable",
    inputs=("text", "image"),
    profiles=(
        Profile(
            ("blackwell-rtx",),
            "as in the recipe for the RTX 5090",
            utilisation=0.95,
            flags=(
                Flag("--max-num-seqs", "4", "little work space"),
                Flag("--max-num-batched-tokens", "8192", "as in the recipe"),
            ),
            quantisation="nvfp4",
            under_bytes=40 * _GIB,
        ),
    ),
    aliases=("qwen3.6-35b",),
    estimated=(_space(4),),
    source=f"{_RECIPES}; {_SLIME}",
)  # fmt: skip

_Q35_A3B = replace(
    _Q36_A3B,
    id="qwen3.5-35b-a3b",
    name="Qwen3.5 35B-A3B",
    variants=(
        replace(_Q36_A3B.variants[0], repo="Qwen/Qwen3.5-35B-A3B"),
        replace(_Q36_A3B.variants[1], repo="Qwen/Qwen3.5-35B-A3B-FP8"),
    ),
    profiles=(),
    aliases=("qwen3.5-35b",),
)

_Q36_27B = replace(
    _Q36_A3B,
    id="qwen3.6-27b",
    name="Qwen3.6 27B",
    variants=(
        Variant(
            "Qwen/Qwen3.6-27B", "bf16", 54 * _GB, "0.17.0", _BF16,
            source="27 billion parameters of 2 bytes",
        ),
        Variant(
            "Qwen/Qwen3.6-27B-FP8", "fp8", 28 * _GB, "0.17.0", _FP8,
            source=f"{_RECIPES}: needs 33 GB, a fifth of it beside the weights",
        ),
        Variant(
            "nvidia/Qwen3.6-27B-NVFP4", "nvfp4", 225 * _GB // 10, "0.17.0", _NVFP4,
            kv_dtype="fp8", weights_known=False,
            source=f"{_RECIPES}: needs 27 GB, a fifth of it beside the weights",
        ),
    ),
    layers=64,
    heads=24,
    kv=KvShape("gqa", 16, 256, kv_heads=4, state_bytes=_27B_STATE),
    experts=0,
    profiles=(
        Profile(
            ("blackwell-rtx",),
            "as in the recipe for the RTX 5090",
            utilisation=0.95,
            context=_128K,
            flags=(
                Flag("--max-num-seqs", "4", "little work space"),
                Flag("--max-num-batched-tokens", "4096", "as in the recipe"),
                Flag("--attention-backend", "flashinfer", "as in the recipe"),
            ),
            quantisation="nvfp4",
            under_bytes=40 * _GIB,
        ),
    ),
    aliases=(),
    estimated=("one full attention layer in four, states of 48 heads", _space(4)),
)  # fmt: skip

_Q35_27B = replace(
    _Q36_27B,
    id="qwen3.5-27b",
    name="Qwen3.5 27B",
    variants=(
        replace(_Q36_27B.variants[0], repo="Qwen/Qwen3.5-27B"),
        replace(_Q36_27B.variants[1], repo="Qwen/Qwen3.5-27B-FP8"),
    ),
    profiles=(),
)

_GLM_FLASH = ModelFacts(
    "glm-4.7-flash",
    "GLM 4.7 Flash",
    (
        Variant(
            "zai-org/GLM-4.7-Flash", "bf16", 60 * _GB, "", _BF16,
            source="30 billion parameters of 2 bytes",
        ),
    ),
    layers=47,
    heads=20,
    kv=KvShape("mla", 47, 576),
    max_context=202_752,
    experts=64,
    overhead_bytes=4 * _GIB,
    tool_parser="glm47",
    reasoning_parser="glm45",
    thinking="switchable",
    estimated=(_space(4),),
    source="ai-dynamo/aiconfigurator model_configs",
)  # fmt: skip

_GLM_AIR = ModelFacts(
    "glm-4.5-air",
    "GLM 4.5 Air 106B-A12B",
    (
        Variant(
            "zai-org/GLM-4.5-Air", "bf16", 212 * _GB, "0.11.0", _BF16,
            source="106 billion parameters of 2 bytes",
        ),
        Variant(
            "zai-org/GLM-4.5-Air-FP8", "fp8", 106 * _GB, "0.11.0", _FP8,
            weights_known=False, source="half of the bfloat16 weights",
        ),
    ),
    layers=46,
    heads=96,
    kv=KvShape("gqa", 46, 128, kv_heads=8),
    max_context=_128K,
    experts=128,
    overhead_bytes=4 * _GIB,
    tool_parser="glm45",
    reasoning_parser="glm45",
    thinking="switchable",
    estimated=(_space(4),),
    source=f"{_SLIME}; {_RECIPES} of GLM-4.5",
)  # fmt: skip

_OSS_120 = ModelFacts(
    "gpt-oss-120b",
    "gpt-oss 120B",
    (
        Variant(
            "openai/gpt-oss-120b", "mxfp4", 63 * _GB, "0.10.0", _MXFP4,
            weights_known=False, source="from memory, about 63 GB",
        ),
    ),
    layers=36,
    heads=64,
    # Every second layer sees 128 tokens only.
    kv=KvShape("gqa", 18, 64, kv_heads=8, state_bytes=18 * 2 * 8 * 64 * 2 * 128),
    max_context=_128K,
    experts=128,
    overhead_bytes=4 * _GIB,
    tool_parser="openai",
    reasoning_parser="openai_gptoss",
    thinking="effort",
    profiles=(
        Profile(("gfx942", "gfx950"), "as in the recipe for AMD", utilisation=0.95,
                flags=(Flag("--block-size", "64", "as in the recipe"),
                       Flag("--attention-backend", "ROCM_AITER_UNIFIED_ATTN", "as in the recipe"))),
    ),
    estimated=("layers, heads and size from memory", _space(4)),
    source=f"{_RECIPES}; vllm/model_executor/models/gpt_oss.py",
)  # fmt: skip

_OSS_20 = replace(
    _OSS_120,
    id="gpt-oss-20b",
    name="gpt-oss 20B",
    variants=(
        replace(_OSS_120.variants[0], repo="openai/gpt-oss-20b", weight_bytes=13 * _GB,
                source="from memory, about 13 GB"),
    ),
    layers=24,
    kv=KvShape("gqa", 12, 64, kv_heads=8, state_bytes=12 * 2 * 8 * 64 * 2 * 128),
    experts=32,
    overhead_bytes=3 * _GIB // 2,
    estimated=("layers, heads and size from memory", _space(1.5)),
)  # fmt: skip

_DEVSTRAL = ModelFacts(
    "devstral-small-2-24b-instruct",
    "Devstral Small 2 24B",
    (
        Variant(
            "mistralai/Devstral-Small-2-24B-Instruct-2512", "fp8", 25 * _GB, "", _FP8,
            weights_known=False, source="about 25 GB",
        ),
    ),
    layers=40,
    heads=32,
    kv=KvShape("gqa", 40, 128, kv_heads=8),
    max_context=_256K,
    overhead_bytes=3 * _GIB,
    tool_parser="mistral",
    flags=(
        Flag("--tokenizer-mode", "mistral", "Mistral's own tokenizer file"),
        Flag("--config-format", "mistral", "Mistral's own configuration file"),
        Flag("--load-format", "mistral", "Mistral's own weight files"),
    ),
    aliases=("devstral", "devstral-small-2"),
    estimated=("32 attention heads", _space(3)),
    source="a deployment's published configuration",
)  # fmt: skip

CODERS = (
    _CODER, _Q36_A3B, _Q36_27B, _GLM_FLASH, _OSS_120, _OSS_20, _DEVSTRAL, _Q35_A3B, _Q35_27B,
    _GLM_AIR,
)  # fmt: skip
