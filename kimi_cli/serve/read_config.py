"""What a model's config.json says that planning needs. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kimi_cli.serve.facts import KvShape

STATE_BYTES = 4
"""A value of a linear-attention state: float32 where nothing else is asked for (vLLM,
`mamba_ssm_cache_dtype`)."""
CACHE_BYTES = 2
"""A value of a cache in bfloat16, which states of convolutions and sliding windows are kept in."""
Config = Mapping[str, Any]


class ConfigError(ValueError):
    """What is missing from a config.json, in words for the user."""


def text_part(config: Config) -> Config:
    """The part about the language model: ``text_config`` in one that sees too, else the whole."""
    nested = config.get("text_config")
    return nested if isinstance(nested, Mapping) and _count(nested, "hidden_size") else config


def heads(text: Config) -> int:
    """The attention heads. Raises ConfigError."""
    return _need(text, "num_attention_heads")


def layers(text: Config) -> int:
    """The layers. Raises ConfigError."""
    return _need(text, "num_hidden_layers")


def max_context(text: Config) -> int:
    """The longest context in tokens. Raises ConfigError."""
    return _need(text, "max_position_embeddings")


def experts(text: Config) -> int:
    """The routed experts; 0 for a dense model."""
    names = ("n_routed_experts", "num_experts", "num_local_experts")
    return next((count for name in names if (count := _count(text, name))), 0)


def kv_shape(text: Config) -> KvShape:
    """What the cache of this model holds. Raises ConfigError."""
    full, linear, sliding = _kinds(text)
    window = _count(text, "sliding_window")
    if not window:
        full, sliding = full + sliding, 0
    state = linear * _linear_state(text) if linear else 0
    latent = _count(text, "kv_lora_rank")
    if latent:
        # Multi-head latent attention keeps one latent vector and the rotary part of the key.
        return KvShape("mla", full, latent + _count(text, "qk_rope_head_dim"), 1, state)
    kv_heads = _count(text, "num_key_value_heads") or heads(text)
    width = _count(text, "head_dim") or _need(text, "hidden_size") // heads(text)
    state += sliding * window * 2 * kv_heads * width * CACHE_BYTES
    return KvShape("gqa", full, width, kv_heads, state)


def quantisation(config: Config) -> str:
    """``int4``, ``fp8``, ``nvfp4``, ``mxfp4``; else the type of the weights, such as ``bf16``."""
    found = config.get("quantization_config") or text_part(config).get("quantization_config")
    if not isinstance(found, Mapping):
        kind = text_part(config).get("dtype") or text_part(config).get("torch_dtype")
        kind = kind or config.get("dtype") or config.get("torch_dtype")
        return {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}.get(str(kind), "bf16")
    words = " ".join(_words(found)).lower()
    for name in ("nvfp4", "mxfp4"):
        if name in words:
            return name
    method = str(found.get("quant_method", "")).lower()
    bits, kind = _bits(found)
    if method == "fp8" or (bits == 8 and kind == "float") or str(found.get("quant_algo")) == "FP8":
        return "fp8"
    return f"int{bits}" if bits else method or "quantised"


def sees(config: Config) -> bool:
    """Whether it takes images."""
    return isinstance(config.get("vision_config"), Mapping)


def runs_own_code(config: Config) -> bool:
    """Whether loading it runs Python from its own repository."""
    return isinstance(config.get("auto_map"), Mapping)


def _kinds(text: Config) -> tuple[int, int, int]:
    """How many layers attend to everything, carry a state, and see a window only."""
    count = layers(text)
    kinds = text.get("layer_types")
    if isinstance(kinds, list) and len(kinds) == count:
        linear = sum("linear" in str(kind) or "mamba" in str(kind) for kind in kinds)
        sliding = sum("sliding" in str(kind) for kind in kinds)
        return count - linear - sliding, linear, sliding
    mixed = text.get("linear_attn_config")
    if isinstance(mixed, Mapping) and isinstance(mixed.get("kda_layers"), list):
        linear = len(mixed["kda_layers"])
        return count - linear, linear, 0
    every = _count(text, "full_attention_interval")
    if every and _count(text, "linear_num_value_heads"):
        return count // every, count - count // every, 0
    return count, 0, 0


def _linear_state(text: Config) -> int:
    """Bytes of one linear-attention layer's state for a sequence: the state itself and what its
    short convolution looks back at (vLLM, `MambaStateShapeCalculator`)."""
    mixed = text.get("linear_attn_config")
    if isinstance(mixed, Mapping):
        count, width = _need(mixed, "num_heads"), _need(mixed, "head_dim")
        back = max(_count(mixed, "short_conv_kernel_size") - 1, 0)
        convolved = 3 * count * width
        return count * width * width * STATE_BYTES + back * convolved * CACHE_BYTES
    values, keys = _need(text, "linear_num_value_heads"), _need(text, "linear_num_key_heads")
    wide, deep = _need(text, "linear_value_head_dim"), _need(text, "linear_key_head_dim")
    back = max(_count(text, "linear_conv_kernel_dim") - 1, 0)
    convolved = 2 * keys * deep + values * wide
    return values * deep * wide * STATE_BYTES + back * convolved * CACHE_BYTES


def _bits(found: Mapping[str, Any]) -> tuple[int, str]:
    """The bits of a weight and their kind, "int" or "float"; 0 when it is not said."""
    groups = found.get("config_groups")
    first = next(iter(groups.values()), None) if isinstance(groups, Mapping) else None
    weights = first.get("weights") if isinstance(first, Mapping) else None
    place: Mapping[str, Any] = weights if isinstance(weights, Mapping) else found
    bits = _count(place, "num_bits") or _count(place, "bits")
    return bits, str(place.get("type", "int"))


def _words(value: object) -> list[str]:
    """Every text in a nested value."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [word for one in value.values() for word in _words(one)]
    return [word for one in value for word in _words(one)] if isinstance(value, list) else []


def _count(text: Config, name: str) -> int:
    value = text.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _need(text: Config, name: str) -> int:
    value = _count(text, name)
    if not value:
        raise ConfigError(f"config.json has no {name}")
    return value
