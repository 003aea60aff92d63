"""What a plan says, and what is said when there is none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kimi_cli.serve.catalogue import find_model
from kimi_cli.serve.describe import describe
from kimi_cli.serve.facts import Flag, Gpu, Machine, Node, NoPlan, Plan, Process, Wish
from kimi_cli.serve.flags import for_installed, merge, ready_timeout, without_gone
from kimi_cli.serve.planner import plan

GIB = 1 << 30


def planned(model: str, machine: Machine, **wish: object) -> Plan:
    found = plan(find_model(model), machine, Wish(**wish))  # type: ignore[arg-type]
    assert isinstance(found, Plan), found.why
    return found


def refused(model: str, machine: Machine, **wish: object) -> NoPlan:
    found = plan(find_model(model), machine, Wish(**wish))  # type: ignore[arg-type]
    assert isinstance(found, NoPlan)
    return found


def value(found: Plan, name: str) -> str | None:
    return {flag.name: flag.value for flag in found.flags}[name]


def after(argv: tuple[str, ...], name: str) -> str:
    return argv[argv.index(name) + 1]


def used(machine: Machine, size: int, indexes: tuple[int, ...]) -> Machine:
    (node,) = machine.nodes
    gpus = tuple(
        replace(gpu, free_bytes=gpu.total_bytes - size, used_by=(Process(812, "python", size),))
        if gpu.index in indexes
        else gpu
        for gpu in node.gpus
    )
    return replace(machine, nodes=(replace(node, gpus=gpus),))


def test_a_command_that_can_be_pasted() -> None:
    found = planned("kimi-k2.5", describe("8xH200"))
    (command,) = found.commands
    assert command.argv[:3] == ("vllm", "serve", "moonshotai/Kimi-K2.5")
    assert after(command.argv, "--host") == "127.0.0.1"
    assert after(command.argv, "--served-model-name") == "kimi-k2.5"
    assert "--nnodes" not in command.argv
    assert all(flag.why for flag in found.flags)
    assert all(one.why for one in found.environment)
    assert all(one.what and one.why for one in found.reasons)


def test_the_key_is_in_the_environment_and_on_no_command_line() -> None:
    found = planned("kimi-k2.5", describe("8xH100", 2))
    assert not any("--api-key" in word for one in found.commands for word in one.argv)
    keys = [[one for one in node.environment if one.secret] for node in found.commands]
    assert [[one.name for one in node] for node in keys] == [["VLLM_API_KEY"], []]
    assert all(one.value == "" for one in found.environment if one.secret)


def test_two_nodes_differ_in_rank_and_one_has_no_server() -> None:
    found = planned("kimi-k2.5", describe("8xH100", 2))
    head, other = found.commands
    assert [after(one.argv, "--node-rank") for one in (head, other)] == ["0", "1"]
    assert after(other.argv, "--master-addr") == head.host == "node0"
    assert after(other.argv, "--nnodes") == "2"
    assert "--headless" in other.argv and "--headless" not in head.argv


def test_copies_on_two_nodes_start_at_their_rank() -> None:
    found = planned("kimi-k2.5", describe("8xH200", 2))
    head, other = found.commands
    assert found.layout.data == 2
    assert after(head.argv, "--data-parallel-size-local") == "1"
    assert after(other.argv, "--data-parallel-start-rank") == "1"
    assert "--data-parallel-start-rank" not in head.argv
    assert "--headless" in other.argv and "--headless" not in head.argv
    assert found.sessions == 2 * planned("kimi-k2.5", describe("8xH200")).sessions


def test_a_big_load_gets_more_than_vllm_s_ten_minutes() -> None:
    assert ready_timeout(60 * 10**9) == 600
    assert ready_timeout(595 * 10**9) == 1200
    assert ready_timeout(1_680 * 10**9) == 3600
    small = planned("gpt-oss-20b", describe("4090"))
    assert "VLLM_ENGINE_READY_TIMEOUT_S" not in {one.name for one in small.environment}


def test_decode_context_parallelism_is_offered_with_what_was_measured() -> None:
    found = planned("kimi-k2-thinking", describe("8xH200"))
    assert found.layout.decode_context == 1
    (offer,) = [one for one in found.options if "decode context" in one.what]
    assert "715,072" in offer.why and "43 %" in offer.why
    assert offer.flags[0].value == "8"


def test_decode_context_parallelism_is_used_where_nothing_else_reaches() -> None:
    found = planned("kimi-k2.5", describe("8xH200"), sessions=8)
    assert found.layout.decode_context > 1
    assert found.sessions >= 8
    assert value(found, "--decode-context-parallel-size") == str(found.layout.decode_context)


def test_others_on_a_gpu_lower_the_share_and_are_named() -> None:
    machine = used(describe("8xH200"), 30 * GIB, (3,))
    found = planned("kimi-k2.5", machine)
    assert found.utilisation < 0.92
    assert any("python (pid 812) 30.0 GiB" in one.why for one in found.reasons)
    row = found.memory[3]
    assert row.others == 30 * GIB
    assert row.free >= 0


def test_a_small_model_goes_to_the_empty_gpu() -> None:
    found = planned("gpt-oss-20b", used(describe("2x4090"), 20 * GIB, (0,)))
    (command,) = found.commands
    assert {one.name: one.value for one in command.environment}["CUDA_VISIBLE_DEVICES"] == "1"
    assert [row.weights > 0 for row in found.memory] == [False, True]


def test_a_gpu_full_of_others_is_said_to_be_the_trouble() -> None:
    found = refused("gpt-oss-20b", used(describe("4090"), 20 * GIB, (0,)))
    assert "pid 812" in found.why
    assert [way.text for way in found.ways if way.kind == "free"] == [
        "free the 20.0 GiB that are in use: python (pid 812) 20.0 GiB"
    ]


@pytest.mark.parametrize(
    ("gpus", "quantisation"),
    [
        ("8xB200", "nvfp4"),
        ("8xH200", "int4"),
        ("8xMI355X", "mxfp4"),
        ("8xMI300X", "int4"),
        ("8xMI325X", "int4"),
    ],
)
def test_the_weights_suit_the_gpu(gpus: str, quantisation: str) -> None:
    assert planned("kimi-k2.5", describe(gpus)).variant.quantisation == quantisation


def test_weights_passed_over_are_explained() -> None:
    (first, *_) = planned("kimi-k2.5", describe("8xH200")).reasons
    assert "int4" in first.what and "NVFP4 needs Blackwell" in first.why


def test_a_model_that_caches_nothing_a_token() -> None:
    model = find_model("moonlight")
    bare = replace(model, kv=replace(model.kv, layers=0), layers=0, heads=0)
    found = plan(bare, describe("H100"))
    assert isinstance(found, Plan)
    assert found.context == model.max_context


@pytest.mark.parametrize(
    ("model", "gpus", "variant", "needs"),
    [
        ("kimi-k2.5", "8xH200", "nvfp4", "Blackwell"),
        ("qwen3-coder", "8xA100", "fp8", "Ada, Hopper"),
        ("qwen3-coder", "8xT4", "bf16", "Ampere"),
        ("kimi-k2.5", "8xMI300X", "mxfp4", "MI355X"),
    ],
)
def test_weights_that_these_gpus_cannot_run(
    model: str, gpus: str, variant: str, needs: str
) -> None:
    found = refused(model, describe(gpus), variant=variant)
    assert needs in found.why
    assert found.short_by_bytes == 0


def test_experts_in_blocks_stay_whole_where_they_cannot_be_cut() -> None:
    found = planned("qwen3-coder", describe("8xL40S"), variant="fp8", tensor_parallel=4)
    assert found.layout.expert_parallel and found.layout.expert_ranks == 4
    assert "--enable-expert-parallel" in {flag.name for flag in found.flags}
    two = planned("qwen3-coder", describe("8xL40S"), variant="fp8", tensor_parallel=2)
    assert not two.layout.expert_parallel


def test_a_length_that_only_nearly_fits_is_left_to_vllm_unless_asked_for() -> None:
    machine = describe("2x24GB card 24GB")
    found = planned("qwen3-coder", machine)
    assert found.context < 262_144
    assert value(found, "--max-model-len") == "auto"
    asked = planned("qwen3-coder", machine, context=65_536)
    assert value(asked, "--max-model-len") == "65536"


def test_more_than_the_model_can_is_refused() -> None:
    found = refused("kimi-k2.5", describe("8xB300"), context=300_000)
    assert "262,144" in found.why


@pytest.mark.parametrize("tensor", [3, 5, 6, 128])
def test_a_cut_that_does_not_divide_the_heads_is_refused(tensor: int) -> None:
    found = refused("kimi-k2.5", describe("8xH200"), tensor_parallel=tensor)
    assert "64 heads" in found.why
    assert ("--tensor-parallel", "8") in [way.options for way in found.ways]


@pytest.mark.parametrize("model", ["kimi-k1.5-preview", "kimi-k3.1-pro"])
def test_a_model_without_weights(model: str) -> None:
    found = refused(model, describe("8xH200"))
    assert "only Moonshot serves it" in found.why
    assert any(way.kind == "model" for way in found.ways)


def test_a_computer_without_gpus_still_hears_what_would_do() -> None:
    found = refused("kimi-k2.5", Machine((Node(()),), described=False))
    assert found.why == "no GPU was found"
    assert [way.kind for way in found.ways] == ["gpus"]


@pytest.mark.parametrize(
    ("model", "gpus", "wish"),
    [
        ("kimi-k2.5", "8xH100", Wish()),
        ("kimi-k2.5", "4090", Wish()),
        ("kimi-k2.5", "8xH200", Wish(context=262_144, sessions=40)),
        ("kimi-k3", "8xH200", Wish()),
        ("qwen3-coder", "4090", Wish()),
        ("qwen3-coder", "H100", Wish(context=262_144, variant="bf16")),
        ("kimi-k2.5", "8xH200", Wish(variant="nvfp4")),
        ("kimi-k2.5", "8xH200", Wish(tensor_parallel=4, pipeline_parallel=1)),
    ],
)
def test_every_way_that_is_offered_fits(model: str, gpus: str, wish: Wish) -> None:
    found = plan(find_model(model), describe(gpus), wish)
    assert isinstance(found, NoPlan)
    assert found.ways
    for way in found.ways:
        words = list(way.options)
        other = words.pop(0) if way.kind == "model" else model
        given = dict(zip(words[::2], words[1::2], strict=True))
        asked = wish
        if way.kind == "model":
            asked = replace(wish, variant="", tensor_parallel=None, pipeline_parallel=None)
        if "--context" in given:
            asked = replace(asked, context=int(given["--context"].removesuffix("k")) * 1024)
        if "--sessions" in given:
            asked = replace(asked, sessions=int(given["--sessions"]))
        if "--variant" in given:
            asked = replace(asked, variant=given["--variant"])
        if "--kv-dtype" in given:
            asked = replace(asked, kv_dtype="fp8")
        if "--utilisation" in given:
            asked = replace(asked, utilisation=float(given["--utilisation"]))
        if "--tensor-parallel" in given:
            asked = replace(asked, tensor_parallel=int(given["--tensor-parallel"]))
        if "--pipeline-parallel" in given:
            asked = replace(asked, pipeline_parallel=int(given["--pipeline-parallel"]))
        machine = describe(given.get("--gpus", gpus), int(given.get("--nodes", "1")))
        assert isinstance(plan(find_model(other), machine, asked), Plan), way


def test_what_is_estimated_is_said() -> None:
    found = planned("kimi-k3", describe("8xB300"))
    assert any("1.68 TB" in one for one in found.estimated)
    assert any("activations" in one for one in found.estimated)
    read = replace(describe("8xB300"), described=False)
    assert len(planned("kimi-k3", read).estimated) == len(found.estimated) - 1


@pytest.mark.parametrize(
    "wish", [Wish(context=0), Wish(sessions=-1), Wish(utilisation=1.0), Wish(tensor_parallel=0)]
)
def test_a_wish_without_sense(wish: Wish) -> None:
    with pytest.raises(ValueError):
        plan(find_model("kimi-k2.5"), describe("8xH200"), wish)


def test_a_gpu_of_unknown_kind_gets_the_benefit_of_the_doubt() -> None:
    gpu = Gpu("NewCard", 200 * GIB, 200 * GIB)
    machine = Machine((Node(tuple(replace(gpu, index=n) for n in range(8))),), described=False)
    assert planned("kimi-k2.5", machine).context == 262_144


def test_options_are_given_once_and_the_last_counts() -> None:
    merged = merge((Flag("--a", "1", ""), Flag("--b", None, ""), Flag("--a", "2", "")))
    assert [(flag.name, flag.value) for flag in merged] == [("--a", "2"), ("--b", None)]


def test_options_that_vllm_lost_are_renamed_or_left_out() -> None:
    flags = (
        Flag("--disable-log-requests", None, ""),
        Flag("--kv-cache-memory", "5", ""),
        Flag("--port", "8000", ""),
    )
    kept, notes = without_gone(flags)
    assert [flag.name for flag in kept] == ["--kv-cache-memory-bytes", "--port"]
    assert len(notes) == 2


def test_a_plan_for_a_vllm_with_fewer_options() -> None:
    found = planned("kimi-k2.5", describe("8xH100", 2))
    names = frozenset(flag.name for flag in found.flags) - {"--mm-encoder-tp-mode"}
    older = for_installed(found, names)
    for before, now in zip(found.commands, older.commands, strict=True):
        assert "--mm-encoder-tp-mode" not in now.argv
        assert now.argv == tuple(
            word for word in before.argv if word not in ("--mm-encoder-tp-mode", "data")
        )
    assert any("--mm-encoder-tp-mode" in note for note in older.notes)
