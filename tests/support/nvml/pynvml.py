"""A stand-in for the package nvidia-ml-py: answers from the JSON file that FAKE_NVML names.

Put its folder on PYTHONPATH. Function names, structures and units are those of nvidia-ml-py 13. A
value that the file leaves out is one that the driver does not support; so is a function.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

NVML_P2P_CAPS_INDEX_NVLINK = 2
NVML_P2P_STATUS_OK = 0
NVML_P2P_STATUS_NOT_SUPPORTED = 5
nvmlMemory_v2 = 0x02000028


class NVMLError(Exception):
    """What every call raises."""


def _machine() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(os.environ["FAKE_NVML"]).read_text())
    return found


def _get(device: dict[str, Any], name: str) -> Any:
    if name not in device:
        raise NVMLError("Not Supported")
    return device[name]


def nvmlInit() -> None:
    if problem := _machine().get("problem"):
        raise NVMLError(problem)


def nvmlShutdown() -> None:
    pass


def nvmlDeviceGetCount() -> int:
    return len(_machine()["devices"])


def nvmlDeviceGetHandleByIndex(index: int) -> dict[str, Any]:
    device: dict[str, Any] = _machine()["devices"][index]
    return {"index": index, **device}


def nvmlDeviceGetUUID(device: dict[str, Any]) -> Any:
    return _get(device, "uuid")


def nvmlDeviceGetName(device: dict[str, Any]) -> Any:
    return _get(device, "name")


def nvmlDeviceGetMemoryInfo(device: dict[str, Any], version: int | None = None) -> Any:
    total, reserved, free = _get(device, "memory")
    used = total - free
    if version is None:
        return SimpleNamespace(total=total, free=free, used=used)
    if reserved is None:
        raise NVMLError("Function Not Found")
    return SimpleNamespace(total=total, reserved=reserved, free=free, used=used - reserved)


def nvmlDeviceGetCudaComputeCapability(device: dict[str, Any]) -> Any:
    return _get(device, "capability")


def nvmlDeviceGetComputeRunningProcesses(device: dict[str, Any]) -> list[Any]:
    rows = _get(device, "processes")
    return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, _, size in rows]


def nvmlDeviceGetGraphicsRunningProcesses(device: dict[str, Any]) -> list[Any]:
    return []


def nvmlSystemGetProcessName(pid: int) -> Any:
    for device in _machine()["devices"]:
        for other, name, _ in device.get("processes", ()):
            if other == pid and name:
                return name
    raise NVMLError("Not Found")


def nvmlDeviceGetP2PStatus(one: dict[str, Any], other: dict[str, Any], index: int) -> int:
    linked = _machine().get("linked")
    if linked is None:
        raise NVMLError("Not Supported")
    pair = sorted((one["index"], other["index"]))
    return NVML_P2P_STATUS_OK if pair in linked else NVML_P2P_STATUS_NOT_SUPPORTED


def nvmlSystemGetDriverVersion() -> Any:
    return _get(_machine(), "driver")


def nvmlSystemGetCudaDriverVersion() -> Any:
    return _get(_machine(), "cuda")


def nvmlDeviceGetMigMode(device: dict[str, Any]) -> Any:
    return [1, 1] if "instances" in device else _get(device, "mig")


def nvmlDeviceGetMaxMigDeviceCount(device: dict[str, Any]) -> int:
    return 7


def nvmlDeviceGetMigDeviceHandleByIndex(device: dict[str, Any], index: int) -> dict[str, Any]:
    instances = device["instances"]
    if index >= len(instances):
        raise NVMLError("Not Found")
    found: dict[str, Any] = instances[index]
    return {"index": device["index"], **found}
