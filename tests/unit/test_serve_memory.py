"""The arithmetic of weights and cache, checked by hand-made numbers, and GPUs in words."""

from __future__ import annotations

import pytest

from kimi_cli.serve import gpus, memory
from kimi_cli.serve.catalogue import UnknownModel, find_model, models
from kimi_cli.serve.describe import UnknownGpu, describe
from kimi_cli.serve.facts import Gpu, KvShape, Layout

GIB = 1 << 30


@pytest.mark.parametrize(
    ("model", "token", "at_128k"),
    [
        ("kimi-k2.5", 70_272, 8.58),
        ("kimi-k3", 27_648, 3.38),
        ("kimi-linear", 8_064, 0.98),
        ("moonlight", 31_104, 3.80),
        ("kimi-dev", 327_680, 40.0),
        ("qwen3-coder", 98_304, 12.0),
        ("qwen3.5-35b-a3b", 20_480, 2.5),
        ("qwen3.6-27b", 65_536, 8.0),
        ("glm-4.7-flash", 54_144, 6.6),
        ("glm-4.5-air", 188_416, 23.0),
        ("gpt-oss-20b", 24_576, 3.0),
        ("gpt-oss-120b", 36_864, 4.5),
        ("devstral", 163_840, 20.0),
    ],
)
def test_a_token_s_cache(model: str, token: int, at_128k: float) -> None:
    kv = find_model(model).kv
    assert memory.token_bytes(kv, "auto") == token
    assert memory.token_bytes(kv, "fp8") == token // 2
    assert token * 131_072 / GIB == pytest.approx(at_128k, abs=0.05)


def test_a_latent_cache_is_copied_to_every_rank_and_divided_by_decode_context_alone() -> None:
    kv = find_model("kimi-k2.5").kv
    whole = memory.token_bytes(kv, "auto")
    assert memory.token_gpu_bytes(kv, Layout(8), "auto") == whole
    assert memory.token_gpu_bytes(kv, Layout(8, decode_context=8), "auto") == whole // 8
    # 31 of 61 layers on the fuller stage.
    assert memory.token_gpu_bytes(kv, Layout(8, 2), "auto") == 31 * 576 * 2


def test_grouped_heads_are_divided_up_to_one_a_rank() -> None:
    kv = KvShape("gqa", 48, 128, kv_heads=4)
    whole = memory.token_bytes(kv, "auto")
    shares = [memory.token_gpu_bytes(kv, Layout(size), "auto") for size in (1, 2, 4, 8)]
    assert shares == [whole, whole // 2, whole // 4, whole // 4]


def test_weights_are_divided_by_the_tensor_size_and_by_uneven_stages() -> None:
    assert memory.weight_gpu_bytes(800, 61, Layout(8)) == 100
    fuller = memory.weight_gpu_bytes(61_000, 61, Layout(1, 2))
    assert fuller == 31_000


def test_decode_context_ranks_hold_the_tokens_of_one_between_them() -> None:
    kv = KvShape("mla", 10, 576)
    alone = memory.cache(kv, Layout(8), "auto", GIB)
    shared = memory.cache(kv, Layout(8, decode_context=8), "auto", GIB)
    assert shared.tokens() == 8 * alone.tokens()


def test_a_session_takes_its_state_and_whole_blocks() -> None:
    cache = memory.Cache(room=1_000_000, stage_token=10, state=500, shards=1)
    assert cache.session(1) == 500 + 64 * 10
    assert cache.session(64) == cache.session(1)
    assert cache.session(65) == 500 + 128 * 10
    assert cache.sessions(64) == 1_000_000 // (500 + 640)
    assert cache.session(cache.longest(10**9)) <= cache.room
    assert cache.longest(100) == 100


def test_no_room_holds_nothing() -> None:
    cache = memory.Cache(room=-5, stage_token=10, state=0, shards=1)
    assert (cache.tokens(), cache.longest(1_000), cache.sessions(1)) == (0, 0, 0)


def test_what_others_hold_lowers_the_share() -> None:
    empty = Gpu("H200", 140 * GIB, 140 * GIB)
    assert memory.highest_utilisation(empty) == 0.99
    half = Gpu("H200", 140 * GIB, 70 * GIB)
    share = memory.highest_utilisation(half)
    assert share == 0.49
    assert memory.budget(half, share) < half.free_bytes
    assert memory.highest_utilisation(Gpu("H200", 140 * GIB, 0)) == 0


@pytest.mark.parametrize(
    ("text", "count", "name", "capability"),
    [
        ("8xH200", 8, "H200", "9.0"),
        ("h100", 1, "H100", "9.0"),
        ("2 x rtx 4090", 2, "RTX 4090", "8.9"),
        ("2x4090", 2, "RTX 4090", "8.9"),
        ("NVIDIA H100 80GB HBM3", 1, "H100 80GB", "9.0"),
        ("NVIDIA A100-SXM4-80GB", 1, "A100 80GB", "8.0"),
        ("8×MI355X", 8, "MI355X", "gfx950"),
        ("4xB200 180GB", 4, "B200 180GB", "10.0"),
        ("3xNewCard 96GB", 3, "NewCard 96GB", ""),
    ],
)
def test_gpus_in_words(text: str, count: int, name: str, capability: str) -> None:
    (node,) = describe(text).nodes
    assert [gpu.name for gpu in node.gpus] == [name] * count
    assert [gpu.index for gpu in node.gpus] == list(range(count))
    assert {gpus.capability(gpu) for gpu in node.gpus} == {capability}
    assert all(gpu.free_bytes == gpu.total_bytes for gpu in node.gpus)


def test_a_size_given_is_the_size_planned_with() -> None:
    (node,) = describe("H20 50GB").nodes
    assert node.gpus[0].total_bytes == 50 * GIB


def test_kinds_in_one_computer_and_several_computers() -> None:
    mixed = describe("1xH200+2xL40S", 3)
    assert [node.host for node in mixed.nodes] == ["node0", "node1", "node2"]
    assert [gpu.name for gpu in mixed.nodes[0].gpus] == ["H200", "L40S", "L40S"]
    assert mixed.nodes[0].nvlink is False
    assert describe("8xH200").nodes[0].nvlink is True


@pytest.mark.parametrize("text", ["", "8x", "x", "8xH2O", "0xH200", "99xH200", "H200+MI300X"])
def test_words_that_describe_nothing(text: str) -> None:
    with pytest.raises(ValueError):
        describe(text)


def test_an_unknown_gpu_is_answered_with_near_ones() -> None:
    with pytest.raises(UnknownGpu, match="H200"):
        describe("8xH201")


@pytest.mark.parametrize(
    ("name", "model", "first"),
    [
        ("kimi-k2.5", "kimi-k2.5", ""),
        ("moonshotai/Kimi-K2.5", "kimi-k2.5", ""),
        ("k2.5", "kimi-k2.5", ""),
        ("Kimi K3", "kimi-k3", ""),
        ("nvidia/Kimi-K2.5-NVFP4", "kimi-k2.5", "nvfp4"),
        ("moonshotai/Kimi-K2-Instruct-0905", "kimi-k2-instruct-0905", ""),
        ("kimi-k2.7", "kimi-k2.7-code", ""),
        ("openai/gpt-oss-20b", "gpt-oss-20b", ""),
        ("qwen3-coder", "qwen3-coder-30b-a3b-instruct", ""),
    ],
)
def test_a_model_s_names(name: str, model: str, first: str) -> None:
    row = find_model(name)
    assert row.id == model
    if first:
        assert [one.quantisation for one in row.variants] == [first]


def test_an_unknown_model_is_answered_with_near_ones() -> None:
    with pytest.raises(UnknownModel, match=r"kimi-k2\.7-code"):
        find_model("kimi-k2.8")


def test_every_row_can_be_found_and_says_where_it_is_from() -> None:
    for row in models():
        assert find_model(row.id).id == row.id
        assert row.source
        for variant in row.variants:
            assert find_model(variant.repo).id == row.id
            assert variant.source
            assert variant.weight_bytes > 10**9
        if row.variants:
            assert row.heads and row.layers >= row.kv.layers > 0
