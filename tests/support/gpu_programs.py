"""Stand-ins for the programs of GPU drivers, which print what was recorded on real machines.

NVIDIA's are in the form of driver 570 (`nvidia-smi`, `nvidia-smi topo -m`); AMD's in those of ROCm
6.4 to 7.13 as its documentation and reports of users show them.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

MIB = 1 << 20
QUERY_FAILED = 'Field "memory.reserved" is not a valid field to query.\n'
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that "
    "the latest NVIDIA driver is installed and running.\n"
)
HEADING = """\
Fri Mar 14 10:21:43 2025
+-----------------------------------------------------------------------------------------+
| NVIDIA-SMI 570.86.10              Driver Version: 570.86.10      CUDA Version: 12.8     |
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
|=========================================+========================+======================|
|   0  NVIDIA H200                    On  |   00000000:19:00.0 Off |                    0 |
"""
APPS = """\
GPU-00000000-0000-0000-0000-000000000000, 41312, VLLM::Worker_TP0, 88012
GPU-00000000-0000-0000-0000-000000000000, 4242, /opt/conda/bin/python3, 512
GPU-00000000-0000-0000-0000-000000000000, 4243, /home/a/run,all, 100
GPU-00000000-0000-0000-0000-000000000003, 977, [Not Found], [N/A]
"""
SLI_PAIRS = """\
\t\x1b[4mGPU0\tGPU1\tGPU2\tGPU3\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID\x1b[0m
GPU0\t X \tNV4\tSYS\tSYS\t0-23,48-71\t0\t\tN/A
GPU1\tNV4\t X \tSYS\tSYS\t0-23,48-71\t0\t\tN/A
GPU2\tSYS\tSYS\t X \tNV4\t24-47,72-95\t1\t\tN/A
GPU3\tSYS\tSYS\tNV4\t X \t24-47,72-95\t1\t\tN/A

Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes
  NV#  = Connection traversing a bonded set of # NVLinks
"""
PCIE_ONLY = """\
\tGPU0\tGPU1\tNIC0\tNIC1\tCPU Affinity\tNUMA Affinity\tGPU NUMA ID
GPU0\t X \tSYS\tSYS\tSYS\t0-55,112-167\t0\t\tN/A
GPU1\tSYS\t X \tPHB\tPHB\t0-55,112-167\t0\t\tN/A
NIC0\tSYS\tPHB\t X \tPIX
NIC1\tSYS\tPHB\tPIX\t X
"""


def program(folder: Path, name: str, answers: Mapping[str, str | tuple[int, str]]) -> None:
    """Put a program into a folder for PATH. The first key of `answers` that is in its arguments
    chooses what it prints, and the exit code it ends with when that isn't 0. What fits none fails
    as an unknown argument does."""
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for words, answer in answers.items():
        code, out = (0, answer) if isinstance(answer, str) else answer
        cases.append(f"*{shlex.quote(words)}*) printf %s {shlex.quote(out)}; exit {code};;")
    body = "\n".join([*cases, '*) echo "what is $*?" >&2; exit 2;;'])
    path = folder / name
    path.write_text(f'#!/bin/sh\ncase " $* " in\n{body}\nesac\n')
    path.chmod(0o755)


def uuid(index: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{index:012d}"


def query(
    count: int,
    name: str = "NVIDIA H200",
    *,
    total: str = "143771",
    reserved: str = "617",
    used: Sequence[int] = (),
    capability: str = "9.0",
    mig: str = "Disabled",
) -> str:
    """What ``--query-gpu`` prints for the nine fields that are asked for."""
    lines = []
    for index in range(count):
        busy = used[index] if index < len(used) else 0
        free = str(int(total) - int(reserved) - busy) if total.isdecimal() else total
        fields = (
            str(index),
            uuid(index),
            name,
            total,
            reserved,
            free,
            capability,
            "570.86.10",
            mig,
        )
        lines.append(", ".join(fields))
    return "\n".join(lines) + "\n"


def matrix(count: int, link: str) -> str:
    """What ``topo -m`` prints for GPUs that are all joined alike."""
    names = [f"GPU{index}" for index in range(count)]
    lines = ["\t" + "\t".join([*names, "NIC0", "CPU Affinity", "NUMA Affinity", "GPU NUMA ID"])]
    for row in range(count):
        cells = [" X " if row == column else link for column in range(count)]
        lines.append("\t".join([names[row], *cells, "PIX", "0-55,112-167", "0", "", "N/A"]))
    lines.append("\t".join(["NIC0", *["PIX"] * count, " X "]))
    return (
        "\n".join(lines) + "\n\nLegend:\n\n  X    = Self\n  NV#  = Connection traversing NVLinks\n"
    )


def nvidia_smi(
    folder: Path, gpus: str, *, topology: str = "", apps: str = "", heading: str = HEADING
) -> None:
    """An nvidia-smi on PATH."""
    answers: dict[str, str | tuple[int, str]] = {
        "--query-gpu=": gpus,
        "--query-compute-apps=": apps,
        "topo -m": topology,
        "  ": heading,
    }
    program(folder, "nvidia-smi", answers)


def amd_smi(folder: Path, count: int, *, wrapped: bool = True, used: int = 284) -> None:
    """An amd-smi on PATH, for MI300X; `wrapped` as from ROCm 6.4 on."""
    static = [
        {
            "gpu": index,
            "asic": {
                "market_name": "AMD Instinct MI300X",
                "vendor_id": "0x1002",
                "device_id": "0x74a1",
                "num_compute_units": 304,
                "target_graphics_version": "gfx942",
            },
            "driver": {"name": "amdgpu", "version": "6.12.12"},
            "vram": {
                "type": "HBM3",
                "vendor": "N/A",
                "size": {"value": 196592, "unit": "MB"},
                "bit_width": 8192,
            },
        }
        for index in range(count)
    ]
    metric = [
        {
            "gpu": index,
            "mem_usage": {
                "total_vram": {"value": 196592, "unit": "MB"},
                "used_vram": {"value": used if index else 65536, "unit": "MB"},
                "free_vram": {"value": 196592 - (used if index else 65536), "unit": "MB"},
                "total_visible_vram": {"value": 196592, "unit": "MB"},
            },
        }
        for index in range(count)
    ]
    process: list[dict[str, Any]] = [
        {"gpu": index, "process_list": [{"process_info": "No running processes detected"}]}
        for index in range(count)
    ]
    process[0]["process_list"] = [
        {
            "process_info": {
                "name": "/usr/bin/python3.12",
                "pid": 2168274,
                "memory_usage": {
                    "gtt_mem": {"value": 6180000, "unit": "B"},
                    "cpu_mem": {"value": 0, "unit": "B"},
                    "vram_mem": {"value": 65000 * MIB, "unit": "B"},
                },
                "mem_usage": {"value": 65001 * MIB, "unit": "B"},
                "usage": {"gfx": {"value": 0, "unit": "ns"}, "enc": {"value": 0, "unit": "ns"}},
                "cu_occupancy": "N/A",
            }
        }
    ]
    if not wrapped:
        # As from before the memory of GPU and host were told apart.
        del process[0]["process_list"][0]["process_info"]["memory_usage"]
    topology = [
        {
            "gpu": row,
            "bdf": f"0000:{row:02x}:00.0",
            "links": [
                {
                    "gpu": column,
                    "bdf": f"0000:{column:02x}:00.0",
                    "weight": 0 if row == column else 15,
                    "link_status": "ENABLED",
                    "link_type": "SELF" if row == column else "XGMI",
                    "num_hops": 0 if row == column else 1,
                    "bandwidth": "N/A" if row == column else "50000-100000",
                }
                for column in range(count)
            ],
        }
        for row in range(count)
    ]

    def shown(rows: object) -> str:
        return json.dumps({"gpu_data": rows} if wrapped else rows, indent=4) + "\n"

    answers: dict[str, str | tuple[int, str]] = {
        " static ": shown(static),
        " metric ": shown(metric),
        " process ": json.dumps(process, indent=4),
        " topology ": json.dumps(topology, indent=4),
    }
    program(folder, "amd-smi", answers)


ROCM_SMI = {
    "card0": {
        "GPU use (%)": "0",
        "VRAM Total Memory (B)": "21458059264",
        "VRAM Total Used Memory (B)": "27856896",
        "Card Series": "Radeon RX 7900 XT",
        "Card Model": "0x744c",
        "Card Vendor": "Advanced Micro Devices, Inc. [AMD/ATI]",
        "Card SKU": "D70401XT",
        "Subsystem ID": "0x471e",
        "Node ID": "1",
        "GUID": "26967",
        "GFX Version": "gfx1100",
    },
    "system": {"Driver version": "6.12.12"},
}
ROCM_SMI_OLD = {
    "card1": {
        "VRAM Total Memory (B)": "68702699520",
        "VRAM Total Used Memory (B)": "10747904",
        "Card series": "AMD INSTINCT MI200 (MCM) OAM LC MBA HPE C2",
        "Card model": "FirePro W4300",
    },
    "card0": {
        "VRAM Total Memory (B)": "68702699520",
        "VRAM Total Used Memory (B)": "0",
        "Card series": "N/A",
        "Card model": "0x0b0c",
    },
}
ROCM_TOPOLOGY = {"system": {"(Topology) Link type between DRM devices 0 and 1": "XGMI"}}


def rocm_smi(folder: Path, cards: object, topology: object = ()) -> None:
    """A rocm-smi on PATH, which warns before it answers."""
    answers: dict[str, str | tuple[int, str]] = {
        "--showtopotype": json.dumps(topology) if topology else "WARNING: No JSON data to report\n",
        "--showmeminfo vram": "WARNING: AMD GPU device(s) is/are in a low-power state\n"
        + json.dumps(cards),
    }
    program(folder, "rocm-smi", answers)
