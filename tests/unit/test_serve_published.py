"""The layouts that Moonshot and the vLLM project publish come out of the planner as published."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kimi_cli.serve.catalogue import find_model
from kimi_cli.serve.describe import describe
from kimi_cli.serve.facts import NoPlan, Plan, Wish
from kimi_cli.serve.planner import plan

K2, K3 = "kimi_k2", "kimi_k3"


@dataclass(frozen=True)
class Row:
    """A published configuration. `flags` and `environment` must be there with these values."""

    source: str
    model: str
    gpus: str
    tensor: int
    nodes: int = 1
    spans: bool = False
    pipeline: int = 1
    data: int = 1
    decode: int = 1
    repo: str = ""
    context: int = 262_144
    tools: str = ""
    reasoning: str = ""
    flags: tuple[tuple[str, str | None], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    wish: tuple[tuple[str, object], ...] = ()


_VISION = (("--mm-encoder-tp-mode", "data"), ("--trust-remote-code", None))
_AITER = (("VLLM_ROCM_USE_AITER", "1"), ("VLLM_ROCM_QUICK_REDUCE_QUANTIZATION", "INT4"))

ROWS = (
    Row("MoonshotAI/Kimi-K2 docs/deploy_guidance.md: TP16, 128k", "kimi-k2-instruct", "8xH200", 16,
        nodes=2, spans=True, context=131_072, tools=K2),
    Row("MoonshotAI/Kimi-K2 docs/deploy_guidance.md: H20, 16 GPUs", "kimi-k2-instruct",
        "8xH20 141GB", 16, nodes=2, spans=True, context=131_072, tools=K2),
    Row("MoonshotAI/Kimi-K2 docs/deploy_guidance.md: DP16 and EP", "kimi-k2-instruct", "8xH200", 1,
        nodes=2, data=16, context=131_072, tools=K2,
        wish=(("data_parallel", 16), ("utilisation", 0.85)),
        flags=(("--data-parallel-size", "16"), ("--enable-expert-parallel", None),
               ("--gpu-memory-utilization", "0.85"))),
    Row("recipes Kimi-K2-Instruct.yaml: TP8 x PP2", "kimi-k2-instruct", "8xH200", 8, nodes=2,
        pipeline=2, context=131_072, tools=K2),
    # The recipe has -dcp 8; the plan takes the least that reaches the full length.
    Row("recipes Kimi-K2-Instruct.yaml: 16 H800 with DCP", "kimi-k2-instruct", "8xH800", 8,
        nodes=2, pipeline=2, decode=2, context=131_072, tools=K2),
    Row("recipes Kimi-K2-Instruct.yaml: AMD on one node", "kimi-k2-instruct", "8xMI300X", 8,
        context=131_072, tools=K2, environment=(("SAFETENSORS_FAST_GPU", "1"),)),
    Row("Kimi-K2-Thinking docs/deploy_guidance.md: 256k on 8 H200", "kimi-k2-thinking", "8xH200", 8,
        repo="moonshotai/Kimi-K2-Thinking", tools=K2, reasoning=K2),
    Row("recipes Kimi-K2-Thinking.yaml: 8 H20", "kimi-k2-thinking", "8xH20 141GB", 8,
        tools=K2, reasoning=K2),
    Row("recipes Kimi-K2-Thinking.yaml: AMD", "kimi-k2-thinking", "8xMI325X", 8,
        tools=K2, reasoning=K2, flags=(("--no-enable-prefix-caching", None),)),
    Row("MoonshotAI/Kimi-K2.5 docs/deploy_guidance.md", "kimi-k2.5", "8xH200", 8,
        repo="moonshotai/Kimi-K2.5", tools=K2, reasoning=K2, flags=_VISION),
    Row("recipes Kimi-K2.5.yaml: NVFP4 on 4 Blackwell", "kimi-k2.5", "4xGB200", 4,
        repo="nvidia/Kimi-K2.5-NVFP4", tools=K2, reasoning=K2,
        flags=(("--kv-cache-dtype", "fp8"),)),
    Row("recipes Kimi-K2.5.yaml: 8 MI300X", "kimi-k2.5", "8xMI300X", 8,
        repo="moonshotai/Kimi-K2.5", tools=K2, reasoning=K2, flags=_VISION, environment=_AITER),
    Row("recipes Kimi-K2.5.yaml: MXFP4 on MI355X", "kimi-k2.5", "8xMI355X", 8,
        repo="amd/Kimi-K2.5-MXFP4", tools=K2, reasoning=K2,
        flags=(*_VISION, ("--kv-cache-dtype", "fp8")), environment=_AITER),
    Row("recipes Kimi-K2.6.yaml: 8 H200", "kimi-k2.6", "8xH200", 8, tools=K2, reasoning=K2,
        repo="moonshotai/Kimi-K2.6", flags=_VISION),
    Row("recipes Kimi-K2.6.yaml: NVFP4 on 4 B300", "kimi-k2.6", "4xB300", 4, tools=K2, reasoning=K2,
        repo="nvidia/Kimi-K2.6-NVFP4",
        flags=(("--kv-cache-dtype", "fp8"), ("--block-size", "64"),
               ("--gpu-memory-utilization", "0.9"), ("--attention-backend", "TOKENSPEED_MLA"))),
    Row("recipes Kimi-K2.6.yaml: int4 on MI355X", "kimi-k2.6", "8xMI355X", 8, tools=K2,
        reasoning=K2, flags=(*_VISION, ("--moe-backend", "flydsl")), environment=_AITER),
    Row("recipes Kimi-K2.7-Code.yaml: 8 H200", "kimi-k2.7-code", "8xH200", 8, tools=K2,
        reasoning=K2, repo="moonshotai/Kimi-K2.7-Code", flags=_VISION),
    Row("recipes strategies/multi_node_tp_dp.yaml: TP8, DP2 on 2 H200 nodes", "kimi-k2.5", "8xH200",
        8, nodes=2, spans=True, data=2, tools=K2, reasoning=K2),
    Row("recipes Kimi-K3.yaml: one node of 8 B300", "kimi-k3", "8xB300", 8, context=1_048_576,
        tools=K3, reasoning=K3,
        flags=(("--gpu-memory-utilization", "0.95"), ("--kv-cache-dtype", "fp8"),
               ("--load-format", "fastsafetensors"), ("--max-model-len", "1048576"),
               ("--attention-config",
                '{"use_prefill_query_quantization":true,"mla_prefill_backend":"flashinfer"}')),
        environment=(("VLLM_ENGINE_READY_TIMEOUT_S", "3600"),)),
    Row("recipes Kimi-K3.yaml: 8 GB300", "kimi-k3", "8xGB300", 8, context=1_048_576,
        tools=K3, reasoning=K3),
    Row("recipes Kimi-K3.yaml: 2 nodes of 8 B200, TP8 x PP2", "kimi-k3", "8xB200", 8, nodes=2,
        pipeline=2, context=1_048_576, tools=K3, reasoning=K3,
        flags=(("--gpu-memory-utilization", "0.9"), ("--max-num-batched-tokens", "8192"),
               ("--kv-cache-dtype", "fp8")),
        environment=(("VLLM_ENGINE_READY_TIMEOUT_S", "3600"),
                     ("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "1800"))),
    Row("recipes Kimi-K3.yaml: 2 nodes of 8 H200", "kimi-k3", "8xH200", 8, nodes=2, pipeline=2,
        context=32_768, tools=K3, reasoning=K3,
        flags=(("--gpu-memory-utilization", "0.97"), ("--max-num-seqs", "5"),
               ("--max-model-len", "32768"), ("--moe-backend", "marlin"),
               ("--max-num-batched-tokens", "4096")),
        environment=(("VLLM_ENGINE_READY_TIMEOUT_S", "3600"),)),
    Row("recipes Kimi-K3.yaml: 32 H100", "kimi-k3", "8xH100", 8, nodes=4, pipeline=4,
        context=32_768, tools=K3, reasoning=K3),
    Row("recipes Kimi-K3.yaml: 8 MI355X", "kimi-k3", "8xMI355X", 8, context=1_048_576,
        tools=K3, reasoning=K3,
        flags=(("--gpu-memory-utilization", "0.95"), ("--max-num-seqs", "128"))),
    Row("recipes Kimi-Linear-48B-A3B-Instruct.yaml: TP4", "kimi-linear", "4xH100", 4,
        context=1_048_576, flags=(("--max-model-len", "1048576"), ("--trust-remote-code", None))),
    Row("MoonshotAI/Kimi-Dev README: TP8", "kimi-dev-72b", "8xH100", 8, context=131_072,
        flags=(("--gpu-memory-utilization", "0.95"),)),
    Row("recipes gpt-oss-120b.yaml: one A100 80 GB", "gpt-oss-120b", "A100", 1, context=131_072,
        tools="openai", reasoning="openai_gptoss"),
    Row("recipes Qwen3.6-27B.yaml: NVFP4 on an RTX 5090", "qwen3.6-27b", "RTX 5090", 1,
        repo="nvidia/Qwen3.6-27B-NVFP4", context=131_072, tools="qwen3_coder", reasoning="qwen3",
        flags=(("--gpu-memory-utilization", "0.95"), ("--max-num-seqs", "4"),
               ("--kv-cache-dtype", "fp8"))),
    Row("recipes Qwen3.5-35B-A3B.yaml: bfloat16 on 2 H100", "qwen3.5-35b-a3b", "2xH100", 2,
        repo="Qwen/Qwen3.5-35B-A3B", tools="qwen3_coder", reasoning="qwen3"),
    Row("recipes Qwen3.5-35B-A3B.yaml: bfloat16 on one H200", "qwen3.5-35b-a3b", "H200", 1,
        repo="Qwen/Qwen3.5-35B-A3B", tools="qwen3_coder", reasoning="qwen3"),
)  # fmt: skip


def planned(model: str, gpus: str, nodes: int = 1, spans: bool = False, **wish: object) -> Plan:
    found = plan(find_model(model), describe(gpus, nodes, spans=spans), Wish(**wish))  # type: ignore[arg-type]
    assert isinstance(found, Plan), found.why
    return found


@pytest.mark.parametrize("row", ROWS, ids=[row.source for row in ROWS])
def test_as_published(row: Row) -> None:
    found = planned(row.model, row.gpus, row.nodes, row.spans, **dict(row.wish))
    layout = found.layout
    assert (layout.tensor, layout.pipeline, layout.data) == (row.tensor, row.pipeline, row.data)
    assert layout.decode_context == row.decode
    assert len(found.commands) == row.nodes
    assert found.context == row.context
    assert row.repo in ("", found.variant.repo)
    given = {flag.name: flag.value for flag in found.flags}
    assert given.get("--tool-call-parser", "") == row.tools
    assert given.get("--reasoning-parser", "") == row.reasoning
    assert ("--enable-auto-tool-choice" in given) == bool(row.tools)
    for name, value in row.flags:
        assert given.get(name, "missing") == value, name
    variables = {one.name: one.value for one in found.environment}
    for name, value in row.environment:
        assert variables.get(name) == value, name


@pytest.mark.parametrize(
    ("source", "decode", "tokens"),
    [
        ("recipes Kimi-K2-Thinking.yaml: TP8 on 8 H200", 1, 715_072),
        ("recipes Kimi-K2-Thinking.yaml: TP8 and DCP8 on 8 H200", 8, 5_721_088),
    ],
)
def test_the_cache_is_as_large_as_was_measured(source: str, decode: int, tokens: int) -> None:
    # The published run used what was vLLM's default share then.
    found = planned("kimi-k2-thinking", "8xH200", utilisation=0.90, decode_context_parallel=decode)
    assert abs(found.tokens - tokens) < tokens * 0.02, source


@pytest.mark.parametrize(
    ("source", "model", "gpus", "nodes"),
    [
        ("586 GiB of 8 H100 against 554 GiB of weights", "kimi-k2.5", "8xH100", 1),
        ("Kimi-K2 deploy_guidance.md: 16 H200 are the least", "kimi-k2-instruct", "8xH200", 1),
        ("recipes Kimi-K3.yaml: one B200 node does not hold it", "kimi-k3", "8xB200", 1),
        ("recipes Kimi-K3.yaml: not fewer than 32 H100", "kimi-k3", "8xH100", 3),
        ("recipes Kimi-K3.yaml: one H200 node does not hold it", "kimi-k3", "8xH200", 1),
    ],
)
def test_too_small_as_published(source: str, model: str, gpus: str, nodes: int) -> None:
    found = plan(find_model(model), describe(gpus, nodes))
    assert isinstance(found, NoPlan), source
    assert found.short_by_bytes > 0


def test_no_reasoning_parser_for_a_model_that_does_not_think() -> None:
    for gpus, nodes in (("8xH200", 2), ("8xMI300X", 1), ("8xB200", 1)):
        for model in ("kimi-k2-instruct", "kimi-k2-instruct-0905"):
            found = planned(model, gpus, nodes)
            assert "--reasoning-parser" not in {flag.name for flag in found.flags}


def test_an_old_option_of_a_published_command_is_left_out_and_said() -> None:
    found = planned("kimi-dev-72b", "8xH100")
    assert not any("--max-seq-len-to-capture" in one.argv for one in found.commands)
    assert any("--max-seq-len-to-capture" in note for note in found.notes)
