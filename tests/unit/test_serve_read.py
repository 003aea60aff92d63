"""Reading a model's facts from its files: configs in the forms that repositories have."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.serve import read_config
from kimi_cli.serve.catalogue import UnknownModel, find_model
from kimi_cli.serve.facts import KvShape
from kimi_cli.serve.local_files import ReadError, cached, hub_cache, weights
from kimi_cli.serve.parsers import parsers_of
from kimi_cli.serve.read_model import read_model

GIB = 1 << 30
K2_TEXT = {
    "model_type": "kimi_k2",
    "hidden_size": 7168,
    "num_hidden_layers": 61,
    "num_attention_heads": 64,
    "num_key_value_heads": 64,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "n_routed_experts": 384,
    "max_position_embeddings": 262144,
    "quantization_config": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int"}}},
    },
}
K25 = {
    "model_type": "kimi_k25",
    "architectures": ["KimiK25ForConditionalGeneration"],
    "auto_map": {"AutoConfig": "configuration_kimi_k25.KimiK25Config"},
    "text_config": K2_TEXT,
    "vision_config": {"vt_num_hidden_layers": 27},
}
QWEN3 = {
    "model_type": "qwen3_moe",
    "hidden_size": 2048,
    "num_hidden_layers": 48,
    "num_attention_heads": 32,
    "num_key_value_heads": 4,
    "head_dim": 128,
    "num_experts": 128,
    "max_position_embeddings": 262144,
    "sliding_window": None,
    "use_sliding_window": False,
    "torch_dtype": "bfloat16",
}
KIMI_LINEAR = {
    "model_type": "kimi_linear",
    "hidden_size": 2304,
    "num_hidden_layers": 27,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "head_dim": 72,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "num_experts": 256,
    "max_position_embeddings": 1048576,
    "linear_attn_config": {
        "full_attn_layers": [4, 8, 12, 16, 20, 24, 27],
        "kda_layers": [n for n in range(1, 28) if n not in (4, 8, 12, 16, 20, 24, 27)],
        "head_dim": 128,
        "num_heads": 32,
        "short_conv_kernel_size": 4,
    },
}
QWEN35 = {
    "model_type": "qwen3_5_moe_text",
    "hidden_size": 2048,
    "num_hidden_layers": 40,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "head_dim": 256,
    "num_experts": 256,
    "max_position_embeddings": 262144,
    "layer_types": (["linear_attention"] * 3 + ["full_attention"]) * 10,
    "linear_num_value_heads": 32,
    "linear_num_key_heads": 16,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_conv_kernel_dim": 4,
}
GPT_OSS = {
    "model_type": "gpt_oss",
    "hidden_size": 2880,
    "num_hidden_layers": 24,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "head_dim": 64,
    "num_local_experts": 32,
    "max_position_embeddings": 131072,
    "sliding_window": 128,
    "layer_types": ["sliding_attention", "full_attention"] * 12,
    "quantization_config": {"quant_method": "mxfp4"},
}
QWEN2 = {
    "model_type": "qwen2",
    "hidden_size": 8192,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "max_position_embeddings": 131072,
    "sliding_window": 131072,
    "use_sliding_window": False,
}


def shard(path: Path, size: int, *, missing: int = 0) -> None:
    """A safetensors file with one tensor of `size` bytes, `missing` of them cut off."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size - missing))


def model(folder: Path, config: dict[str, Any], *, total: int = 0, **files: str) -> Path:
    """A model's folder, with an index that says `total`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if total:
        index = {"metadata": {"total_size": total}, "weight_map": {"w": "model-1-of-2.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def in_cache(home: Path, repo: str, commit: str = "abc123", main: bool = True) -> Path:
    root = home / "hub" / ("models--" + repo.replace("/", "--"))
    (root / "refs").mkdir(parents=True, exist_ok=True)
    if main:
        (root / "refs" / "main").write_text(commit)
    return root / "snapshots" / commit


# --- config.json ---


@pytest.mark.parametrize(
    ("config", "shape", "token_bytes"),
    [
        (K25, KvShape("mla", 61, 576), 70_272),
        (QWEN3, KvShape("gqa", 48, 128, 4), 98_304),
        (QWEN2, KvShape("gqa", 80, 128, 8), 327_680),
    ],
)
def test_shape_of_the_cache(config: dict[str, Any], shape: KvShape, token_bytes: int) -> None:
    found = read_config.kv_shape(read_config.text_part(config))
    assert found == shape
    heads = 1 if found.kind == "mla" else 2 * found.kv_heads
    assert found.layers * heads * found.width * 2 == token_bytes


def test_shape_of_hybrids() -> None:
    """Kimi-Linear: 7 of 27 layers have a cache and a sequence takes 0.04 GiB; Qwen3.5: 10 of 40."""
    linear = read_config.kv_shape(KIMI_LINEAR)
    assert (linear.kind, linear.layers, linear.width) == ("mla", 7, 576)
    state = 20 * (32 * 128 * 128 * 4 + 3 * (3 * 32 * 128) * 2)
    assert linear.state_bytes == state
    assert round(linear.state_bytes / GIB, 2) == 0.04

    gated = read_config.kv_shape(QWEN35)
    assert (gated.kind, gated.layers, gated.width, gated.kv_heads) == ("gqa", 10, 256, 2)
    assert gated.state_bytes == 30 * (32 * 128 * 128 * 4 + 3 * (2 * 16 * 128 + 32 * 128) * 2)
    every = {**QWEN35, "full_attention_interval": 4}
    del every["layer_types"]
    assert read_config.kv_shape(every) == gated

    window = read_config.kv_shape(GPT_OSS)
    assert (window.layers, window.width, window.kv_heads) == (12, 64, 8)
    assert window.state_bytes == 12 * 128 * 2 * 8 * 64 * 2


def test_kinds_without_a_window_are_full() -> None:
    assert read_config.kv_shape({**GPT_OSS, "sliding_window": None}).layers == 24


@pytest.mark.parametrize(
    ("found", "name"),
    [
        (K2_TEXT["quantization_config"], "int4"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        ({"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized"}, "mxfp4"),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": {"num_bits": 8, "type": "float"}}},
            },
            "fp8",
        ),
        (None, "bf16"),
    ],
)
def test_quantisation(found: object, name: str) -> None:
    assert read_config.quantisation({**QWEN3, "quantization_config": found}) == name
    nested = {"text_config": {**QWEN3, "quantization_config": found}}
    assert read_config.quantisation(nested) == name


def test_float_types() -> None:
    assert read_config.quantisation({"hidden_size": 1, "torch_dtype": "float16"}) == "fp16"
    assert (
        read_config.quantisation({"text_config": {"hidden_size": 1, "dtype": "float32"}}) == "fp32"
    )


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 10**9) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from([*K2_TEXT, *KIMI_LINEAR, *QWEN35]), inner, max_size=8)
    ),
    max_leaves=40,
)


@given(json_values)
def test_no_config_breaks_reading(value: Any) -> None:
    config = value if isinstance(value, dict) else {"text_config": value}
    text = read_config.text_part(config)
    read_config.quantisation(config)
    read_config.experts(text)
    try:
        shape = read_config.kv_shape(text)
    except read_config.ConfigError as error:
        assert "config.json has no" in str(error)
    else:
        assert shape.layers >= 0 and shape.state_bytes >= 0


# --- weights ---


def test_weights_from_the_files_or_the_index(tmp_path: Path) -> None:
    shard(tmp_path / "model-00001-of-00002.safetensors", 1000)
    shard(tmp_path / "model-00002-of-00002.safetensors", 500)
    assert (weights(tmp_path).bytes, weights(tmp_path).complete) == (1500, True)

    names = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1500}, "weight_map": names}))
    assert (weights(tmp_path).bytes, weights(tmp_path).complete) == (1500, True)

    # One that says too much, as after making a checkpoint smaller.
    index.write_text(json.dumps({"metadata": {"total_size": 9000}, "weight_map": names}))
    assert (weights(tmp_path).bytes, weights(tmp_path).complete) == (1500, True)

    shard(tmp_path / "model-00002-of-00002.safetensors", 500, missing=100)
    assert (weights(tmp_path).bytes, weights(tmp_path).complete) == (9000, False)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    assert (weights(tmp_path).bytes, weights(tmp_path).complete) == (9000, False)


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\2" + bytes(7) + b"{}", b"\3" + bytes(7)])
def test_weights_that_are_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    assert weights(tmp_path).bytes == 0


# --- where a model is ---


def test_the_cache_of_hugging_face(tmp_path: Path) -> None:
    env = {"HF_HOME": str(tmp_path), "HOME": "/nowhere"}
    assert cached("a/b", env) is None
    old = model(in_cache(tmp_path, "a/b", "old", main=False), QWEN3)
    assert cached("a/b", env) == old
    main = model(in_cache(tmp_path, "a/b", "new"), QWEN3)
    assert cached("a/b", env) == main
    in_cache(tmp_path, "a/b", "not-there")
    assert cached("a/b", env) in (old, main)


def test_where_the_cache_is() -> None:
    home = {"HOME": "/home/u"}
    assert hub_cache(home) == Path("/home/u/.cache/huggingface/hub")
    assert hub_cache({**home, "XDG_CACHE_HOME": "/c"}) == Path("/c/huggingface/hub")
    assert hub_cache({**home, "HF_HOME": "~/hf", "XDG_CACHE_HOME": "/c"}) == Path("/home/u/hf/hub")
    assert hub_cache({**home, "HF_HOME": "/hf", "HF_HUB_CACHE": "/fast"}) == Path("/fast")


# --- the whole ---


@pytest.fixture
def nowhere(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path / "home"), "HF_HOME": str(tmp_path / "hf")}


def test_a_folder_with_a_known_model(tmp_path: Path, nowhere: dict[str, str]) -> None:
    folder = model(tmp_path / "Kimi-K2.5", K25, total=595_000_000_001)
    known, found = find_model("kimi-k2.5"), read_model(str(folder), nowhere)
    assert (found.id, found.tool_parser, found.reasoning_parser) == (
        *(known.id, "kimi_k2"),
        "kimi_k2",
    )
    (variant,) = found.variants
    assert (variant.repo, variant.weight_bytes) == (str(folder), 595_000_000_001)
    assert (variant.quantisation, variant.weights_known) == ("int4", True)
    assert variant.min_vllm == known.variants[0].min_vllm
    assert (found.kv, found.max_context) == (KvShape("mla", 61, 576), 262144)
    assert found.source == str(folder / "config.json")
    assert f"not all of its weights are in {folder}" in found.notes


def test_a_folder_of_that_name_with_another_model(tmp_path: Path, nowhere: dict[str, str]) -> None:
    found = read_model(str(model(tmp_path / "Kimi-K2.5", QWEN3, total=1000)), nowhere)
    assert (found.id, found.layers, found.tool_parser) == ("Kimi-K2.5", 48, "")
    assert any("--tool-call-parser" in note for note in found.notes)


def test_a_folder_with_an_unknown_model(tmp_path: Path, nowhere: dict[str, str]) -> None:
    template = "{% if tools %}<tool_call>\n<function=name>{% endif %}"
    folder = model(tmp_path / "mine", QWEN3, chat_template__jinja=template)
    shard(folder / "model.safetensors", 4096)
    found = read_model(str(folder), nowhere)
    (variant,) = found.variants
    assert (variant.repo, variant.weight_bytes, variant.quantisation) == (str(folder), 4096, "bf16")
    assert (found.layers, found.heads, found.experts) == (48, 32, 128)
    assert (found.kv, found.max_context) == (KvShape("gqa", 48, 128, 4), 262144)
    assert (found.tool_parser, found.reasoning_parser, found.notes) == ("qwen3_coder", "", ())
    assert not found.trust_remote_code and found.inputs == ("text",)


def test_a_relative_folder(
    tmp_path: Path, nowhere: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model(tmp_path / "sub" / "mine", QWEN3, total=1000)
    monkeypatch.chdir(tmp_path)
    for name in ("sub/mine", "./sub/mine"):
        assert read_model(name, nowhere).variants[0].repo == str(tmp_path / "sub" / "mine")


def test_a_known_name_is_no_folder_of_that_name(
    tmp_path: Path, nowhere: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kimi-k2.5").mkdir()
    (tmp_path / "kimi-k2.5" / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    monkeypatch.chdir(tmp_path)
    found = read_model("kimi-k2.5", nowhere)
    assert found == replace(find_model("kimi-k2.5"), notes=found.notes)
    assert "./kimi-k2.5 would mean the folder here" in found.notes
    with pytest.raises(ReadError):
        read_model("./kimi-k2.5", nowhere)


def test_an_id_that_is_in_the_cache(tmp_path: Path, nowhere: dict[str, str]) -> None:
    folder = model(in_cache(tmp_path / "hf", "someone/mine"), {**QWEN3, "auto_map": {}}, total=77)
    found = read_model("someone/mine", nowhere)
    assert (found.id, found.trust_remote_code) == ("mine", True)
    assert (found.variants[0].repo, found.variants[0].weight_bytes) == ("someone/mine", 77)
    assert found.source == str(folder / "config.json")


def test_a_known_name_whose_weights_are_in_the_cache(
    tmp_path: Path, nowhere: dict[str, str]
) -> None:
    known, repo = find_model("kimi-k2.5"), "moonshotai/Kimi-K2.5"
    model(in_cache(tmp_path / "hf", repo), K25, total=123_456_789)
    for name in ("kimi-k2.5", repo):
        found = read_model(name, nowhere)
        assert [one.repo for one in found.variants] == [one.repo for one in known.variants]
        for old, new in zip(known.variants, found.variants, strict=True):
            if old.repo == repo:
                assert new.weight_bytes == 123_456_789
            else:
                assert new == old
        assert (found.id, found.tool_parser) == (known.id, known.tool_parser)


def test_a_known_name_without_files(nowhere: dict[str, str]) -> None:
    assert read_model("kimi-k2.5", nowhere) == find_model("kimi-k2.5")


def test_what_can_not_be_read(tmp_path: Path, nowhere: dict[str, str]) -> None:
    with pytest.raises(UnknownModel, match="kimi-k2"):
        read_model("kimi-k2.55", nowhere)
    with pytest.raises(ReadError, match="is no folder"):
        read_model(str(tmp_path / "absent"), nowhere)
    with pytest.raises(ReadError, match=r"has no config\.json"):
        read_model(str(tmp_path), nowhere)
    (tmp_path / "config.json").write_text("[" * 100_000)
    with pytest.raises(ReadError, match="is no JSON"):
        read_model(str(tmp_path), nowhere)
    with pytest.raises(ReadError, match="has no weights"):
        read_model(str(model(tmp_path / "empty", QWEN3)), nowhere)
    with pytest.raises(ReadError, match="num_hidden_layers"):
        read_model(str(model(tmp_path / "strange", {"model_type": "x"}, total=5)), nowhere)


@pytest.mark.parametrize(
    ("kind", "template", "parsers"),
    [
        ("kimi_k2", "plain", ("kimi_k2", "")),
        ("kimi_k2", "<think>", ("kimi_k2", "kimi_k2")),
        ("kimi_k3", "", ("kimi_k3", "kimi_k3")),
        ("qwen3", '<tool_call>{"name"} <think>', ("hermes", "qwen3")),
        ("qwen2", '<tool_call>{"name"}', ("hermes", "")),
        ("qwen2", "no tools", ("", "")),
        ("llama", "<tool_call>", ("", "")),
    ],
)
def test_parsers(kind: str, template: str, parsers: tuple[str, str]) -> None:
    tool, reasoning, notes = parsers_of(kind, template)
    assert (tool, reasoning) == parsers
    assert bool(notes) == (not tool)
