"""Planning without a GPU: the memory of a computer as /proc and /sys tell it, and what fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kimi_cli.serve.catalogue import find_model
from kimi_cli.serve.cpu_facts import cores, cpu_machine, id_list, is_loopback
from kimi_cli.serve.cpu_fit import SERVER, WORKER
from kimi_cli.serve.facts import (
    Gpu,
    KvShape,
    Machine,
    ModelFacts,
    Node,
    NodeCommand,
    NoPlan,
    Plan,
    Variant,
    Wish,
)
from kimi_cli.serve.on_cpu import plan_cpu

GIB = 1 << 30


def model(billions: float = 1.5, quantisation: str = "bf16", **more: object) -> ModelFacts:
    """A small coder: 28 layers, 12 heads, 2 of keys and values."""
    size = int(billions * 1e9) * 2
    facts = ModelFacts(
        "coder",
        "Coder",
        (Variant("someone/coder", quantisation, size, ""),),
        28,
        12,
        KvShape("gqa", 28, 128, 2),
        32_768,
        tool_parser="hermes",
    )
    return replace(facts, **more)  # type: ignore[arg-type]


def machine(*gib: float, hosts: tuple[str, ...] = ("localhost",)) -> Machine:
    """Computers alike, with memory nodes of so many GiB, all of it available."""
    banks = tuple(
        Gpu("CPU", int(size * GIB), int(size * GIB), index) for index, size in enumerate(gib)
    )
    return Machine(tuple(Node(banks, host, vendor="cpu") for host in hosts), described=False)


def planned(result: Plan | NoPlan) -> Plan:
    assert isinstance(result, Plan), result
    return result


def variables(command: NodeCommand) -> dict[str, str]:
    return {one.name: one.value for one in command.environment if not one.secret}


def option(command: NodeCommand, name: str) -> str:
    return command.argv[command.argv.index(name) + 1]


# --- the computer ---


def tree(root: Path, **files: str) -> Path:
    """Files below a root, their names with "__" for "/" and "_dot_" for "."."""
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def meminfo(total: int, available: int, prefix: str = "") -> str:
    rows = {"MemTotal": total, "MemFree": available // 2, "MemAvailable": available}
    rows |= {"Active(file)": available // 4, "Inactive(file)": available // 4, "SReclaimable": 0}
    return "".join(f"{prefix}{name}:  {size} kB\n" for name, size in rows.items())


STATUS = "Name:\tpython\nMems_allowed:\t00000003\nMems_allowed_list:\t0-1\n"
NODE = "sys__devices__system__node__node"


def two_banks(root: Path) -> Path:
    files = {
        "proc__self__status": STATUS,
        "proc__meminfo": meminfo(64 << 20, 48 << 20),
        f"{NODE}0__meminfo": meminfo(32 << 20, 28 << 20, "Node 0 "),
        f"{NODE}1__meminfo": meminfo(32 << 20, 20 << 20, "Node 1 "),
    }
    return tree(root, **files)


def sizes(found: Machine) -> list[tuple[str, list[tuple[int, int, int]]]]:
    return [
        (node.host, [(gpu.index, gpu.total_bytes, gpu.free_bytes) for gpu in node.gpus])
        for node in found.nodes
    ]


def test_each_memory_node_is_one_place(tmp_path: Path) -> None:
    root = two_banks(tmp_path)
    both = [(0, 32 * GIB, 28 * GIB), (1, 32 * GIB, 20 * GIB)]
    assert sizes(cpu_machine({}, root=root)) == [("localhost", both)]
    chosen = cpu_machine({"CPU_VISIBLE_MEMORY_NODES": "1,7"}, root=root)
    assert [gpu.index for gpu in chosen.nodes[0].gpus] == [1]


def test_names_of_one_computer_share_it(tmp_path: Path) -> None:
    found = cpu_machine({}, ("127.0.0.1", "localhost"), root=two_banks(tmp_path))
    half = [(0, 16 * GIB, 14 * GIB), (1, 16 * GIB, 10 * GIB)]
    assert sizes(found) == [("127.0.0.1", half), ("localhost", half)]


def test_without_memory_nodes_the_whole_computer_is_one(tmp_path: Path) -> None:
    root = tree(tmp_path, proc__meminfo=meminfo(16 << 20, 12 << 20))
    assert sizes(cpu_machine({}, root=root)) == [("localhost", [(0, 16 * GIB, 12 * GIB)])]


@pytest.mark.parametrize(
    ("own", "files"),
    [
        (
            "0::/pod/task\n",
            {
                "sys__fs__cgroup__pod__memory_dot_max": f"{8 * GIB}\n",
                "sys__fs__cgroup__pod__memory_dot_current": f"{3 * GIB}\n",
                "sys__fs__cgroup__pod__memory_dot_stat": f"anon 5\ninactive_file {GIB}\n",
                "sys__fs__cgroup__pod__task__memory_dot_max": "max\n",
                "sys__fs__cgroup__pod__task__memory_dot_current": "1\n",
            },
        ),
        (
            "9:cpu,cpuacct:/other\n4:memory:/pod\n0::/\n",
            {
                "sys__fs__cgroup__memory__memory_dot_limit_in_bytes": "9223372036854771712\n",
                "sys__fs__cgroup__memory__memory_dot_usage_in_bytes": "5\n",
                "sys__fs__cgroup__memory__pod__memory_dot_limit_in_bytes": f"{8 * GIB}\n",
                "sys__fs__cgroup__memory__pod__memory_dot_usage_in_bytes": f"{3 * GIB}\n",
                "sys__fs__cgroup__memory__pod__memory_dot_stat": f"total_inactive_file {GIB}\n",
            },
        ),
    ],
    ids=["cgroup 2", "cgroup 1"],
)
def test_a_containers_limit_counts(tmp_path: Path, own: str, files: dict[str, str]) -> None:
    root = tree(two_banks(tmp_path), proc__self__cgroup=own, **files)
    share = [(0, 4 * GIB, 3 * GIB), (1, 4 * GIB, 3 * GIB)]
    assert sizes(cpu_machine({}, root=root)) == [("localhost", share)]


def test_this_computer() -> None:
    found = cpu_machine({})
    (node,) = found.nodes
    assert node.vendor == "cpu" and not found.described
    assert all(0 < gpu.free_bytes <= gpu.total_bytes for gpu in node.gpus)
    assert cores()


def test_what_cannot_be_read_is_no_machine(tmp_path: Path) -> None:
    refused = plan_cpu(model(), cpu_machine({}, root=tmp_path), Wish())
    assert isinstance(refused, NoPlan) and "can't be read" in refused.why


def test_lists_of_numbers() -> None:
    assert id_list("0-2,4\n") == (0, 1, 2, 4)
    assert id_list("") == ()


@pytest.mark.parametrize(
    ("host", "here"),
    [("localhost", True), ("127.0.0.2", True), ("::1", True), ("10.0.0.1", False), ("a", False)],
)
def test_loopback(host: str, here: bool) -> None:
    assert is_loopback(host) is here


# --- the plan ---


def test_a_small_model_on_one_computer() -> None:
    plan = planned(plan_cpu(model(), machine(24), Wish(port=8123), (0, 1)))
    (command,) = plan.commands
    assert command.argv[:3] == ("vllm", "serve", "someone/coder")
    assert option(command, "--dtype") == "bfloat16"
    assert option(command, "--max-model-len") == "32768"
    assert option(command, "--port") == "8123"
    assert option(command, "--tool-call-parser") == "hermes"
    assert "--enforce-eager" in command.argv and "--gpu-memory-utilization" not in command.argv
    assert variables(command) == {
        "VLLM_NO_USAGE_STATS": "1",
        # Four conversations of 32,768 tokens at 28,672 bytes each.
        "VLLM_CPU_KVCACHE_SPACE": "4",
        "VLLM_HOST_IP": "127.0.0.1",
        "VLLM_CPU_OMP_THREADS_BIND": "0,1",
    }
    assert (plan.context, plan.layout.world, plan.kv_dtype) == (32_768, 1, "auto")
    assert plan.sessions >= 4
    assert any("slow" in note for note in plan.notes)


def test_vllm_chooses_the_cores_where_there_are_many() -> None:
    plan = planned(plan_cpu(model(), machine(24), Wish(), tuple(range(32))))
    assert "VLLM_CPU_OMP_THREADS_BIND" not in variables(plan.commands[0])


def test_two_nodes_on_one_computer() -> None:
    hosts = ("127.0.0.1", "localhost")
    wish = Wish(tensor_parallel=2)
    plan = planned(plan_cpu(model(), machine(12, hosts=hosts), wish, (0, 1)))
    head, other = plan.commands
    assert (head.host, other.host) == hosts
    for rank, command in enumerate(plan.commands):
        assert option(command, "--tensor-parallel-size") == "2"
        assert option(command, "--nnodes") == "2"
        assert option(command, "--node-rank") == str(rank)
        assert option(command, "--master-addr") == "127.0.0.1"
        assert variables(command)["VLLM_HOST_IP"] == "127.0.0.1"
    assert "--headless" in other.argv and "--headless" not in head.argv
    binds = [variables(one)["VLLM_CPU_OMP_THREADS_BIND"] for one in plan.commands]
    assert binds == ["0", "1"]
    # One core can't be shared out: both have it.
    plan = planned(plan_cpu(model(), machine(12, hosts=hosts), wish, (3,)))
    assert {variables(one)["VLLM_CPU_OMP_THREADS_BIND"] for one in plan.commands} == {"3"}


def test_several_computers_are_stages_unless_asked_otherwise() -> None:
    hosts = ("10.0.0.1", "node-b")
    plan = planned(plan_cpu(model(), machine(12, hosts=hosts), Wish(), (0, 1)))
    assert (plan.layout.tensor, plan.layout.pipeline) == (1, 2)
    assert variables(plan.commands[0])["VLLM_HOST_IP"] == "10.0.0.1"
    assert "VLLM_HOST_IP" not in variables(plan.commands[1])
    # Cores of other computers aren't known here.
    assert all("VLLM_CPU_OMP_THREADS_BIND" not in variables(one) for one in plan.commands)
    refused = plan_cpu(
        model(), machine(12, hosts=hosts), Wish(tensor_parallel=1, pipeline_parallel=3)
    )
    assert isinstance(refused, NoPlan) and "does not go evenly over 2 computers" in refused.why


def test_a_worker_for_each_memory_node_where_one_is_too_small() -> None:
    fits_one = planned(plan_cpu(model(), machine(16, 16), Wish()))
    assert fits_one.layout.tensor == 1
    fits_two = planned(plan_cpu(model(5), machine(13, 13), Wish()))
    assert fits_two.layout.tensor == 2
    refused = plan_cpu(model(), machine(16, 16), Wish(tensor_parallel=4))
    assert isinstance(refused, NoPlan) and "2 memory nodes, each for one worker" in refused.why


def test_too_large_a_model_is_refused_with_figures() -> None:
    refused = plan_cpu(model(30), machine(24), Wish())
    assert isinstance(refused, NoPlan) and not refused.ways
    assert "takes 55.9 GiB of weights" in refused.why and "22.8 GiB of memory" in refused.why
    need = 60 * 10**9 + WORKER + SERVER + GIB
    assert refused.short_by_bytes == need - (24 * GIB - 24 * GIB // 20)


def test_less_context_is_proposed_where_it_helps() -> None:
    refused = plan_cpu(model(), machine(8), Wish(context=32_768, sessions=4))
    assert isinstance(refused, NoPlan)
    refused = plan_cpu(model(max_context=262_144), machine(12), Wish(context=262_144))
    assert isinstance(refused, NoPlan)
    (way,) = refused.ways
    name, size = way.options
    assert name == "--context" and size.endswith("k")
    again = Wish(context=int(size[:-1]) * 1024)
    planned(plan_cpu(model(max_context=262_144), machine(12), again))


def test_weights_that_only_gpus_compute() -> None:
    for kind in ("fp8", "nvfp4", "mxfp4"):
        refused = plan_cpu(model(quantisation=kind), machine(24), Wish())
        assert isinstance(refused, NoPlan) and f"{kind} weights only" in refused.why
    planned(plan_cpu(model(quantisation="int4"), machine(24), Wish()))
    double = model(quantisation="fp32")
    assert planned(plan_cpu(double, machine(24), Wish())).memory[0].weights == 1_500_000_000


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        (Wish(kv_dtype="fp8"), "fp8 cache needs a GPU"),
        (Wish(tensor_parallel=5), "does not divide"),
        (Wish(context=65_536), "32,768 are the most"),
        (Wish(variant="int4"), "has no int4 weights"),
        (Wish(decode_context_parallel=2), "needs GPUs"),
        (Wish(data_parallel=2), "cores from each other"),
    ],
)
def test_wishes_that_cannot_be_met(wish: Wish, why: str) -> None:
    refused = plan_cpu(model(), machine(24), wish)
    assert isinstance(refused, NoPlan) and why in refused.why


def test_wishes_that_make_no_sense() -> None:
    with pytest.raises(ValueError, match="context of 0: at least 1"):
        plan_cpu(model(), machine(24), Wish(context=0))


def test_the_catalogues_giants_are_refused() -> None:
    for name in ("kimi-k2.5", "kimi-k3"):
        refused = plan_cpu(find_model(name), machine(24), Wish())
        assert isinstance(refused, NoPlan)
        assert "need a GPU" in refused.why or "of weights" in refused.why


@settings(max_examples=100, deadline=None)
@given(
    billions=st.floats(0.01, 40),
    banks=st.lists(st.integers(1, 256), min_size=1, max_size=4),
    share=st.floats(0.1, 1),
    hosts=st.integers(1, 3),
    wish=st.builds(
        Wish,
        context=st.none() | st.integers(1, 32_768),
        sessions=st.none() | st.integers(1, 8),
        tensor_parallel=st.sampled_from([None, 1, 2, 3, 4]),
    ),
)
def test_never_more_memory_than_there_is(
    billions: float, banks: list[int], share: float, hosts: int, wish: Wish
) -> None:
    names = tuple(f"10.0.0.{number}" for number in range(hosts))
    whole = machine(*banks, hosts=names)
    nodes = tuple(
        replace(
            node,
            gpus=tuple(replace(gpu, free_bytes=int(gpu.total_bytes * share)) for gpu in node.gpus),
        )
        for node in whole.nodes
    )
    plan = plan_cpu(model(billions), replace(whole, nodes=nodes), wish)
    if isinstance(plan, NoPlan):
        assert plan.why and plan.short_by_bytes >= 0
        return
    for row in plan.memory:
        assert row.free >= 0
        assert row.total == row.others + row.weights + row.kv + row.overhead + row.free
    assert plan.context >= min(wish.context or 16_384, 32_768)
    assert plan.sessions >= (wish.sessions or 1)
    for command in plan.commands:
        assert int(variables(command)["VLLM_CPU_KVCACHE_SPACE"]) >= 1


@settings(max_examples=100, deadline=None)
@given(st.floats(0.01, 20), st.integers(1, 128), st.floats(0, 64), st.integers(1, 32))
def test_more_memory_never_means_less_context(
    billions: float, size: int, more: float, heads: int
) -> None:
    wide = model(billions, kv=KvShape("gqa", 28, 128, heads), max_context=262_144)
    less = plan_cpu(wide, machine(size), Wish())
    larger = plan_cpu(wide, machine(size + more), Wish())
    if isinstance(less, Plan):
        assert planned(larger).context >= less.context
