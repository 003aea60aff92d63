"""Finding GPUs: NVML, nvidia-smi, amd-smi and rocm-smi as real machines answer, and none at all."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kimi_cli.serve import detect_nvidia
from kimi_cli.serve.detect import find_machine
from kimi_cli.serve.detect_amd import amd_smi_cards, find_amd, rocm_smi_cards
from kimi_cli.serve.detect_nvidia import find_nvidia
from kimi_cli.serve.facts import Node, Process
from kimi_cli.serve.nvidia_smi import cuda_version, gpu_rows, nvlinks, processes
from kimi_cli.serve.probing import Sight, unified_memory, visible
from tests.support import gpu_programs as recorded

MIB, GIB = 1 << 20, 1 << 30
STAND_IN = Path(recorded.__file__).parent / "nvml"
H200 = {
    "name": "NVIDIA H200",
    "memory": [143771 * MIB, 617 * MIB, 143154 * MIB],
    "capability": [9, 0],
    "mig": [0, 0],
    "processes": [],
}


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder for PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def path_of(folder: Path, **more: str) -> dict[str, str]:
    return {"PATH": f"{folder}:/usr/bin:/bin", **more}


@pytest.fixture(autouse=True)
def nvml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes the stand-in for nvidia-ml-py answer for a machine; for none until it is called."""
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setenv("FAKE_NVML", str(tmp_path / "nvml.json"))

    def answers(machine: dict[str, Any]) -> None:
        (tmp_path / "nvml.json").write_text(json.dumps(machine))

    answers({"problem": "NVML Shared Library Not Found"})
    yield answers
    sys.modules.pop("pynvml", None)


def devices(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{**H200, "uuid": recorded.uuid(index), **more} for index in range(count)]


def every_pair(count: int) -> list[list[int]]:
    return [[one, other] for one in range(count) for other in range(one + 1, count)]


def node_of(sight: Sight) -> Node:
    assert sight.node is not None, sight.problem
    return sight.node


# --- NVML ---


def test_nvml_tells_all(nvml: Any, programs: Path) -> None:
    gpus = devices(8)
    gpus[0]["memory"] = [143771 * MIB, 617 * MIB, 55000 * MIB]
    gpus[0]["processes"] = [
        [7, "/usr/bin/python3", 600 * MIB],
        [41312, "VLLM::Worker_TP0", 88012 * MIB],
        [9, "", None],
    ]
    nvml({"devices": gpus, "linked": every_pair(8), "driver": "570.86.10", "cuda": 12080})
    sight = find_nvidia(path_of(programs))
    node = node_of(sight)
    assert (node.vendor, node.driver, node.cuda, node.nvlink) == (
        *("nvidia", "570.86.10", "12.8"),
        True,
    )
    assert [gpu.index for gpu in node.gpus] == list(range(8))
    first, second = node.gpus[:2]
    assert (first.name, first.capability) == ("NVIDIA H200", "9.0")
    # 139.8 GiB is what CUDA programs see of an H200, not the 140.4 that include the driver's share.
    assert first.total_bytes == (143771 - 617) * MIB
    assert round(first.total_bytes / GIB, 1) == 139.8
    assert (first.free_bytes, second.free_bytes) == (55000 * MIB, 143154 * MIB)
    assert first.used_by == (
        Process(41312, "VLLM::Worker_TP0", 88012 * MIB),
        Process(7, "python3", 600 * MIB),
        Process(9, "unknown", 0),
    )
    assert sight.notes == ()


def test_nvml_of_an_old_driver(nvml: Any, programs: Path) -> None:
    """It tells neither the driver's share of the memory, nor NVLink, MIG, processes or CUDA."""
    old = {
        "uuid": recorded.uuid(0),
        "name": "Tesla V100",
        "memory": [32510 * MIB, None, 32000 * MIB],
    }
    nvml({"devices": [old, {**old, "uuid": recorded.uuid(1)}], "driver": "418.0"})
    node = node_of(find_nvidia(path_of(programs)))
    assert [gpu.total_bytes for gpu in node.gpus] == [32510 * MIB] * 2
    assert (node.nvlink, node.cuda, node.gpus[0].capability, node.gpus[0].used_by) == (
        *(None, "", ""),
        (),
    )


def test_nvml_with_nvlink_between_some_pairs(nvml: Any, programs: Path) -> None:
    nvml({"devices": devices(4), "linked": [[0, 1], [2, 3]]})
    sight = find_nvidia(path_of(programs))
    assert node_of(sight).nvlink is False
    assert sight.notes == (
        "NVLink joins GPUs 0-1, 2-3 only; tensor parallel over others goes over PCIe",
    )
    nvml({"devices": devices(4), "linked": []})
    assert find_nvidia(path_of(programs)).notes == ()


def test_cuda_visible_devices(nvml: Any, programs: Path) -> None:
    nvml({"devices": devices(4), "linked": [[0, 1], [2, 3]]})
    sight = find_nvidia(path_of(programs, CUDA_VISIBLE_DEVICES="2,3"))
    node = node_of(sight)
    assert [gpu.index for gpu in node.gpus] == [2, 3]
    assert node.nvlink is True
    assert sight.notes == ("CUDA_VISIBLE_DEVICES leaves 2 of 4 GPUs",)
    hidden = find_nvidia(path_of(programs, CUDA_VISIBLE_DEVICES="-1"))
    assert hidden.node is None
    assert "CUDA_VISIBLE_DEVICES=-1 hides every GPU" in hidden.problem


def test_a_gpu_split_by_mig(nvml: Any, programs: Path) -> None:
    def instance(name: str, size: int) -> dict[str, Any]:
        part = {"name": f"NVIDIA H200 MIG {name}", "uuid": f"MIG-{name}", "capability": [9, 0]}
        return {**part, "memory": [size * MIB, 0, size * MIB]}

    split = devices(1, instances=[instance("1g.18gb", 16384), instance("3g.71gb", 71424)])
    nvml({"devices": split})
    sight = find_nvidia(path_of(programs))
    (gpu,) = node_of(sight).gpus
    assert (gpu.name, gpu.total_bytes) == ("NVIDIA H200 MIG 3g.71gb", 71424 * MIB)
    assert sight.notes == (
        "GPU 0 is split by MIG; 2 instances, of which vLLM uses one",
        "start vLLM with CUDA_VISIBLE_DEVICES=MIG-3g.71gb",
    )
    chosen = find_nvidia(path_of(programs, CUDA_VISIBLE_DEVICES="MIG-1g.18gb"))
    assert node_of(chosen).gpus[0].name == "NVIDIA H200 MIG 1g.18gb"

    # Beside whole GPUs an instance is of no use to tensor parallelism.
    nvml({"devices": [*split, {**devices(2)[1]}]})
    (whole,) = node_of(find_nvidia(path_of(programs))).gpus
    assert whole.index == 1

    nvml({"devices": devices(1, instances=[])})
    assert find_nvidia(path_of(programs)).node is None


def test_a_gpu_without_memory_of_its_own(nvml: Any, programs: Path) -> None:
    spark = {"uuid": recorded.uuid(0), "name": "NVIDIA GB10", "capability": [12, 1], "mig": [0, 0]}
    nvml({"devices": [spark]})
    sight = find_nvidia(path_of(programs))
    (gpu,) = node_of(sight).gpus
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert gpu.total_bytes == pytest.approx(pages, rel=0.05)
    assert 0 < gpu.free_bytes <= gpu.total_bytes
    assert sight.notes == ("GPU 0 has no memory of its own: it is planned with the computer's",)


def test_nvml_without_a_driver_gives_way_to_the_program(programs: Path) -> None:
    alone = find_nvidia(path_of(programs))
    assert alone.problem == "NVML: NVML Shared Library Not Found; nvidia-smi is not there"
    recorded.nvidia_smi(programs, recorded.query(1))
    assert len(node_of(find_nvidia(path_of(programs))).gpus) == 1


def test_the_real_package_has_what_is_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one != str(STAND_IN)])
    real = pytest.importorskip("pynvml", reason="nvidia-ml-py is not installed")
    used = set(re.findall(r"nvml\.((?:nvml|NVML)\w+)", Path(detect_nvidia.__file__).read_text()))
    assert len(used) > 10
    assert not [name for name in used if not hasattr(real, name)]


# --- nvidia-smi ---


def test_nvidia_smi_tells_all(programs: Path) -> None:
    recorded.nvidia_smi(
        programs,
        recorded.query(8, used=(88524,)),
        topology=recorded.matrix(8, "NV18"),
        apps=recorded.APPS,
    )
    sight = find_nvidia(path_of(programs))
    node = node_of(sight)
    assert (node.vendor, node.driver, node.cuda, node.nvlink) == (
        *("nvidia", "570.86.10", "12.8"),
        True,
    )
    assert len(node.gpus) == 8
    assert node.gpus[0].total_bytes == (143771 - 617) * MIB
    assert node.gpus[0].free_bytes == (143771 - 617 - 88524) * MIB
    assert node.gpus[0].used_by == (
        Process(41312, "VLLM::Worker_TP0", 88012 * MIB),
        Process(4242, "python3", 512 * MIB),
        Process(4243, "run,all", 100 * MIB),
    )
    assert node.gpus[3].used_by == (Process(977, "unknown", 0),)
    assert node.gpus[1].used_by == ()
    assert sight.notes == ()


def test_nvidia_smi_of_an_old_driver(programs: Path) -> None:
    answers: dict[str, str | tuple[int, str]] = {
        "memory.reserved": (2, recorded.QUERY_FAILED),
        "memory.free,driver": "0, GPU-1, Tesla V100-SXM2-32GB, 32510, 32507, 418.67\n",
    }
    recorded.program(programs, "nvidia-smi", answers)
    node = node_of(find_nvidia(path_of(programs)))
    assert node.gpus[0].name == "Tesla V100-SXM2-32GB"
    assert (node.gpus[0].total_bytes, node.gpus[0].free_bytes) == (32510 * MIB, 32507 * MIB)
    assert (node.driver, node.cuda, node.nvlink) == ("418.67", "", None)


def test_nvidia_smi_without_a_driver(programs: Path) -> None:
    recorded.program(programs, "nvidia-smi", {" ": (9, recorded.NO_DRIVER)})
    problem = find_nvidia(path_of(programs)).problem
    assert "couldn't communicate with the NVIDIA driver" in problem


def test_nvidia_smi_with_gpus_split_by_mig(programs: Path) -> None:
    recorded.nvidia_smi(programs, recorded.query(2, mig="Enabled"))
    sight = find_nvidia(path_of(programs))
    assert sight.node is None
    assert sight.problem.endswith("every GPU is split by MIG")


def test_nvidia_smi_for_shared_memory(programs: Path) -> None:
    recorded.nvidia_smi(
        programs, recorded.query(1, "NVIDIA GB10", total="[N/A]", reserved="[N/A]", mig="[N/A]")
    )
    sight = find_nvidia(path_of(programs))
    (gpu,) = node_of(sight).gpus
    assert gpu.total_bytes == (unified_memory() or (0, 0))[0] > 0
    assert "no memory of its own" in sight.notes[0]


def test_a_program_that_can_not_be_run(programs: Path) -> None:
    (programs / "nvidia-smi").write_bytes(b"\x7fELF nothing")
    (programs / "nvidia-smi").chmod(0o755)
    assert "nvidia-smi can't be started" in find_nvidia(path_of(programs)).problem


@pytest.mark.parametrize(
    ("table", "pairs"),
    [
        (recorded.SLI_PAIRS, {(0, 1), (2, 3)}),
        (recorded.PCIE_ONLY, set()),
        (recorded.matrix(3, "NV12"), {(0, 1), (0, 2), (1, 2)}),
        (recorded.matrix(1, "NV12"), set()),
    ],
)
def test_topology_tables(table: str, pairs: set[tuple[int, int]]) -> None:
    assert nvlinks(table) == frozenset(pairs)
    # As pasted, with blanks for tabs.
    assert nvlinks(table.replace("\t", "    ")) == frozenset(pairs)


def test_no_topology_table() -> None:
    assert nvlinks("") is None
    assert nvlinks("Failed to get topology") is None


def test_headings() -> None:
    assert cuda_version(recorded.HEADING) == "12.8"
    assert cuda_version("| NVIDIA-SMI 590.44  CUDA UMD Version: 13.1 |") == "13.1"
    assert cuda_version("CUDA Version: N/A") == ""


# --- AMD ---


@pytest.mark.parametrize("wrapped", [True, False])
def test_amd_smi_tells_all(programs: Path, wrapped: bool) -> None:
    recorded.amd_smi(programs, 8, wrapped=wrapped)
    sight = find_amd(path_of(programs))
    node = node_of(sight)
    assert (node.vendor, node.driver, node.nvlink) == ("amd", "6.12.12", True)
    assert [gpu.index for gpu in node.gpus] == list(range(8))
    first, second = node.gpus[:2]
    assert (first.name, first.capability) == ("AMD Instinct MI300X", "gfx942")
    assert first.total_bytes == 196592 * MIB
    assert (first.free_bytes, second.free_bytes) == ((196592 - 65536) * MIB, (196592 - 284) * MIB)
    size = 65000 if wrapped else 65001
    assert first.used_by == (Process(2168274, "python3.12", size * MIB),)
    assert second.used_by == ()
    assert sight.notes == ()


def test_gpus_hidden_from_hip(programs: Path) -> None:
    recorded.amd_smi(programs, 4)
    sight = find_amd(path_of(programs, HIP_VISIBLE_DEVICES="1,2"))
    assert [gpu.index for gpu in node_of(sight).gpus] == [1, 2]
    assert sight.notes == ("HIP_VISIBLE_DEVICES leaves 2 of 4 GPUs",)
    assert find_amd(path_of(programs, ROCR_VISIBLE_DEVICES="")).node is None


def test_rocm_smi(programs: Path) -> None:
    recorded.rocm_smi(programs, recorded.ROCM_SMI)
    node = node_of(find_amd(path_of(programs)))
    (gpu,) = node.gpus
    assert (gpu.name, gpu.capability, gpu.index) == ("Radeon RX 7900 XT", "gfx1100", 0)
    assert (gpu.total_bytes, gpu.free_bytes) == (21458059264, 21458059264 - 27856896)
    assert (node.driver, node.nvlink) == ("6.12.12", None)


def test_rocm_smi_of_an_old_version(programs: Path) -> None:
    recorded.rocm_smi(programs, recorded.ROCM_SMI_OLD, recorded.ROCM_TOPOLOGY)
    node = node_of(find_amd(path_of(programs)))
    assert [gpu.index for gpu in node.gpus] == [0, 1]
    assert [gpu.name for gpu in node.gpus] == [
        "AMD GPU",
        "AMD INSTINCT MI200 (MCM) OAM LC MBA HPE C2",
    ]
    assert node.nvlink is True


# --- all together ---


def test_nvidia_comes_first_and_amd_after(programs: Path) -> None:
    recorded.amd_smi(programs, 2)
    found = find_machine(path_of(programs))
    assert found.machine is not None
    assert found.machine.nodes[0].vendor == "amd"
    assert not found.machine.described
    assert [vendor for vendor, _ in found.problems] == ["nvidia"]
    recorded.nvidia_smi(programs, recorded.query(1))
    found = find_machine(path_of(programs))
    assert found.machine is not None
    assert found.machine.nodes[0].vendor == "nvidia"


def test_no_gpu_says_where_was_looked(programs: Path) -> None:
    found = find_machine(path_of(programs))
    assert found.machine is None
    said = dict(found.problems)
    assert "nvidia-smi is not there" in said["nvidia"]
    assert said["amd"] == "amd-smi is not there; rocm-smi is not there"


@given(st.text(max_size=300))
def test_whatever_a_program_prints_is_no_fault_of_ours(text: str) -> None:
    gpu_rows(text, ("index", "uuid"))
    processes(text)
    nvlinks(text)
    nvlinks(f"\tGPU0\tGPU1\n{text}")
    cuda_version(text)
    amd_smi_cards(text, text, text, text)
    rocm_smi_cards(text, text)


KEYS = (
    *("gpu_data", "gpu", "mem_usage", "total_vram", "value", "unit", "asic", "card0", "links"),
    *("process_list", "process_info", "pid", "system", "vram", "size", "link_type", "driver"),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("N/A"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(json_values, json_values)
def test_whatever_json_of_amd_is_no_fault_of_ours(one: Any, other: Any) -> None:
    first, second = json.dumps(one), json.dumps(other)
    amd_smi_cards(first, second, first, second)
    rocm_smi_cards(first, second)


@pytest.mark.parametrize(
    ("order", "places"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", [1]),
        ("2,0", [2, 0]),
        ("0,7,1", [0]),
        ("0,0", [0]),
        ("GPU-b,GPU-a1", [2, 0]),
        ("GPU-a", []),
    ],
)
def test_visible(order: str | None, places: list[int]) -> None:
    assert visible(order, ["GPU-a1", "GPU-a2", "GPU-b"]) == places
