"""A server over several nodes that Ray joins instead of vLLM itself."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from shutil import which

from kimi_cli.serve.facts import Plan
from kimi_cli.serve.running import Trouble
from kimi_cli.serve.wording import count

PATIENCE_SECONDS = 90.0
"""ray itself looks for a cluster that does not answer for most of a minute."""
PORT = 6379
_GPUS = re.compile(r"^\s*(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?) GPU\s*$", re.MULTILINE)
_NODE = re.compile(r"^\s*\d+ node_[0-9a-f]+", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Cluster:
    """What ``ray status`` tells of a cluster: its nodes, its GPUs, those in use."""

    nodes: int
    gpus: int
    used: float


def read_status(out: str) -> Cluster | None:
    """What ``ray status`` prints, read (ray 2.60); None when it is no such report."""
    _, found, rest = out.partition("Node status")
    if not found:
        return None
    active = rest.partition("Pending:")[0]
    gpus = _GPUS.search(rest)
    used, total = (float(gpus[1]), float(gpus[2])) if gpus else (0.0, 0.0)
    return Cluster(len(_NODE.findall(active)), int(total), used)


def check_ray(plan: Plan, env: Mapping[str, str], vllm: str = "") -> Trouble | None:
    """What keeps the plan from running on the Ray cluster that `env` leads to; None when all is
    well. Without this vLLM would wait half an hour for GPUs that never come
    (vllm/v1/executor/ray_utils.py, initialize_ray_cluster). `vllm` is the path of vLLM's program,
    beside which ray's lies. Takes as long as ``ray status``. Never raises."""
    # The ray of vLLM's own environment comes first: another version can't join the cluster.
    beside = str(Path(vllm).resolve().parent) if vllm else None
    ray = (which("ray", path=beside) if beside else None) or which("ray", path=env.get("PATH"))
    if ray is None:
        return Trouble(
            "no-ray",
            "ray is not installed: vLLM does not bring it along",
            "install it into vLLM's environment on every node: pip install ray; "
            "or leave --ray out: vLLM joins nodes by itself",
        )
    try:
        done = subprocess.run(
            [ray, "status"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            env=dict(env),
        )
    except (subprocess.TimeoutExpired, OSError):
        return Trouble("ray", f"ray status gave no answer in {PATIENCE_SECONDS:.0f} s", _start())
    cluster = read_status(done.stdout.decode("utf-8", "replace"))
    if done.returncode or cluster is None:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        return Trouble(
            "no-ray-cluster", "no Ray cluster is running", _start(), lines[-1] if lines else ""
        )
    return _too_small(plan, cluster)


def _start() -> str:
    return (
        f"on the head: ray start --head --port {PORT}; on every other node: "
        f"ray start --address HEAD:{PORT}"
    )


def _too_small(plan: Plan, cluster: Cluster) -> Trouble | None:
    need, free = plan.layout.world, int(cluster.gpus - cluster.used)
    if need <= free:
        return None
    have = f"{count(cluster.gpus, 'GPU')} on {count(cluster.nodes, 'node')}"
    if cluster.gpus < need:
        missing = need - cluster.gpus
        return Trouble(
            "ray-gpus",
            f"the Ray cluster has {have}, the plan needs {need}: {missing} too few",
            f"on every node that is missing: ray start --address HEAD:{PORT}",
        )
    return Trouble(
        "ray-busy",
        f"of the Ray cluster's {have} {free} are free, the plan needs {need}",
        "see with ray status who holds them, and end it",
    )
