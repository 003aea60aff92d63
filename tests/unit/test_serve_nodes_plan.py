"""What a plan over several nodes says to each of them, and copies that are asked for."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kimi_cli.serve import memory
from kimi_cli.serve.catalogue import find_model
from kimi_cli.serve.describe import describe
from kimi_cli.serve.facts import Layout, Machine, NodeCommand, NoPlan, Plan, Wish
from kimi_cli.serve.flags import rank_words
from kimi_cli.serve.planner import plan


def of(model: str, machine: Machine, wish: Wish) -> Plan:
    found = plan(find_model(model), machine, wish)
    assert isinstance(found, Plan), found.why
    return found


def variables(command: NodeCommand) -> dict[str, str]:
    return {one.name: one.value for one in command.environment}


def value(command: NodeCommand, option: str) -> str:
    return command.argv[command.argv.index(option) + 1]


def test_nodes_are_told_the_head_s_address_and_their_own_interface() -> None:
    machine = describe("8xH200", 2)
    nodes = tuple(
        replace(node, address=f"10.0.0.{at}", interface=f"ib{at}")
        for at, node in enumerate(machine.nodes, 1)
    )
    found = of("kimi-k2", replace(machine, nodes=nodes), Wish())
    for at, command in enumerate(found.commands, 1):
        assert value(command, "--master-addr") == "10.0.0.1"
        assert command.host == f"node{at - 1}"
        shown = variables(command)
        assert shown["VLLM_HOST_IP"] == f"10.0.0.{at}"
        assert shown["GLOO_SOCKET_IFNAME"] == shown["NCCL_SOCKET_IFNAME"] == f"ib{at}"
    assert any("port 29501 of 10.0.0.1" in note for note in found.notes)
    assert not any("GLOO_SOCKET_IFNAME" in note for note in found.notes)


def test_where_the_interface_is_not_known_it_is_said() -> None:
    found = of("kimi-k2", describe("8xH200", 2), Wish())
    assert any("GLOO_SOCKET_IFNAME" in note for note in found.notes)
    assert not any(name in variables(found.commands[0]) for name in ("VLLM_HOST_IP",))


def test_one_node_needs_no_address() -> None:
    machine = describe("8xH200")
    (node,) = machine.nodes
    placed = replace(machine, nodes=(replace(node, address="10.0.0.1", interface="ib0"),))
    shown = variables(of("kimi-k2.5", placed, Wish()).commands[0])
    assert "VLLM_HOST_IP" not in shown and "GLOO_SOCKET_IFNAME" not in shown


def test_the_words_of_a_rank_as_a_shell_is_to_expand_them() -> None:
    every, others = rank_words(Layout(8, 2), 2, "$HEAD", "$RANK", "$FIRST")
    assert every[:6] == ("--nnodes", "2", "--node-rank", "$RANK", "--master-addr", "$HEAD")
    assert others == ("--headless",)
    every, others = rank_words(Layout(1, 1, 16), 2, "$HEAD", "$RANK", "$FIRST")
    assert every[:4] == ("--data-parallel-size-local", "8", "--data-parallel-address", "$HEAD")
    assert others == ("--headless", "--data-parallel-start-rank", "$FIRST")
    assert rank_words(Layout(8), 1, "a", "0", "0") == ((), ())


def test_gpus_of_two_kinds_are_numbered_as_the_driver_does() -> None:
    mixed = of("qwen3.6-27b", describe("1xRTX 4090+2xH100"), Wish(tensor_parallel=1))
    shown = variables(mixed.commands[0])
    assert shown["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert shown["CUDA_VISIBLE_DEVICES"] in ("1", "2")
    alike = of("qwen3.6-27b", describe("2xH100"), Wish(tensor_parallel=1))
    assert "CUDA_DEVICE_ORDER" not in variables(alike.commands[0])


def test_copies_start_at_their_rank_on_each_node() -> None:
    found = of("kimi-k2", describe("8xH200", 2), Wish(data_parallel=16))
    assert found.layout == Layout(1, 1, 16, 1, True)
    head, other = found.commands
    assert value(other, "--data-parallel-start-rank") == "8"
    assert "--headless" in other.argv and "--headless" not in head.argv
    assert any("no experts" in words for words in found.estimated)


def test_copies_share_the_experts_and_keep_the_rest() -> None:
    layout = Layout(1, 1, 16, 1, True)
    assert memory.weight_gpu_bytes(1_000, 61, layout, 200) == 200 + 800 // 16
    # Without a share that is known each copy is taken to hold everything.
    assert memory.weight_gpu_bytes(1_000, 61, layout) == 1_000
    assert memory.weight_gpu_bytes(1_000, 61, Layout(2, 1, 8, 1, True), 200) == 100 + 50


@pytest.mark.parametrize("copies", [1, 2, 4, 8, 16])
def test_as_many_copies_as_asked_for(copies: int) -> None:
    found = of("kimi-k2", describe("8xH200", 2), Wish(data_parallel=copies))
    assert found.layout.data == copies
    gpus = sum(row.weights > 0 for row in found.memory)
    assert found.layout.world == gpus


def test_copies_that_do_not_go_over_these_gpus() -> None:
    found = plan(find_model("kimi-k2"), describe("8xH200", 2), Wish(data_parallel=17))
    assert isinstance(found, NoPlan)
    assert any(way.options == ("--data-parallel", "1") for way in found.ways)
    with pytest.raises(ValueError, match="data parallel of 0"):
        plan(find_model("kimi-k2"), describe("8xH200", 2), Wish(data_parallel=0))


def test_a_dense_model_has_no_experts_to_share() -> None:
    found = of("qwen3.6-27b", describe("4xH100"), Wish(data_parallel=4))
    assert found.layout.data == 4 and not found.layout.expert_parallel
    assert "--enable-expert-parallel" not in found.commands[0].argv
